"""The request of the job `prune-sample`: one or several prunes of a model, and how it is sampled under each."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import BaseModel, Field, model_validator

from jobs.problems import Fault, InvalidRequest
from jobs.requests.checks import body_fault, by_step_fault, schedule_faults, subject_faults, unprunable_fault
from jobs.requests.pruned import PruneFields
from jobs.requests.sampled import SampledRequest, sampling_faults, sampling_of
from jobs.results import PruneSampleResult
from tailprune.spec.prune import EVERY, RULES

if TYPE_CHECKING:
    from jobs.registry.evaluation import EvaluationAssets
    from jobs.registry.models import ModelEntry
    from jobs.settings import Settings
    from jobs.storage.condition_info import ConditionInfo

__all__ = ["PruneSampleRequest"]


class PruneSampleRequest(PruneFields, SampledRequest):
    """Sample a model with its condition vectors pruned; a compacted model may also be sampled as it is."""

    kind: ClassVar[str] = "prune-sample"
    result: ClassVar[type[BaseModel]] = PruneSampleResult

    compare: bool = Field(
        default=True, description="Whether to sample unpruned too, from the same noise, and report the drift."
    )

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.has_rule:
            _ = self.rule  # raises
        return self

    @property
    def job_title(self) -> str:
        """What the job of a resolved request is of: `prune-sample of shapes-sit at 0.038, first 2 steps`."""
        return f"{super().job_title}{self.pruned if self.has_rule else ' as it is'}"

    def resolve(
        self,
        entry: ModelEntry,
        settings: Settings,
        conditions: ConditionInfo | None = None,
        evaluation: EvaluationAssets | None = None,
    ) -> PruneSampleRequest:
        """See `ModelRequest.resolve`. `threshold`, `keep` and the like become lists."""
        return self.resolved(entry, settings, conditions, settings.max_samples)

    def resolved(
        self, entry: ModelEntry, settings: Settings, conditions: ConditionInfo | None, most_samples: int
    ) -> PruneSampleRequest:
        """The same with another limit on the number of samples: a request that only measures makes none."""
        given = sampling_of(self, entry, conditions) | self.with_prune_defaults()
        resolved = self.model_copy(update=given)
        faults = [
            *_rule_faults(self, entry),
            *subject_faults(self.labels, self.rows, entry, conditions),
            *resolved.prune_faults(entry, conditions),
            *_schedule_faults(resolved, settings),
            *sampling_faults(resolved, entry, settings, most_samples),
        ]
        if faults:
            raise InvalidRequest(faults)
        return resolved


def _rule_faults(request: PruneSampleRequest, entry: ModelEntry) -> list[Fault]:
    """What is wrong with pruning this model, or with sampling it without a prune."""
    if request.has_rule:
        fault = unprunable_fault(entry)
        return [] if fault is None else [body_fault(request.rule, fault)]
    if entry.compacted is None:
        return [Fault(location="body", message=f"give exactly one of {', '.join(RULES)}")]
    faults = [
        body_fault(name, f"{name} applies to a prune, and none is given; leave it out")
        for name in ("side", "by", "of", "fill", "schedule", "blocks")
        if getattr(request, name) not in (None, EVERY)
    ]
    if not request.compare:
        message = "without a prune only the baseline is sampled, with nothing to compare; leave compare out"
        faults.append(body_fault("compare", message))
    return faults


def _schedule_faults(request: PruneSampleRequest, settings: Settings) -> list[Fault]:
    """What is wrong with the steps, and the number, of the prunes of a resolved request."""
    faults = [
        body_fault(f"schedule.{field}", fault)
        for field, fault in schedule_faults(request.schedule, request.sampler, request.steps)
    ]
    if fault := by_step_fault(request.threshold_by_step, request.sampler, request.steps):
        faults.append(body_fault("threshold_by_step", fault))
    if len(request.prunes) > settings.max_variants:
        message = f"{len(request.prunes)} prunes is more than the {settings.max_variants} of one job; use several jobs"
        faults.append(body_fault(request.rule, message))
    return faults
