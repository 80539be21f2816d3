"""The request of the job `cosine`: of which vectors the cosine of every pair is computed, and in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, Field

from jobs.problems import Fault, InvalidRequest
from jobs.requests.base import History, ModelRequest, Reads
from jobs.requests.checks import population_fault, time_of
from jobs.requests.fields import CONDITIONS, ConditionsId, Part
from jobs.results import CosineResult
from tailprune.spec.prune import plain

if TYPE_CHECKING:
    from jobs.registry.evaluation import EvaluationAssets
    from jobs.registry.models import ModelEntry
    from jobs.settings import Settings
    from jobs.storage.condition_info import ConditionInfo

__all__ = ["MOST_COSINES_IN_JSON", "MOST_VECTORS", "CosineRequest", "Order"]

MOST_VECTORS = 4096
MOST_COSINES_IN_JSON = 256
"""Of more vectors cosines are not written as JSON: it would be several megabytes."""
Order = Literal["class", "likeness", "name"]


class CosineRequest(ModelRequest):
    """Compute the cosine of every pair of condition vectors."""

    kind: ClassVar[str] = "cosine"
    result: ClassVar[type[BaseModel]] = CosineResult
    history: ClassVar[History] = "statistics"

    conditions: ConditionsId | None = Field(default=None, description=CONDITIONS)
    part: Part = Field(
        default="c", description="Of what: the condition c = y + t, its input part y, or its time part t."
    )
    timestep: float | None = Field(
        default=None,
        description="The time of c, in the model's own time; by default where sampling starts. Only for part c.",
    )
    order: Order = Field(
        default="class",
        description="The order of rows and columns: by `class`, that of the labels, conditions or times; by "
        "`likeness`, so that vectors that are alike are near one another; by `name`.",
    )

    @property
    def job_title(self) -> str:
        """What the job of a resolved request is of: `cosine of shapes-sit: c at time 0`."""
        at = "" if self.timestep is None else f" at time {plain(self.timestep)}"
        return f"{super().job_title}: {self.part}{at}"

    @property
    def reads(self) -> Reads:
        return "named condition"

    def resolve(
        self,
        entry: ModelEntry,
        settings: Settings,
        conditions: ConditionInfo | None = None,
        evaluation: EvaluationAssets | None = None,
    ) -> CosineRequest:
        if fault := population_fault(self.part, entry, conditions):
            raise InvalidRequest([Fault(location="query.conditions", message=fault)])
        timestep, fault = time_of(self.part, self.timestep, entry)
        if fault:
            raise InvalidRequest([Fault(location="query.timestep", message=fault)])
        count = None if self.part == "t" else entry.classes if conditions is None else conditions.count
        if count is not None and count > MOST_VECTORS:
            message = (
                f"{count} vectors are more than the {MOST_VECTORS} whose pairs are computed: get vectors of some "
                f"classes from GET /metrics/{entry.name}/vectors"
            )
            raise InvalidRequest([Fault(location="query.part", message=message)])
        if count == 1:
            message = "the cosine is of pairs of vectors, and there is only one"
            raise InvalidRequest([Fault(location="query.conditions", message=message)])
        return self.model_copy(update={"timestep": timestep})
