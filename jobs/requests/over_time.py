"""The request of the job `over-time`: at how many times of a sampling run the condition is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, Field

from jobs.problems import Fault, InvalidRequest
from jobs.requests.base import History, ModelRequest
from jobs.requests.checks import conditions_fault
from jobs.requests.fields import CONDITIONS, ConditionsId, Thresholds
from jobs.requests.metrics import DEFAULT_THRESHOLDS
from jobs.results import OverTimeResult

if TYPE_CHECKING:
    from jobs.registry.evaluation import EvaluationAssets
    from jobs.registry.models import ModelEntry
    from jobs.settings import Settings
    from jobs.storage.condition_info import ConditionInfo

__all__ = ["MOST_POINTS", "OverTimeRequest"]

MOST_POINTS = 1000


class OverTimeRequest(ModelRequest):
    """Measure the condition vectors of a model at many times, from noise to data."""

    kind: ClassVar[str] = "over-time"
    result: ClassVar[type[BaseModel]] = OverTimeResult
    history: ClassVar[History] = "statistics"

    conditions: ConditionsId | None = Field(default=None, description=CONDITIONS)
    points: int = Field(
        default=50,
        ge=1,
        le=MOST_POINTS,
        description="How many times, evenly spaced from noise to data; rounded, of a model whose times are whole.",
    )
    thresholds: Thresholds = Field(
        default_factory=lambda: list(DEFAULT_THRESHOLDS),
        description="The magnitudes below which components are counted.",
    )

    @property
    def job_title(self) -> str:
        """What the job of a resolved request is of: `over-time of shapes-sit: c at 50 times`."""
        return f"{super().job_title}: c at {self.points} time{'' if self.points == 1 else 's'}"

    def resolve(
        self,
        entry: ModelEntry,
        settings: Settings,
        conditions: ConditionInfo | None = None,
        evaluation: EvaluationAssets | None = None,
    ) -> OverTimeRequest:
        if fault := conditions_fault(entry, conditions):
            raise InvalidRequest([Fault(location="query.conditions", message=fault)])
        return self
