"""Checks of requests against their model and the limits, each written once for all kinds of requests.

A check whose name ends in `_fault` returns a message, or None if nothing is wrong; one that ends in `_faults` returns a
list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobs.problems import Fault
from jobs.requests.fields import Part
from jobs.requests.labels import label_faults
from tailprune.spec.prune import FINAL, Schedule

if TYPE_CHECKING:
    from jobs.registry.models import ModelEntry
    from jobs.settings import Settings
    from jobs.storage.condition_info import ConditionInfo

__all__ = [
    "SHIFTED", "block_faults", "body_fault", "by_step_fault", "conditions_fault", "guidance_fault",
    "interval_faults", "keep_fault", "population_fault", "sampler_fault", "schedule_faults", "shift_fault",
    "single_fault", "steps_fault", "subject_faults", "time_of", "times_faults", "unprunable_fault",
]  # fmt: skip

SHIFTED = ("euler", "heun")
"""The samplers whose times can be shifted."""


def body_fault(location: str, message: str) -> Fault:
    """A fault of a field of the body."""
    return Fault(location=f"body.{location}", message=message)


# What is sampled or measured


def subject_faults(
    labels: Sequence[int | str] | None, rows: Sequence[int] | None, entry: ModelEntry, conditions: ConditionInfo | None
) -> list[Fault]:
    """What is wrong with the labels, conditions and rows of a request, before defaults are filled in.

    labels, rows: as the request has them.
    entry: the model.
    conditions: the description of the conditions that the request names; None if it names none.
    """
    faults: list[Fault] = []

    def wrong(location: str, message: str) -> None:
        faults.append(body_fault(location, message))

    if fault := conditions_fault(entry, conditions):
        wrong("conditions", fault)
    if entry.facts.features and labels is not None:
        wrong("labels", f"{entry.name} has no classes, but takes conditions of {_features(entry)}; leave labels out")
    elif labels is not None:
        for place, fault in label_faults(labels, entry):
            wrong(f"labels.{place}", fault)
    if not entry.facts.features and rows is not None:
        wrong("rows", f"rows select conditions, but {entry.name} takes labels; leave rows out")
    elif conditions is not None:
        for place, row in enumerate(rows or []):
            if row >= conditions.count:
                wrong(f"rows.{place}", f"row {row} is outside 0 to {conditions.count - 1}, the rows of the conditions")
    return faults


def population_fault(part: Part, entry: ModelEntry, conditions: ConditionInfo | None) -> str | None:
    """What is wrong with measuring a part over these conditions, or None."""
    if part == "t":
        return "part 't' is measured without conditions; leave them out" if conditions is not None else None
    return conditions_fault(entry, conditions)


def time_of(part: Part, timestep: float | None, entry: ModelEntry) -> tuple[float | None, str | None]:
    """The time at which a part is measured, by default where sampling starts; and what is wrong with it, or None."""
    if part != "c":
        if timestep is None:
            return None, None
        return None, f"part {part!r} is measured without a timestep; leave it out, or ask for part 'c'"
    time = entry.facts.noise_time if timestep is None else timestep
    return time, entry.facts.check_time(time)


def conditions_fault(entry: ModelEntry, conditions: ConditionInfo | None) -> str | None:
    """What is wrong with giving a model these conditions, or none; None if nothing is."""
    if not entry.facts.features:
        return None if conditions is None else f"{entry.name} takes labels, not conditions; leave conditions out"
    if conditions is None:
        return (
            f"{entry.name} takes conditions of {_features(entry)}: upload them with POST /conditions, and give the id "
            "that it returns"
        )
    if conditions.family != entry.family:
        has = ", ".join(conditions.inputs)
        return f"these are conditions of {has}, but {entry.name} takes {_features(entry)}"
    return None


def _features(entry: ModelEntry) -> str:
    """The arrays that a model is conditioned on, with their shapes: `pose 257 x 768, image 257 x 1536`."""
    return ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in entry.facts.features.items())


# How it is sampled


def guidance_fault(scale: float | None, entry: ModelEntry) -> str | None:
    """What is wrong with guiding a model at this scale, or None."""
    if scale in (None, 1) or entry.null_condition or entry.facts.takes_guidance:
        return None
    return (
        f"guidance_scale {scale:g} needs a null condition, and {entry.name} has none, since it was trained without "
        "dropping labels; leave it out, or give 1"
    )


def sampler_fault(sampler: str | None, entry: ModelEntry) -> str | None:
    """What is wrong with sampling a model with this sampler, or None."""
    if sampler in entry.facts.samplers:
        return None
    has = ", ".join(entry.facts.samplers)
    return f"sampler {sampler!r} does not fit {entry.name}; use one of {has}"


def shift_fault(shift: float | None, sampler: str | None) -> str | None:
    """What is wrong with a timestep shift under this sampler, or None."""
    if shift is None or sampler in SHIFTED:
        return None
    return f"timestep_shift applies only to the samplers {' and '.join(map(repr, SHIFTED))}; leave it out"


def steps_fault(steps: int | None, settings: Settings) -> str | None:
    """What is wrong with this number of sampling steps, or None."""
    if (steps or 0) <= settings.max_steps:
        return None
    return f"{steps} steps is more than the {settings.max_steps} allowed"


def interval_faults(interval: Sequence[float] | None, entry: ModelEntry) -> list[tuple[str, str]]:
    """What is wrong with guiding a model only between two times, as pairs of location and message."""
    if interval is None:
        return []
    low, high = interval
    faults = []
    if low >= high:
        faults.append(("guidance_interval", f"the interval {low:g} to {high:g} is empty; give the lower time first"))
    return faults + times_faults("guidance_interval", interval, entry)


def times_faults(location: str, times: Sequence[float], entry: ModelEntry) -> list[tuple[str, str]]:
    """Which of these times a model does not have, as pairs of location and message."""
    checked = ((place, entry.facts.check_time(time)) for place, time in enumerate(times))
    return [(f"{location}.{place}", fault) for place, fault in checked if fault]


# How it is pruned


def keep_fault(count: int, entry: ModelEntry) -> str | None:
    """What is wrong with keeping this number of components of a model, or None."""
    if count <= entry.condition_dim:
        return None
    return f"keep {count} is more than the {entry.condition_dim} components of {entry.name}"


def block_faults(blocks: Sequence[int | str] | None, entry: ModelEntry) -> list[tuple[int, str]]:
    """Which blocks a model does not have, as pairs of place and message; none where its depth is not known."""
    if entry.depth is None:
        return []
    outside = f"is outside 0 to {entry.depth - 1}, the blocks of {entry.name}; its final layer is {FINAL!r}"
    numbers = ((place, block) for place, block in enumerate(blocks or []) if isinstance(block, int))
    return [(place, f"block {block} {outside}") for place, block in numbers if block >= entry.depth]


def unprunable_fault(entry: ModelEntry) -> str | None:
    """Why a model cannot be pruned, or None if it can."""
    compacted = entry.compacted
    if compacted is None or compacted.prunable:
        return None
    return (
        f"{entry.name} was compacted with the mean in place of removed components, which a prune cannot take into "
        f"account; prune {compacted.model}, from which it was made"
    )


def by_step_fault(thresholds: Sequence[float | None] | None, sampler: str | None, steps: int | None) -> str | None:
    """What is wrong with thresholds by step under a sampler and its steps, or None."""
    if thresholds is None:
        return None
    if sampler == "dopri5":
        return "dopri5 chooses its own steps, so there is no threshold for each; use threshold, or another sampler"
    if len(thresholds) != steps:
        return f"there are {len(thresholds)} thresholds for {steps} steps; give one for each step, pruned or not"
    return None


def schedule_faults(schedule: Schedule, sampler: str | None, steps: int | None) -> list[tuple[str, str]]:
    """What is wrong with a schedule under a sampler and its steps, as pairs of field and message."""
    faults = []
    if sampler == "dopri5" and schedule.when != "every":
        faults.append(
            (
                "when",
                f"dopri5 chooses its own steps, so {schedule.when!r} steps cannot be pruned; use 'every', or another "
                "sampler",
            )
        )
    if (fault := schedule.fault(steps or 0)) is not None:
        faults.append(fault)
    return faults


def single_fault(field: str, conditions: ConditionInfo | None) -> str | None:
    """What is wrong with a field that needs the mean or the variance over all conditions of a file, or None."""
    if conditions is None or conditions.count >= 2:
        return None
    return (
        f"{field} depends on all conditions of the file, and this file has one; upload a file with several, and select "
        "among them with rows"
    )
