"""The request of the job `metrics`: which part of the condition is measured, at which time, and over what."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, Field

from jobs.problems import Fault, InvalidRequest
from jobs.requests.base import History, ModelRequest
from jobs.requests.checks import population_fault, time_of
from jobs.requests.fields import CONDITIONS, ConditionsId, Part, Thresholds
from jobs.results import MetricsResult
from tailprune.spec.prune import plain

if TYPE_CHECKING:
    from jobs.registry.evaluation import EvaluationAssets
    from jobs.registry.models import ModelEntry
    from jobs.settings import Settings
    from jobs.storage.condition_info import ConditionInfo

__all__ = ["MetricsRequest"]

DEFAULT_THRESHOLDS = [0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]


class MetricsRequest(ModelRequest):
    """Measure the condition vectors of a model, over its classes or over uploaded conditions."""

    kind: ClassVar[str] = "metrics"
    result: ClassVar[type[BaseModel]] = MetricsResult
    history: ClassVar[History] = "statistics"

    conditions: ConditionsId | None = Field(default=None, description=CONDITIONS)
    part: Part = Field(
        default="c", description="What to measure: the condition c = y + t, its input part y, or its time part t."
    )
    timestep: float | None = Field(
        default=None,
        description="The time at which c is measured, in the model's own time; by default where sampling starts. Only "
        "for part c.",
    )
    thresholds: Thresholds = Field(
        default_factory=lambda: list(DEFAULT_THRESHOLDS),
        description="The magnitudes at which sparsity is measured.",
    )

    @property
    def job_title(self) -> str:
        """What the job of a resolved request is of: `metrics of shapes-sit: c at time 0`."""
        at = "" if self.timestep is None else f" at time {plain(self.timestep)}"
        return f"{super().job_title}: {self.part}{at}"

    def resolve(
        self,
        entry: ModelEntry,
        settings: Settings,
        conditions: ConditionInfo | None = None,
        evaluation: EvaluationAssets | None = None,
    ) -> MetricsRequest:
        if fault := population_fault(self.part, entry, conditions):
            raise InvalidRequest([Fault(location="query.conditions", message=fault)])
        timestep, fault = time_of(self.part, self.timestep, entry)
        if fault:
            raise InvalidRequest([Fault(location="query.timestep", message=fault)])
        return self.model_copy(update={"timestep": timestep})
