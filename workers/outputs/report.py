"""What a result holds besides samples: what each prune removes, and the engine that computed it."""

from __future__ import annotations

import platform

import torch

import tailprune
from jobs.results import Embedding, Engine, Removed
from tailprune.checkpoints.load import NoModulations
from tailprune.modulation import ModulationChange, measure_modulation
from tailprune.prune_report import Removal
from tailprune.systems import Condition, System
from tailprune.systems.speed import bfloat16_speed, forms_in_use
from workers.lease import Interruptible
from workers.model_pool import ModelPool, Source
from workers.sampling.inputs import SampleInputs
from workers.sampling.plan import Plan

__all__ = ["device_name", "engine_of", "modulation_of", "removal_of"]

SUBJECTS_AT_ONCE = 128
"""How many labels or conditions are measured in one call, at all steps."""


def removal_of(
    condition: Condition, plan: Plan, inputs: SampleInputs, prune: tailprune.Prune, family: type[System] | None = None
) -> tuple[Removed, Embedding]:
    """Measure what a prune removes from the vectors of the request's labels or conditions, over all steps.

    condition: the model, or its condition alone.
    plan: how the request is sampled.
    inputs: its labels or conditions.
    prune: the prune to measure, of a plan `over_run`.
    family: the class of the model; by default that of a whole one.
    """
    subjects = plan.request.subjects
    kind = family or type(condition)
    assert issubclass(kind, System), "of a condition alone the family is given"
    times = plan.times(kind)
    parts = [
        (
            len(group),
            tailprune.measure_removal(
                condition,
                plan.inputs_for(condition, inputs, group),
                prune,
                times,
                inputs.population,
                plan.guidance.modulation,
            ),
        )
        for group in (subjects[at : at + SUBJECTS_AT_ONCE] for at in range(0, len(subjects), SUBJECTS_AT_ONCE))
    ]
    whole = parts[0][1] if len(parts) == 1 else _at_first_edit(condition, plan, inputs, prune, times, parts[0][1])
    removed = Removed(
        mean=sum(count * part.mean for count, part in parts) / len(subjects),
        min=min(part.min for _, part in parts),
        max=max(part.max for _, part in parts),
        fraction=sum(count * part.fraction for count, part in parts) / len(subjects),
        by_step=[
            sum(count * step for (count, _), step in zip(parts, steps, strict=True)) / len(subjects)
            for steps in zip(*(part.by_step for _, part in parts), strict=True)
        ],
        threshold=whole.threshold,
    )
    embedding = Embedding(
        npr_before=whole.before.npr,
        npr_after=whole.after.npr,
        cosine_before=whole.before.cosine,
        cosine_after=whole.after.cosine,
    )
    return removed, embedding


def modulation_of(
    condition: Condition,
    plan: Plan,
    inputs: SampleInputs,
    source: Source,
    models: ModelPool,
    run: Interruptible,
    family: type[System],
) -> list[ModulationChange] | None:
    """Measure what the prunes of a plan `over_run` change in the modulations; None for a file of the condition alone.

    condition: of the model.
    plan, inputs: how the request is sampled, and its labels or conditions.
    source, models: the model, and where its metric is.
    run: the job; stops it.
    family: the class of the model.
    """
    try:
        metric = models.metrics.get(source)
    except NoModulations:
        return None
    return measure_modulation(
        condition,
        plan.inputs_for(condition, inputs, plan.request.subjects),
        [variant.prune for variant in plan.variants if isinstance(variant.prune, tailprune.Prune)],
        plan.times(family),
        inputs.population,
        plan.guidance.modulation,
        metric=metric,
        on_step=lambda *_: run.check(),
    )


def _at_first_edit(
    condition: Condition, plan: Plan, inputs: SampleInputs, prune: tailprune.Prune, times: torch.Tensor, part: Removal
) -> Removal:
    """The removal of all vectors together, at the first edited step alone."""
    first = part.measured_at_step
    all_inputs = plan.inputs_for(condition, inputs, plan.request.subjects)
    edit, one_step = prune.at(first, len(times)), times[first : first + 1]
    assert edit is not None, "this is a pruned step"
    modulation = plan.guidance.modulation
    return tailprune.measure_removal(condition, all_inputs, edit, one_step, inputs.population, modulation)


def device_name(device: torch.device) -> str:
    """The name of a GPU, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def engine_of(device: torch.device, system: System, dtype_drift: float | None) -> Engine:
    """The engine of a result: device, precision, its drift and its speed, the forms of layers, and versions."""
    narrow = system.precision == torch.bfloat16
    return Engine(
        device=device_name(device),
        dtype=str(system.precision).removeprefix("torch."),
        dtype_drift=dtype_drift,
        bfloat16_speed=bfloat16_speed(system) if narrow else None,
        kernels=forms_in_use(system),
        versions={
            "tailprune": tailprune.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    )
