"""Models that the job `compact` made: which there are, and what each was made of.

They are kept in Redis, in the hash `compacted` by name, until they are removed; their checkpoints are artifacts.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import redis
from pydantic import BaseModel, ConfigDict, Field

from jobs.storage.artifacts import Artifact
from jobs.store.connection import text
from jobs.store.scripts import PREFIX
from tailprune.spec import InputError

__all__ = ["Compacted", "CompactedStore", "Compaction", "Rule", "compacted_name"]

KEY = PREFIX + "compacted"
KEY_LETTERS = 16
"""So much of its job's key tells a compacted model from others of the same model."""

Rule = Literal["threshold", "variance", "directions"]
"""By what a compaction chooses what it keeps."""


class Compaction(BaseModel):
    """What a model was compacted from, and how."""

    model_config = ConfigDict(frozen=True)

    model: str = Field(description="The model that it was made of.")
    model_digest: str = Field(description="sha256 of that model's checkpoint.")
    by: Rule = Field(description="By what it was chosen what stays.")
    fill: Literal["zero", "mean"] = Field(description="What stands in the place of what was removed.")
    components: int = Field(description="The width d of the condition vectors, which is still theirs.")
    kept: int = Field(description="How many components, or principal directions, AdaLN still reads.")
    time_columns: int = Field(description="How many columns besides tell AdaLN of the mean, by the time.")
    created: datetime


class Compacted(Compaction):
    """A compacted model, as it is stored."""

    parameters: int
    checkpoint: Artifact
    family: str | None = None
    """That of the model it was made of, when it was. None in a record from before it was kept, as is the key."""
    key: str | None = None
    """Of the job that made it."""

    @property
    def prunable(self) -> bool:
        """Whether its condition vectors can be pruned as those of the model that it was made of.

        A prune knows nothing of a mean that stands beside them.
        """
        return self.time_columns == 0


def compacted_name(model: str, job_key: str) -> str:
    """What the model that a job makes of another is called."""
    return f"{model}-compact-{job_key[:KEY_LETTERS]}"


class CompactedStore:
    """The compacted models of one Redis server. Methods raise redis.RedisError where it is gone."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def put(self, name: str, made: Compacted) -> None:
        """Keeps a model under its name, in place of what the same job made before.

        Raises ValueError where the name is that of another job's model.
        """
        record = made.model_dump_json()
        if self._redis.hsetnx(KEY, name, record):
            return
        before = self.get(name)
        if before is not None and before.key != made.key:
            raise InputError(
                f"{name} is the name of a model that another request made, and is not given twice: change the request "
                "in something, such as keep"
            )
        self._redis.hset(KEY, name, record)

    def get(self, name: str) -> Compacted | None:
        """The model of this name; None where there is none."""
        record = self._redis.hget(KEY, name)
        return None if record is None else Compacted.model_validate_json(text(record))

    def has(self, name: str) -> bool:
        """Whether there is a model of this name."""
        return bool(self._redis.hexists(KEY, name))

    def remove(self, name: str) -> bool:
        """Forgets a model. False where there is none of this name. Its checkpoint stays: other records may name it."""
        return bool(self._redis.hdel(KEY, name))

    def all(self) -> dict[str, Compacted]:
        """All by name, the oldest first."""
        records = self._redis.hgetall(KEY)
        made = {text(name): Compacted.model_validate_json(text(record)) for name, record in records.items()}
        return dict(sorted(made.items(), key=lambda item: item[1].created))
