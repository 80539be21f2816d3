"""What vectors and samples are made of: labels or uploaded conditions, at times. What of that does not fit a model."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.problems import Fault
from jobs.registry.models import ModelEntry
from jobs.requests.fields import Part
from jobs.storage.uploads import ConditionInfo

__all__ = ["conditions_fault", "population_fault", "subject_faults", "time_of"]


def subject_faults(
    labels: Sequence[int] | None, rows: Sequence[int] | None, entry: ModelEntry, conditions: ConditionInfo | None
) -> list[Fault]:
    """What does not fit of labels, conditions and rows, in the body of a request as it came."""
    faults: list[Fault] = []

    def wrong(location: str, message: str) -> None:
        faults.append(Fault(location=f"body.{location}", message=message))

    if fault := conditions_fault(entry, conditions):
        wrong("conditions", fault)
    if entry.facts.features and labels is not None:
        wrong("labels", f"{entry.name} has no classes; it takes conditions of {_features(entry)}: leave labels out")
    for place, label in enumerate(labels or []):
        if entry.classes is not None and label >= entry.classes:
            wrong(f"labels.{place}", f"label {label} is outside 0 to {entry.classes - 1}, the classes of {entry.name}")
    if not entry.facts.features and rows is not None:
        wrong("rows", f"rows choose among conditions, and {entry.name} takes labels; leave them out")
    elif conditions is not None:
        for place, row in enumerate(rows or []):
            if row >= conditions.count:
                wrong(f"rows.{place}", f"row {row} is outside 0 to {conditions.count - 1}, the conditions there are")
    return faults


def population_fault(part: Part, entry: ModelEntry, conditions: ConditionInfo | None) -> str | None:
    """What is wrong with the conditions that statistics are to be taken over, or None."""
    if part == "t":
        return "part 't' is measured without conditions; leave them out" if conditions is not None else None
    if fault := conditions_fault(entry, conditions):
        return fault
    if conditions is not None and conditions.count < 2:
        return "statistics are taken over two conditions or more, and this is one; upload a file of several"
    return None


def time_of(part: Part, timestep: float | None, entry: ModelEntry) -> tuple[float | None, str | None]:
    """The time at which a part is measured, where sampling starts unless said; or what is wrong with it."""
    if part != "c":
        if timestep is None:
            return None, None
        return None, f"part {part!r} is measured without a timestep; leave it out, or ask for part 'c'"
    time = entry.facts.noise_time if timestep is None else timestep
    return time, entry.facts.check_time(time)


def conditions_fault(entry: ModelEntry, conditions: ConditionInfo | None) -> str | None:
    """What is wrong with giving these conditions, or none, to a model; None where nothing is."""
    if not entry.facts.features:
        return None if conditions is None else f"{entry.name} takes labels, not conditions; leave conditions out"
    if conditions is None:
        return (
            f"{entry.name} takes conditions of {_features(entry)}: upload their file with POST /conditions, and give "
            "the id that it answers with"
        )
    if conditions.family != entry.family:
        has = ", ".join(conditions.inputs)
        return f"these are conditions of {has}, and {entry.name} takes {_features(entry)}"
    return None


def _features(entry: ModelEntry) -> str:
    """What a model is conditioned on, with shapes."""
    return ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in entry.facts.features.items())
