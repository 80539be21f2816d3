"""What every request is: the kind of job that it asks for, and how its defaults are filled in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from jobs.registry.evaluation import EvaluationAssets
from jobs.registry.models import ModelEntry
from jobs.settings import Settings
from jobs.storage.uploads import ConditionInfo

__all__ = ["QUEUES", "Queue", "Reads", "Request"]

Queue = Literal["metrics", "sampling", "shards"]
QUEUES: tuple[Queue, ...] = ("metrics", "sampling", "shards")
"""Workers take from them in this order: short jobs go first, and parts of a study that another worker holds last."""

Reads = Literal["condition", "named condition", "model", "training"]
"""What of its model makes a job's result: the tensors of the condition, alone or with the names of the classes; the
whole model with its decoder; or the record of its training."""


class Request(BaseModel):
    """What every request holds. A class that names a `kind` is a kind of job (`jobs.records`)."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    kind: ClassVar[str]
    result: ClassVar[type[BaseModel]]
    """What its job makes."""

    model: str = Field(min_length=1, max_length=100, description="A registered model; see GET /models.")

    @property
    def queue(self) -> Queue:
        """The queue that its job waits in."""
        return "metrics"

    @property
    def reads(self) -> Reads:
        """What of its model makes the result."""
        return "condition"

    def resolve(
        self,
        entry: ModelEntry,
        settings: Settings,
        conditions: ConditionInfo | None = None,
        evaluation: EvaluationAssets | None = None,
    ) -> Request:
        """The request with every default filled in: all that its job depends on besides the model's files.

        entry: the model that it names. settings: the limits. conditions: what is known of the uploaded conditions that
        it names. evaluation: the registered networks and sets of images.
        Raises InvalidRequest with everything that the model, the limits or what is registered do not allow.
        """
        return self

    def evaluated_with(self, entry: ModelEntry, evaluation: EvaluationAssets) -> Mapping[str, Path | str]:
        """What the samples of a resolved request are measured with, by name: where it lies, or what it is.

        Raises FileNotFoundError for what is not there.
        """
        return {}
