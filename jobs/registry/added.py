"""The models that `POST /models` added to those of the registry's file, without a restart.

Their records are kept in Redis, in the hash `added` by name, until they are deleted; their files stay where they are.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import redis
from pydantic import BaseModel, ConfigDict

from jobs.registry.folders import ModelFolders
from jobs.registry.models import ModelEntry
from jobs.store.connection import text
from jobs.store.scripts import PREFIX
from tailprune.spec import InputError
from tailprune.spec.hub import is_hub

__all__ = ["Added", "AddedStore", "ModelExists"]

KEY = PREFIX + "added"


class ModelExists(InputError):
    """A model has this name, so that no other can be added under it."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is a model {name!r} already: of the registry's file, of another POST /models, or compacted; choose "
            "another name, or delete that model first"
        )


class Added(BaseModel):
    """An added model, as it is stored."""

    model_config = ConfigDict(frozen=True)

    table: dict[str, Any]
    """Its entry, as the registry's file would have it, with absolute paths."""
    folder: Path
    """The folder from which its files are named to clients: the one of `TAILPRUNE_MODEL_FOLDERS` that it is in."""
    created: datetime
    key: str
    """The key of the job that added it."""

    def entry(self, name: str, folders: ModelFolders, hub_cache: Path | None) -> ModelEntry:
        """The model of this record. Raises pydantic.ValidationError for what no model has.

        name: of the model.
        folders: those that its files must be in.
        hub_cache: as in `Settings.hub_cache`.
        """
        checkpoint = str(self.table.get("checkpoint"))
        obtain = f"put it back under {self.folder}, which TAILPRUNE_MODEL_FOLDERS has to name"
        if is_hub(checkpoint):
            obtain = f"python -m tailprune fetch {checkpoint}"
        return ModelEntry(
            name=name,
            folder=self.folder,
            hub_cache=hub_cache,
            within=folders,
            added=self.created,
            obtain=f"{obtain}, on all machines, or DELETE /models/{name}",
            source="added by POST /models",
            **self.table,
        )


class AddedStore:
    """The added models of one Redis server. Methods raise redis.RedisError if it does not answer."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def put(self, name: str, model: Added) -> None:
        """Store a model under its name, in place of one that the same job stored before.

        Raises ModelExists if another job has given this name to a model.
        """
        record = model.model_dump_json()
        if self._redis.hsetnx(KEY, name, record):
            return
        before = self.get(name)
        if before is not None and before.key != model.key:
            raise ModelExists(name)
        self._redis.hset(KEY, name, record)

    def get(self, name: str) -> Added | None:
        """The model of this name, or None."""
        record = self._redis.hget(KEY, name)
        return None if record is None else Added.model_validate_json(text(record))

    def names(self) -> list[str]:
        """The names of all added models, sorted."""
        return sorted(map(text, self._redis.hkeys(KEY)))

    def remove(self, name: str) -> bool:
        """Delete a model; False if there is none. Its files stay."""
        return bool(self._redis.hdel(KEY, name))

    def all(self) -> dict[str, Added]:
        """All added models by name, oldest first."""
        records = self._redis.hgetall(KEY)
        models = {text(name): Added.model_validate_json(text(record)) for name, record in records.items()}
        return dict(sorted(models.items(), key=lambda item: item[1].created))
