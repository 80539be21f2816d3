"""The class of all requests: the kind of job, its queue, and how defaults are filled in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from jobs.queue_names import HISTORIES, QUEUES, History, Queue

if TYPE_CHECKING:
    from jobs.registry.evaluation import EvaluationAssets
    from jobs.registry.models import ModelEntry
    from jobs.registry.transformers import TransformerEntry
    from jobs.settings import Settings
    from jobs.storage.condition_info import ConditionInfo

__all__ = ["HISTORIES", "QUEUES", "History", "ModelRequest", "Queue", "Reads", "Request", "TransformerRequest"]

Reads = Literal["condition", "named condition", "modulation", "model", "training"]
"""The part of its model that a job's result depends on: the condition tensors, alone, with the names of the classes, or
with the tensors of AdaLN; the whole model with its decoder; or the record of its training."""


class Request(BaseModel):
    """The base of all requests. A subclass that has a `kind` is a kind of job (`jobs.records.KINDS`)."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)

    kind: ClassVar[str]
    result: ClassVar[type[BaseModel]]
    """The class of its job's result."""
    history: ClassVar[History] = "jobs"
    """The history in which its finished job is kept."""

    @property
    def about(self) -> str:
        """The name of the model that its job is of."""
        raise NotImplementedError

    @property
    def job_title(self) -> str:
        """What the job of a resolved request is of, in plain words."""
        return f"{self.kind} of {self.about}"

    @property
    def pruned_at(self) -> list[float] | None:
        """The thresholds at which the job of a resolved request prunes, each once; None if it prunes at none."""
        return None

    @property
    def queue(self) -> Queue:
        """The queue in which its job waits."""
        return "metrics"

    @property
    def reads(self) -> Reads:
        """The part of its model that the result depends on."""
        return "condition"


class TransformerRequest(Request):
    """The base of the requests that name a large transformer of the registry."""

    model: str = Field(
        min_length=1,
        max_length=100,
        description="The name of a large transformer; `GET /models` lists them under `transformers`.",
    )

    @property
    def about(self) -> str:
        return self.model

    @property
    def reads(self) -> Reads:
        return "model"

    def resolve(self, entry: TransformerEntry, conditions: ConditionInfo | None = None) -> Self:
        """The request with every default filled in: all that its job depends on besides the files.

        entry: the large transformer that the request names, none of whose files is missing.
        conditions: the description of the upload that it names; None if it names none.

        Raises InvalidRequest with everything that the model does not allow, OSError for files that cannot be read.
        """
        return self

    def reading(self, entry: TransformerEntry) -> dict[str, Any]:
        """What the job of a resolved request depends on besides the request and the model's files, as JSON data.

        Raises OSError for files that cannot be read.
        """
        return {}


class ModelRequest(Request):
    """The base of the requests that name a model that is there."""

    model: str = Field(min_length=1, max_length=100, description="The name of a model; `GET /models` lists them.")

    @property
    def about(self) -> str:
        return self.model

    def resolve(
        self,
        entry: ModelEntry,
        settings: Settings,
        conditions: ConditionInfo | None = None,
        evaluation: EvaluationAssets | None = None,
    ) -> ModelRequest:
        """The request with every default filled in: all that its job depends on besides the model's files.

        entry: the model that the request names.
        settings: the limits.
        conditions: the description of the uploaded conditions that it names; None if it names none.
        evaluation: the registered extractors and references; only studies need them.

        Raises InvalidRequest with everything that the model, the limits or the registry do not allow.
        """
        return self

    def evaluated_with(self, entry: ModelEntry, evaluation: EvaluationAssets) -> Mapping[str, Path | str]:
        """The extractors and references of a resolved request by name: the path of each, or a text that identifies it.

        Raises FileNotFoundError for missing files.
        """
        return {}
