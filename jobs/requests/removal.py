"""The request of the job `removal`: prunes, and the sampling run over which what they remove is measured."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, Field

from jobs.problems import InvalidRequest
from jobs.requests.base import History, ModelRequest, Reads
from jobs.requests.checks import body_fault
from jobs.requests.fields import CONDITIONS, ConditionsId, Rows
from jobs.requests.labels import Labels
from jobs.requests.prune_sample import PruneSampleRequest
from jobs.requests.pruned import PruneFields
from jobs.results import RemovalResult
from tailprune.spec import InputError
from tailprune.spec.prune import RULES

if TYPE_CHECKING:
    from jobs.registry.evaluation import EvaluationAssets
    from jobs.registry.models import ModelEntry
    from jobs.settings import Settings
    from jobs.storage.condition_info import ConditionInfo

__all__ = ["RemovalRequest", "Sampler"]

Sampler = Literal["ddim", "ddpm", "dpmpp", "euler", "heun", "dopri5", "sde"]


class RemovalRequest(PruneFields, ModelRequest):
    """Measure what prunes remove from the condition vectors of a model over a sampling run, without sampling."""

    kind: ClassVar[str] = "removal"
    result: ClassVar[type[BaseModel]] = RemovalResult
    history: ClassVar[History] = "statistics"

    labels: Labels | None = Field(default=None, description="The classes to measure; all by default.")
    conditions: ConditionsId | None = Field(default=None, description=CONDITIONS)
    rows: Rows | None = Field(
        default=None, description="Which conditions of the file to measure, counted from 0; all by default."
    )
    sampler: Sampler | None = Field(
        default=None, description="The sampler of the run; the model's default if not given."
    )
    steps: int | None = Field(default=None, ge=2, description="The number of steps; the model's default if not given.")
    timestep_shift: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="The timestep shift of the samplers `euler` and `heun`; the model's default if not given.",
    )
    guidance_scale: float | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="The guidance scale, for a model that takes it as an input; its default if not given. Null for "
        "others, whose condition vectors do not depend on it.",
    )

    @property
    def job_title(self) -> str:
        """What the job of a resolved request is of: `removal of shapes-sit at 0.038, first 2 steps`."""
        return f"{super().job_title}{self.pruned}"

    @property
    def reads(self) -> Reads:
        return "modulation"

    @property
    def sampled(self) -> PruneSampleRequest:
        """The request, resolved or not, for samples under the same prunes: one of each label or condition."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        return PruneSampleRequest.model_construct(**fields, samples_per_label=1)

    def resolve(
        self,
        entry: ModelEntry,
        settings: Settings,
        conditions: ConditionInfo | None = None,
        evaluation: EvaluationAssets | None = None,
    ) -> RemovalRequest:
        try:
            _ = self.rule
        except InputError as error:
            given = next((name for name in RULES if getattr(self, name) is not None), "threshold")
            raise InvalidRequest([body_fault(given, str(error))]) from error
        asked = self.sampled
        if self.labels is None and entry.classes is not None:
            asked = asked.model_copy(update={"labels": list(range(entry.classes))})
        unbounded = settings.model_copy(update={"max_variants": sys.maxsize})  # nothing is sampled
        resolved = asked.resolved(entry, unbounded, conditions, sys.maxsize)
        names = set(type(self).model_fields) - {"model", "conditions"}
        found = {name: getattr(resolved, name) for name in names}
        if not entry.facts.takes_guidance:
            found["guidance_scale"] = None
        return self.model_copy(update=found)
