"""The request of the job `prune-sample`: one or several prunes of a model, and how it is sampled under each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, Field, model_validator

from jobs.problems import Fault, InvalidRequest
from jobs.requests.checks import (
    body_fault,
    keep_fault,
    schedule_faults,
    single_fault,
    subject_faults,
    unprunable_fault,
)
from jobs.requests.fields import OneOrMoreCounts, OneOrMoreThresholds, in_short
from jobs.requests.sampled import SampledRequest, sampling_faults, sampling_of
from jobs.results import PruneSampleResult
from tailprune.spec.prune import EVERY, NO_RULE, Fill, PruneSpec, Schedule, Side, check_rule

if TYPE_CHECKING:
    from jobs.registry.evaluation import EvaluationAssets
    from jobs.registry.models import ModelEntry
    from jobs.settings import Settings
    from jobs.storage.condition_info import ConditionInfo

__all__ = ["PruneSampleRequest"]


class PruneSampleRequest(SampledRequest):
    """Sample a model with its condition vectors pruned."""

    kind: ClassVar[str] = "prune-sample"
    result: ClassVar[type[BaseModel]] = PruneSampleResult

    threshold: OneOrMoreThresholds | None = Field(
        default=None,
        description="The magnitude at which components of c are removed; several make one variant each. Give either "
        "this or `keep`; a compacted model may also be sampled as it is, with neither.",
    )
    keep: OneOrMoreCounts | None = Field(
        default=None,
        description="How many components to keep; several make one variant each. Give either this or `threshold`.",
    )
    by: Literal["variance"] | None = Field(
        default=None,
        description="With `keep`: how components are ranked, by their variance over the classes (the default).",
    )
    side: Side | None = Field(
        default=None,
        description="With `threshold`: remove the components below it (`tail`, the default) or above it (`head`).",
    )
    fill: Fill | None = Field(
        default=None,
        description="What takes the place of a removed component: `zero` (the default with `threshold`) or the `mean` "
        "over the classes (the default with `keep`).",
    )
    schedule: Schedule = Field(
        default=EVERY, description="The sampling steps at which to prune; every step by default."
    )
    compare: bool = Field(
        default=True, description="Whether to sample unpruned too, from the same noise, and report the drift."
    )

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.has_rule:
            check_rule(self.threshold, self.keep, self.side, self.by)
        return self

    @property
    def has_rule(self) -> bool:
        """Whether it has a threshold or keep; without either, a compacted model is sampled as it is."""
        return self.threshold is not None or self.keep is not None

    @property
    def job_title(self) -> str:
        """What the job of a resolved request is of: `prune-sample of shapes-sit at 0.038, first 2 steps`."""
        steps = "" if self.schedule == EVERY else f", {self.schedule.name}"
        if self.keep is not None:
            return f"{super().job_title} with {in_short(_as_list(self.keep), 'numbers')} components kept{steps}"
        if self.threshold is not None:
            side = "head " if self.side == "head" else ""
            return f"{super().job_title} at {side}{in_short(_as_list(self.threshold), 'thresholds')}{steps}"
        return f"{super().job_title} as it is"

    @property
    def pruned_at(self) -> list[float] | None:
        return None if self.threshold is None else list(_as_list(self.threshold))

    @property
    def prunes(self) -> list[PruneSpec]:
        """The resolved prune of each variant but the baseline; none for a compacted model that is sampled as it is."""
        rest: dict[str, Any] = {"fill": self.fill, "schedule": self.schedule}
        by_threshold = [PruneSpec(threshold=tau, side=self.side, **rest) for tau in _as_list(self.threshold)]
        by_number = [PruneSpec(keep=count, by=self.by, **rest) for count in _as_list(self.keep)]
        return [spec.resolved() for spec in (*by_threshold, *by_number)]

    def resolve(
        self,
        entry: ModelEntry,
        settings: Settings,
        conditions: ConditionInfo | None = None,
        evaluation: EvaluationAssets | None = None,
    ) -> PruneSampleRequest:
        """See `ModelRequest.resolve`. `threshold` and `keep` become lists."""
        return self.resolved(entry, settings, conditions, settings.max_samples)

    def resolved(
        self, entry: ModelEntry, settings: Settings, conditions: ConditionInfo | None, most_samples: int
    ) -> PruneSampleRequest:
        """The same with another limit on the number of samples: a request that only measures makes none."""
        given = sampling_of(self, entry, conditions)
        if prunes := self.prunes:
            first = prunes[0]
            given |= {
                "threshold": _values(spec.threshold for spec in prunes),
                "keep": _values(spec.keep for spec in prunes),
                "by": first.by,
                "side": first.side,
                "fill": first.fill,
            }
        resolved = self.model_copy(update=given)
        faults = [
            *_rule_faults(self, entry),
            *subject_faults(self.labels, self.rows, entry, conditions),
            *_population_faults(resolved, conditions),
            *_prune_faults(resolved, entry, settings),
            *sampling_faults(resolved, entry, settings, most_samples),
        ]
        if faults:
            raise InvalidRequest(faults)
        return resolved


def _rule_faults(request: PruneSampleRequest, entry: ModelEntry) -> list[Fault]:
    """What is wrong with pruning this model, or with sampling it without a prune."""
    if request.has_rule:
        fault = unprunable_fault(entry)
        return [] if fault is None else [body_fault("keep" if request.threshold is None else "threshold", fault)]
    if entry.compacted is None:
        return [Fault(location="body", message=NO_RULE)]
    faults = [
        body_fault(name, f"{name} applies to a prune, and neither threshold nor keep is given; leave it out")
        for name in ("side", "by", "fill", "schedule")
        if getattr(request, name) not in (None, EVERY)
    ]
    if not request.compare:
        message = "without threshold or keep only the baseline is sampled, with nothing to compare; leave compare out"
        faults.append(body_fault("compare", message))
    return faults


def _population_faults(request: PruneSampleRequest, conditions: ConditionInfo | None) -> list[Fault]:
    """What is wrong with prunes of a resolved request that need the mean or the variance over all conditions."""
    if not any(spec.needs_population for spec in request.prunes):
        return []
    field = "keep" if request.keep is not None else "fill"
    fault = single_fault(field, conditions)
    return [] if fault is None else [body_fault(field, fault)]


def _prune_faults(request: PruneSampleRequest, entry: ModelEntry, settings: Settings) -> list[Fault]:
    """What the model and the limits do not allow in the prunes of a resolved request."""
    faults = [
        body_fault(f"keep.{place}", fault)
        for place, spec in enumerate(request.prunes)
        if spec.keep is not None and (fault := keep_fault(spec.keep, entry))
    ]
    for field, fault in schedule_faults(request.schedule, request.sampler, request.steps):
        faults.append(body_fault(f"schedule.{field}", fault))
    if len(request.prunes) > settings.max_variants:
        message = f"{len(request.prunes)} prunes is more than the {settings.max_variants} of one job; use several jobs"
        faults.append(body_fault("keep" if request.threshold is None else "threshold", message))
    return faults


def _as_list(value: Any) -> Sequence[Any]:
    """A field that holds one value, several or none, as a list."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _values(found: Iterable[Any]) -> list[Any] | None:
    """The values of a field over all prunes; None if no prune has it."""
    values = [value for value in found if value is not None]
    return values or None
