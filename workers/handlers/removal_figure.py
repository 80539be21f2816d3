"""The figure `removal`: samples of a model under several prunes, drawn as a table of images."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

import tailprune
from jobs.figure_results import RemovalNumbers
from jobs.requests.figure import FigureRequest
from jobs.requests.prune_sample import PruneSampleRequest
from tailprune.condition_table import sums_in_pieces
from tailprune.figures.labelled_vectors import picked
from tailprune.figures.removal import ImageRow, choose_thresholds, draw_removal
from tailprune.magnitudes import Magnitudes
from tailprune.spec.prune import Side
from tailprune.systems import System
from workers.handler import Context
from workers.lease import Run
from workers.model_pool import Source
from workers.outputs.drift import LatentDrift
from workers.outputs.variant import SampleLabels
from workers.sampling.chunks import check_finite, split_into_chunks
from workers.sampling.inputs import Vectors
from workers.sampling.plan import Plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["removal_figure"]

MOST_COLUMNS = 16
MOST_TIMES = 16
"""At how many of the sampling steps, evenly spaced, the magnitudes of the model's vectors are taken."""


def removal_figure(
    run: Run, request: FigureRequest, source: Source, context: Context
) -> tuple[Figure, RemovalNumbers, int]:
    """Draw the figure of a resolved request; return also its numbers, and how many samples were made for it.

    run: called at every step of sampling; may raise to stop it.
    request: with the side, thresholds and classes.
    source: the model.
    context: with the models and the conditions.
    """
    run.phase = "loading"
    system, decode = context.models.systems.get(source), context.models.decoders.get(source)
    vectors = Vectors.load(source, system, request.conditions, context.conditions)
    side: Side = request.side or "tail"
    run.phase = "measuring"
    magnitudes = _magnitudes(vectors, source)
    thresholds = request.thresholds or choose_thresholds(magnitudes, side)
    plan = Plan.of(_sampling_request(request, side, thresholds, source, context), context.settings.batch_size)
    images: list[list[NDArray[np.uint8]]] = [[] for _ in plan.variants]
    drifts = [LatentDrift() for _ in thresholds]
    shows = "image"
    for chunk in split_into_chunks(system, [plan], vectors.samples, context.shards, run.job.key, run.step):
        run.phase = "sampling"
        sampled = check_finite(chunk.latents()[0])
        for drift, pruned in zip(drifts, sampled[1:], strict=True):
            drift.add(pruned, sampled[0])
        run.phase = "decoding"
        for images_of_variant, latents in zip(images, sampled, strict=True):
            decoded = decode(latents)
            shows = decoded.shows
            images_of_variant.append(decoded.images.numpy())
            run.check()
    run.phase = "drawing"
    labels = SampleLabels.of(source.entry)
    rows = [ImageRow("baseline", "nothing removed", np.concatenate(images[0]))]
    removed = [magnitudes.fraction(tailprune.Prune(side, threshold).removed) for threshold in thresholds]
    for threshold, share, parts in zip(thresholds, removed, images[1:], strict=True):
        rows.append(ImageRow(_rule(side, threshold), f"{100 * share:.1f} % removed", np.concatenate(parts)))
    what = {"image": "samples", "latents": "latents of samples", "spectrogram": "spectrograms of samples"}[shows]
    chosen = "" if request.thresholds else "The thresholds are quantiles of the model's own |c|. "
    figure = draw_removal(
        rows,
        columns=[labels.heading(sample) for sample in plan.samples],
        title=f"{what.capitalize()} with the {side} of c removed",
        subtitle=f"{request.model}, {plan.request.sampler}, {plan.steps} steps, guidance {plan.guidance.scale:g}, "
        "pruned at every step",
        text=f"{chosen}Removed: the share of components\n"
        f"over the {_population_name(vectors)} and the steps of sampling. "
        f"A column is one noise, seed {plan.request.seed}.",
    )
    numbers = RemovalNumbers(
        thresholds=thresholds,
        names=[variant.name for variant in plan.variants[1:]],
        removed=removed,
        drift=[drift.value for drift in drifts],
    )
    return figure, numbers, len(plan.samples) * len(plan.variants)


def _sampling_request(
    request: FigureRequest, side: Side, thresholds: list[float], source: Source, context: Context
) -> PruneSampleRequest:
    """The request for the samples: one of each label or condition under each threshold, by the model's defaults."""
    entry, seed = source.entry, request.seed or 0
    body: dict[str, Any] = {"threshold": thresholds, "side": side, "samples_per_label": 1, "seed": seed}
    if request.conditions is not None:
        conditions = context.conditions.get(request.conditions)
        rows = picked(conditions.count, min(request.classes or MOST_COLUMNS, conditions.count), seed)
        sampled = PruneSampleRequest(model=entry.name, conditions=request.conditions, rows=rows, **body)
        return sampled.resolve(entry, context.settings, conditions)
    if request.classes is None:
        labels = (entry.defaults.labels or [0])[:MOST_COLUMNS]
    else:
        labels = picked(entry.classes or 1, request.classes, seed)
    return PruneSampleRequest(model=entry.name, labels=[*labels], **body).resolve(entry, context.settings)


def _magnitudes(vectors: Vectors, source: Source) -> Magnitudes:
    """|c| of all classes or conditions at steps of the model's default sampler."""
    defaults, system = source.entry.defaults, vectors.condition
    assert isinstance(system, System), "samples need the whole system"
    times = tailprune.sampling_times(system, defaults.sampler, defaults.steps, defaults.timestep_shift)[:, 0]
    evenly_spaced = torch.linspace(0, len(times) - 1, min(MOST_TIMES, len(times))).round().long()
    device = next(system.parameters()).device
    inputs = system.embed_inputs({name: tensor.to(device) for name, tensor in vectors.inputs().items()})
    return Magnitudes(partial(sums_in_pieces, system.embed_time(times[evenly_spaced].float().to(device)), inputs))


def _rule(side: Side, threshold: float) -> str:
    return f"|c| {'<' if side == 'tail' else '>'} {threshold:g}"


def _population_name(vectors: Vectors) -> str:
    return "classes" if vectors.samples.features is None else "conditions"
