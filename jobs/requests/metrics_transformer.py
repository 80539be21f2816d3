"""The requests of the jobs `metrics-transformer` and `over-time-transformer`: at which times c is measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, Field

from jobs.problems import Fault, InvalidRequest
from jobs.requests.base import History, TransformerRequest
from jobs.requests.checks import body_fault
from jobs.requests.fields import UNIQUE, ConditionsId, Part, Thresholds, all_different
from jobs.requests.metrics import DEFAULT_THRESHOLDS
from jobs.requests.over_time import MOST_POINTS
from jobs.requests.transformer_inputs import Classes, Scale, classes_fault, population_fault, scales_fault
from jobs.requests.transformer_schedule import (
    Resolutions,
    SchedulerName,
    facts_of,
    schedule_faults,
    scheduler_digest,
    steps_fault,
)
from jobs.transformer_results import MetricsTransformerResult, OverTimeTransformerResult
from tailprune.spec.transformers import MOST_COVERED

if TYPE_CHECKING:
    from jobs.registry.transformers import TransformerEntry, TransformerFacts
    from jobs.storage.condition_info import ConditionInfo

__all__ = ["MetricsTransformerRequest", "OverTimeTransformerRequest", "Scales"]

Scales = Annotated[
    list[Scale], Field(min_length=1, max_length=64, json_schema_extra=UNIQUE), AfterValidator(all_different)
]
GUIDANCE = (
    "The guidance scales of a model that takes one, each a vector of its own; the pipeline's default if not given."
)
RESOLUTIONS = "Widths and heights in pixels of a model that takes the size of the picture, each a vector of its own"
CLASSES = "The classes of a model that takes one, each a vector of its own; the one that stands for none by default."
POPULATION = (
    "The id of uploaded pooled texts, as `POST /conditions` returned it, of a model that takes one; each is a vector "
    "of its own. Zeros by default."
)
THRESHOLDS = "The magnitudes at which sparsity is measured."


class MetricsTransformerRequest(TransformerRequest):
    """Measure the condition vectors of a large transformer over the times of a schedule."""

    kind: ClassVar[str] = "metrics-transformer"
    result: ClassVar[type[BaseModel]] = MetricsTransformerResult
    history: ClassVar[History] = "statistics"

    part: Part = Field(
        default="c",
        description="What to measure: the condition c = y + t, the time's part t, or the sum of all other parts, y.",
    )
    steps: int = Field(default=50, ge=1, le=MOST_COVERED, description="At the times of how many steps.")
    scheduler: SchedulerName | None = Field(
        default=None,
        description="Whose times they are: the `plain` ones, sigmas from 1 to 1/N, or those of the model's `own` "
        "scheduler, which lies in `scheduler/` beside the transformer. `plain` by default, but for a model without.",
    )
    resolutions: Resolutions | None = Field(
        default=None,
        description=f"{RESOLUTIONS}; and where its own scheduler shifts the times by them, whose times all count.",
    )
    guidance: Scales | None = Field(default=None, description=GUIDANCE)
    classes: Classes | None = Field(default=None, description=CLASSES)
    population: ConditionsId | None = Field(default=None, description=POPULATION)
    thresholds: Thresholds = Field(default_factory=lambda: list(DEFAULT_THRESHOLDS), description=THRESHOLDS)

    @property
    def job_title(self) -> str:
        """What the job of a resolved request is of: `metrics of flux-dev: c at 50 steps`."""
        at = "" if self.part == "y" else f" at {self.steps} step{'' if self.steps == 1 else 's'}"
        return f"metrics of {self.model}: {self.part}{at}"

    def reading(self, entry: TransformerEntry) -> dict[str, Any]:
        """The digest of the model's scheduler, where that makes the times."""
        return scheduler_digest(entry, self.scheduler)

    def resolve(self, entry: TransformerEntry, conditions: ConditionInfo | None = None) -> Self:
        """See `TransformerRequest.resolve`. `guidance` may stay None, for the pipeline's default."""
        facts = facts_of(entry)
        plain: SchedulerName = "plain" if facts.cls.has_plain_schedule else "own"
        resolved = self.model_copy(update={"scheduler": self.scheduler or plain, "classes": _in_order(self.classes)})
        faults = list(_metrics_faults(resolved, entry, facts, conditions))
        if not faults:
            schedules = 1 if resolved.scheduler == "plain" else len(self.resolutions or [None])
            faults = list(_count_faults("steps", schedules * self.steps, resolved, facts, conditions))
        if faults:
            raise InvalidRequest(faults)
        return resolved


class OverTimeTransformerRequest(TransformerRequest):
    """Measure the condition vectors of a large transformer at many times, from noise to data."""

    kind: ClassVar[str] = "over-time-transformer"
    result: ClassVar[type[BaseModel]] = OverTimeTransformerResult
    history: ClassVar[History] = "statistics"

    points: int = Field(
        default=50,
        ge=1,
        le=MOST_POINTS,
        description="How many times, evenly spaced from noise to data; rounded, of a model whose times are whole.",
    )
    resolutions: Resolutions | None = Field(default=None, description=f"{RESOLUTIONS}.")
    guidance: Scales | None = Field(default=None, description=GUIDANCE)
    classes: Classes | None = Field(default=None, description=CLASSES)
    population: ConditionsId | None = Field(default=None, description=POPULATION)
    thresholds: Thresholds = Field(
        default_factory=lambda: list(DEFAULT_THRESHOLDS),
        description="The magnitudes below which components are counted.",
    )

    @property
    def job_title(self) -> str:
        """What the job of a resolved request is of: `over-time of flux-dev: c at 50 times`."""
        return f"over-time of {self.model}: c at {self.points} time{'' if self.points == 1 else 's'}"

    def resolve(self, entry: TransformerEntry, conditions: ConditionInfo | None = None) -> Self:
        """See `TransformerRequest.resolve`. `guidance` may stay None, for the pipeline's default."""
        facts = facts_of(entry)
        faults = [
            *_input_faults(self, entry.name, facts, conditions),
            *schedule_faults(entry, facts, None, self.resolutions),
        ]
        if faults := faults or list(_count_faults("points", self.points, self, facts, conditions)):
            raise InvalidRequest(faults)
        return self.model_copy(update={"classes": _in_order(self.classes)})


_Measured = MetricsTransformerRequest | OverTimeTransformerRequest


def _in_order(classes: list[int] | None) -> list[int] | None:
    return None if classes is None else sorted(classes)


def _input_faults(
    request: _Measured, name: str, facts: TransformerFacts, texts: ConditionInfo | None
) -> Iterator[Fault]:
    """What is wrong with the other inputs of c than the time. texts: the description of the upload that is named."""
    for fault in (
        scales_fault(name, facts, request.guidance),
        classes_fault(name, facts, request.classes),
        population_fault(name, facts, texts),
    ):
        if fault:
            yield fault


def _metrics_faults(
    request: MetricsTransformerRequest, entry: TransformerEntry, facts: TransformerFacts, texts: ConditionInfo | None
) -> Iterator[Fault]:
    """What is wrong with a request but for how much it is of."""
    if request.part == "y" and all(part.is_time or part.scheduled for part in facts.parts):
        yield body_fault("part", f"c of {entry.name} is the time's part alone, so that there is no y; give c or t")
    yield from _input_faults(request, entry.name, facts, texts)
    if fault := steps_fault(facts, request.scheduler, [request.steps]):
        yield fault
    yield from schedule_faults(entry, facts, request.scheduler, request.resolutions)


def _count_faults(
    field: str, times: int, request: _Measured, facts: TransformerFacts, texts: ConditionInfo | None
) -> Iterator[Fault]:
    """What is wrong with how many vectors a request is of. field: that of the times."""
    others = len(request.guidance or [None]) * len(request.classes or [None]) * (1 if texts is None else texts.count)
    if facts.part("sizes") is not None:
        others *= len(request.resolutions or [None])
    if (count := times * others) > MOST_COVERED:
        what = f"{times:,} times with {others:,} other inputs are {count:,} vectors"
        yield body_fault(field, f"{what}, and at most {MOST_COVERED:,} are measured; give fewer")
