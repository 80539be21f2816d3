"""A compacted model beside the whole one: samples of both from the same noise, and how far apart they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from jobs.registry.models import ModelEntry
from jobs.requests.compact import CompactRequest
from jobs.requests.sampled import SampledRequest, sampling_of
from jobs.results import Change, Compared
from tailprune import System
from tailprune.decoders import Decoder
from tailprune.image_grid import Images, grid
from workers.lease import Run
from workers.outputs.drift import DriftMeasure
from workers.outputs.media import enlarge, png
from workers.outputs.variant import SampleLabels
from workers.sampling.chunks import sample_plan
from workers.sampling.inputs import SampleInputs
from workers.sampling.plan import Plan, PlannedVariant, Sample

__all__ = ["compare", "comparison_plan"]

MOST_SAMPLES = 8
"""How many labels or conditions are sampled at most, once each."""
MEGABYTE = 1e6


def comparison_plan(
    request: CompactRequest, entry: ModelEntry, covered: Sequence[int], unguided: bool, rows_at_once: int
) -> Plan:
    """Plan the samples to compare: some that are covered, at the covered times, else with the model's defaults.

    request: the resolved request.
    entry: the whole model.
    covered: all labels or rows that are covered; the model's default labels are sampled first.
    unguided: whether guided sampling is not covered.
    rows_at_once: how many samples one call of the network may take.
    """
    preferred = [label for label in entry.defaults.labels or [] if label in covered] or covered
    subjects = list(preferred[:MOST_SAMPLES])
    by_label = request.conditions is None
    sampled = SampledRequest(
        model=entry.name,
        labels=[*subjects] if by_label else None,
        conditions=request.conditions,
        rows=None if by_label else subjects,
        samples_per_label=1,
        sampler=request.sampler,
        steps=request.steps,
        timestep_shift=request.timestep_shift,
        guidance_scale=1.0 if unguided else None,
    )
    sampled = sampled.model_copy(update=sampling_of(sampled, entry, None))
    return Plan(sampled, [PlannedVariant("sample")], [Sample(subject, 0) for subject in subjects], rows_at_once)


def compare(
    systems: tuple[System, System],
    plan: Plan,
    inputs: SampleInputs,
    decode: Decoder,
    entry: ModelEntry,
    sizes: Change,
    run: Run,
) -> tuple[Compared, bytes]:
    """Sample both systems; return how far apart their samples are, and a PNG with a row of each.

    systems: the whole one, and the compacted one.
    plan: from `comparison_plan`.
    inputs: the labels or conditions of the request.
    decode: the model's decoder.
    entry: the whole model.
    sizes: of both checkpoints in bytes, for the names of the rows.
    run: called at every step of sampling; may raise to stop it.
    """
    drift = DriftMeasure()
    tiles: list[list[Images]] = [[], []]
    for place, chunk in enumerate(plan.chunks):
        run.phase = "sampling"
        latents = [
            sample_plan(system, plan, chunk, inputs, _on_step(run, 2 * place + second, 2 * len(plan.chunks)))[0]
            for second, system in enumerate(systems)
        ]
        run.phase = "decoding"
        decoded = [decode(of_system) for of_system in latents]
        run.check()
        drift.add(latents[1], latents[0], decoded[1], decoded[0])
        for row, of_system in zip(tiles, decoded, strict=True):
            row.append(enlarge(of_system.images.numpy(), entry.display_scale))
    request = plan.request
    compared = Compared(
        drift=drift.drift(),
        samples=len(plan.samples),
        sampler=str(request.sampler),
        steps=plan.steps,
        guidance_scale=plan.guidance.scale,
    )
    return compared, _picture([np.concatenate(row) for row in tiles], plan.samples, SampleLabels.of(entry), sizes)


def _on_step(run: Run, part: int, parts: int) -> Callable[[int, int], None]:
    """The callback that reports to `run` the steps of one of several parts, sampled one after another."""

    def on_step(done: int, total: int) -> None:
        run.step(part * total + done, parts * total, "steps")

    return on_step


def _picture(rows: Sequence[Images], samples: Sequence[Sample], labels: SampleLabels, sizes: Change) -> bytes:
    names = [f"whole, {sizes.before / MEGABYTE:.1f} MB", f"compacted, {sizes.after / MEGABYTE:.1f} MB"]
    return png(grid(rows, names, [labels.heading(sample) for sample in samples]))
