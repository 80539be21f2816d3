"""What requests of large transformers say of times and resolutions, each check once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from jobs.problems import Fault, InvalidRequest
from jobs.requests.checks import body_fault
from tailprune.spec import InputError
from tailprune.spec.layouts import SCHEDULER_CONFIG
from tailprune.spec.transformers import CLASSES, LARGEST_SIDE, SIDE_STEP

if TYPE_CHECKING:
    from jobs.registry.transformers import TransformerEntry, TransformerFacts

__all__ = [
    "Resolutions",
    "SchedulerName",
    "facts_of",
    "schedule_faults",
    "scheduler_digest",
    "steps_fault",
]

Resolution = Annotated[list[Annotated[int, Field(ge=16, le=16384)]], Field(min_length=2, max_length=2)]
Resolutions = Annotated[list[Resolution], Field(min_length=1, max_length=64)]
SchedulerName = Literal["own", "plain"]


def facts_of(entry: TransformerEntry) -> TransformerFacts:
    """What the headers of a large transformer say. Raises InvalidRequest for one that cannot be used."""
    try:
        return entry.facts
    except InputError as error:
        raise InvalidRequest([body_fault("model", entry.place_of(str(error)))]) from error


def scheduler_digest(entry: TransformerEntry, scheduler: SchedulerName | None) -> dict[str, Any]:
    """The digest of the model's own schedulers, as a part of the key of a job, where they make the times."""
    if scheduler != "own" or entry.scheduler is None:
        return {}
    others = {folder for cls in CLASSES if (folder := entry.second_scheduler(cls)) is not None}
    made = hashlib.sha256()
    for folder in (entry.scheduler, *sorted(others)):
        made.update(hashlib.sha256((folder / SCHEDULER_CONFIG).read_bytes()).digest())
    return {"scheduler": made.hexdigest()}


def steps_fault(facts: TransformerFacts, scheduler: SchedulerName | None, steps: Sequence[int]) -> Fault | None:
    """That a pipeline takes more steps than one. scheduler: whose times they are."""
    if not facts.cls.rises or scheduler != "own" or 1 not in steps:
        return None
    return body_fault("steps", f"the pipeline of {facts.cls.models} takes at least 2 steps")


def schedule_faults(
    entry: TransformerEntry,
    facts: TransformerFacts,
    scheduler: SchedulerName | None,
    resolutions: Resolutions | None,
    otherwise: str | None = None,
) -> Iterator[Fault]:
    """What is wrong with whose times a request takes, and with resolutions.

    scheduler: whose; None for a request that takes no schedule.
    otherwise: what can be given in place of a schedule; nothing by default.
    """
    name, cls, takes_sizes = entry.name, facts.cls, facts.part("sizes") is not None
    own, way_out = scheduler == "own", f", or {otherwise}" if otherwise else ""
    if own and entry.scheduler is None:
        instead = ", or give 'plain', sigmas from 1 to 1/N" if cls.has_plain_schedule else way_out
        text = f"no scheduler/{SCHEDULER_CONFIG} lies beside {name}, which its pipeline has its times from"
        yield body_fault("scheduler", f"{text}; put it there{instead}")
        return
    if own and cls.gives == "times":
        yield body_fault("scheduler", f"the pipeline of {cls.models} makes the times itself; use 'plain'")
    if scheduler == "plain" and not cls.has_plain_schedule:
        yield body_fault("scheduler", f"{cls.models} has no plain schedule; register its scheduler too{way_out}")
    try:
        shifts = own and bool(entry.scheduler_config.get("use_dynamic_shifting"))
    except InputError as error:
        yield body_fault("scheduler", f"{entry.place_of(str(error))}; mend it{way_out}")
        return
    if shifts and cls.token_pixels is None:
        yield body_fault("scheduler", f"shifts times in a way that is not known for {cls.models}{way_out}")
    elif (takes_sizes or shifts) and resolutions is None:
        what = "takes the size of the picture" if takes_sizes else "has a scheduler that shifts times by the resolution"
        yield body_fault("resolutions", f"{name} {what}: give one or more widths and heights, such as 1024 and 1024")
    elif resolutions is not None and not takes_sizes and not shifts:
        yield body_fault("resolutions", f"what is covered of {name} is the same at every resolution; leave them out")
    elif takes_sizes:
        for place, sides in enumerate(resolutions or []):
            if any(side % SIDE_STEP or side > LARGEST_SIDE for side in sides):
                text = f"sides of pictures of {name} are multiples of {SIDE_STEP} pixels, at most {LARGEST_SIDE}"
                yield body_fault(f"resolutions.{place}", f"{text}; give such sides")
