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
from workers.lease import Run
from workers.outputs.drift import DriftMeasure
from workers.outputs.images import Images, enlarge, grid, png
from workers.outputs.variant import SampleLabels
from workers.sampling.chunks import sample_plan
from workers.sampling.inputs import SampleInputs
from workers.sampling.plan import Plan, PlannedVariant, Sample

__all__ = ["compare", "comparison_plan"]

MOST_SAMPLES = 8
"""So many labels or conditions are sampled, once each."""
MEGABYTE = 1e6


def comparison_plan(
    request: CompactRequest, entry: ModelEntry, covered: Sequence[int], unguided: bool, rows_at_once: int
) -> Plan:
    """What is sampled of a resolved request: some of what is covered, at the times that are, else as the model does.

    covered: all labels or rows that are; those that the model samples unless said go first. rows_at_once: as of
    `Plan.of`.
    """
    shown = [label for label in entry.defaults.labels or [] if label in covered] or covered
    subjects = list(shown[:MOST_SAMPLES])
    by_label = request.conditions is None
    asked = SampledRequest(
        model=entry.name,
        labels=subjects if by_label else None,
        conditions=request.conditions,
        rows=None if by_label else subjects,
        samples_per_label=1,
        sampler=request.sampler,
        steps=request.steps,
        timestep_shift=request.timestep_shift,
        guidance_scale=1.0 if unguided else None,
    )
    asked = asked.model_copy(update=sampling_of(asked, entry, None))
    return Plan(asked, [PlannedVariant("sample")], [Sample(subject, 0) for subject in subjects], rows_at_once)


def compare(
    systems: tuple[System, System],
    plan: Plan,
    of: SampleInputs,
    decode: Decoder,
    entry: ModelEntry,
    sizes: Change,
    run: Run,
) -> tuple[Compared, bytes]:
    """How far the samples of the second system are from the first one's, and a PNG with a row of each.

    `run` hears of every step of sampling, and may raise to stop it.
    """
    drift = DriftMeasure()
    tiles: list[list[Images]] = [[], []]
    for place, chunk in enumerate(plan.chunks):
        made = [
            sample_plan(system, plan, chunk, of, _teller(run, 2 * place + second, 2 * len(plan.chunks)))[0]
            for second, system in enumerate(systems)
        ]
        decoded = [decode(latents) for latents in made]
        run.check()
        drift.add(made[1], made[0], decoded[1], decoded[0])
        for row, one in zip(tiles, decoded, strict=True):
            row.append(enlarge(one.images.numpy(), entry.display_scale))
    request = plan.request
    compared = Compared(
        drift=drift.drift(),
        samples=len(plan.samples),
        sampler=str(request.sampler),
        steps=plan.steps,
        guidance_scale=plan.guidance.scale,
    )
    return compared, _picture([np.concatenate(row) for row in tiles], plan.samples, SampleLabels.of(entry), sizes)


def _teller(run: Run, part: int, parts: int) -> Callable[[int, int], None]:
    """Tells `run` of the steps of one of several parts that are sampled one after another."""

    def on_step(done: int, total: int) -> None:
        run.step(part * total + done, parts * total, "steps")

    return on_step


def _picture(rows: Sequence[Images], samples: Sequence[Sample], caption: SampleLabels, sizes: Change) -> bytes:
    names = [f"whole, {sizes.before / MEGABYTE:.1f} MB", f"compacted, {sizes.after / MEGABYTE:.1f} MB"]
    return png(grid(rows, names, [caption.above(sample) for sample in samples]))
