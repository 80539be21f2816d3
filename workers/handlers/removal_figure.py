"""The figure `removal`: samples of a model under several prunes, drawn as a table of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import tailprune
from jobs.records import Job
from jobs.requests.figure import FigureRequest
from jobs.requests.prune_sample import PruneSampleRequest, ResolvedPruneSample
from jobs.settings import Settings
from tailprune.figures.removal import ImageRow, choose_thresholds, draw_removal
from tailprune.figures.subject import picked
from tailprune.spec.prune import Side
from tailprune.systems import System
from workers.context import Stores
from workers.lease import Run
from workers.model_pool import Models, Source
from workers.outputs.variant import SampleLabels
from workers.sampling.chunks import chunks_of, finite
from workers.sampling.inputs import Vectors
from workers.sampling.plan import Plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["removal_figure"]

MOST_COLUMNS = 16
MOST_TIMES = 16
"""At so many of the steps of sampling, evenly spread, are the model's own magnitudes looked at."""


def removal_figure(
    job: Job, request: FigureRequest, source: Source, models: Models, stores: Stores, settings: Settings, run: Run
) -> tuple[Figure, int]:
    """The figure of a resolved request, and how many samples were made for it.

    `run` hears of every step of sampling, and may raise to stop it.
    """
    system, decode = models.systems.get(source), models.decoders.get(source)
    vectors = Vectors.of(source, system, request.conditions, stores.conditions)
    side: Side = request.side or "tail"
    population = _population(vectors, source)
    thresholds = request.thresholds or choose_thresholds(population, side)
    plan = Plan.of(_sampled(request, side, thresholds, source, stores, settings), settings.batch_size)
    images: list[list[NDArray[np.uint8]]] = [[] for _ in plan.variants]
    shows = "image"
    for _, make in chunks_of(system, [plan], vectors.subjects, stores.shards, job.key, run.step):
        for made, latents in zip(images, finite(make()[0]), strict=True):
            decoded = decode(latents)
            shows = decoded.shows
            made.append(decoded.images.numpy())
            run.check()
    caption = SampleLabels.of(source.entry)
    rows = [ImageRow("baseline", "nothing removed", np.concatenate(images[0]))]
    for threshold, made in zip(thresholds, images[1:], strict=True):
        rows.append(ImageRow(_rule(side, threshold), _removed(side, threshold, population), np.concatenate(made)))
    asked = plan.request
    what = {"image": "samples", "latents": "latents of samples", "spectrogram": "spectrograms of samples"}[shows]
    chosen = "" if request.thresholds else "The thresholds are quantiles of the model's own |c|. "
    figure = draw_removal(
        rows,
        columns=[caption.above(sample) for sample in plan.samples],
        title=f"{what.capitalize()} with the {side} of c removed",
        subtitle=f"{request.model}, {asked.sampler}, {plan.steps} steps, guidance {plan.guidance.scale:g}, "
        "pruned at every step",
        text=f"{chosen}Removed: the share of components\nover the {_everyone(vectors)} and the steps of sampling. "
        f"A column is one noise, seed {asked.seed}.",
    )
    return figure, len(plan.samples) * len(plan.variants)


def _sampled(
    request: FigureRequest, side: Side, thresholds: list[float], source: Source, stores: Stores, settings: Settings
) -> ResolvedPruneSample:
    """What is sampled: one of each label or condition, as the model's authors do, pruned and not."""
    entry, seed = source.entry, request.seed or 0
    body: dict[str, Any] = {"threshold": thresholds, "side": side, "samples_per_label": 1, "seed": seed}
    if request.conditions is not None:
        known = stores.conditions.get(request.conditions)
        rows = picked(known.count, min(request.classes or MOST_COLUMNS, known.count), seed)
        asked = PruneSampleRequest(model=entry.name, conditions=request.conditions, rows=rows, **body)
        return asked.resolve(entry, settings, known)
    if request.classes is None:
        labels = (entry.defaults.labels or [0])[:MOST_COLUMNS]
    else:
        labels = picked(entry.classes or 1, request.classes, seed)
    return PruneSampleRequest(model=entry.name, labels=labels, **body).resolve(entry, settings)


def _population(vectors: Vectors, source: Source) -> Tensor:
    """c of all classes or conditions over the run of the model's own sampler, with shape (times, N, d)."""
    defaults, system = source.entry.defaults, vectors.condition
    assert isinstance(system, System), "samples are of a whole system"
    times = tailprune.sampling_times(system, defaults.sampler, defaults.steps, defaults.timestep_shift)[:, 0]
    spread = torch.linspace(0, len(times) - 1, min(MOST_TIMES, len(times))).round().long()
    device = next(system.parameters()).device
    parts = system.embed_inputs({name: tensor.to(device) for name, tensor in vectors.inputs().items()})
    return system.embed_time(times[spread].float().to(device)).unsqueeze(1) + parts


def _rule(side: Side, threshold: float) -> str:
    return f"|c| {'<' if side == 'tail' else '>'} {threshold:g}"


def _removed(side: Side, threshold: float, population: Tensor) -> str:
    magnitudes = population.abs()
    gone = magnitudes < threshold if side == "tail" else magnitudes > threshold
    return f"{gone.double().mean().item():.1%} removed"


def _everyone(vectors: Vectors) -> str:
    return "classes" if vectors.subjects.features is None else "conditions"
