"""The models that the job `compact` made, and from which model each was made.

Their records are kept in Redis, in the hash `compacted` by name, until they are deleted; their checkpoints are
artifacts.
"""

from __future__ import annotations

import redis

from jobs.registry.compaction import Compaction
from jobs.storage.artifact import Artifact
from jobs.store.connection import text
from jobs.store.scripts import PREFIX
from tailprune.spec import InputError

__all__ = ["Compacted", "CompactedStore"]

KEY = PREFIX + "compacted"


class Compacted(Compaction):
    """A compacted model, as it is stored."""

    parameters: int
    checkpoint: Artifact
    family: str | None = None
    """The family of the original model at that time. None, like the key, in records from before these were kept."""
    key: str | None = None
    """The key of the job that made it."""

    @property
    def prunable(self) -> bool:
        """Whether its condition vectors can be pruned as those of the original model.

        With the mean in place of removed components they cannot: a prune does not take that into account.
        """
        return self.time_columns == 0


class CompactedStore:
    """The compacted models of one Redis server. Methods raise redis.RedisError if it does not answer."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def put(self, name: str, model: Compacted) -> None:
        """Store a model under its name, in place of one that the same job made before.

        Raises InputError if the model of another job has this name.
        """
        record = model.model_dump_json()
        if self._redis.hsetnx(KEY, name, record):
            return
        before = self.get(name)
        if before is not None and before.key != model.key:
            raise InputError(
                f"{name} is already the name of a model that another request made; change the request a little, such "
                "as its keep, to get another name"
            )
        self._redis.hset(KEY, name, record)

    def get(self, name: str) -> Compacted | None:
        """The model of this name, or None."""
        record = self._redis.hget(KEY, name)
        return None if record is None else Compacted.model_validate_json(text(record))

    def has(self, name: str) -> bool:
        """Whether there is a model of this name."""
        return bool(self._redis.hexists(KEY, name))

    def remove(self, name: str) -> bool:
        """Delete a model; False if there is none. Its checkpoint stays, since other records may name it."""
        return bool(self._redis.hdel(KEY, name))

    def all(self) -> dict[str, Compacted]:
        """All compacted models by name, oldest first."""
        records = self._redis.hgetall(KEY)
        models = {text(name): Compacted.model_validate_json(text(record)) for name, record in records.items()}
        return dict(sorted(models.items(), key=lambda item: item[1].created))
