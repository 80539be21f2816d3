"""Parts of a job that are done: whoever takes the job up again finds them, and goes on from there."""

from __future__ import annotations

import contextlib

import redis

from jobs.artifacts import Artifact, ArtifactStore
from jobs.scripts import PREFIX
from jobs.settings import Settings

__all__ = ["ShardStore"]


class ShardStore:
    """Bytes by the key of the shard they are. A cache: what is not found is made anew."""

    def __init__(self, settings: Settings, client: redis.Redis, artifacts: ArtifactStore) -> None:
        self._redis = client
        self._artifacts = artifacts
        self._seconds = settings.cache_ttl_seconds

    def get(self, key: str) -> bytes | None:
        """What was kept under this key, or None."""
        with contextlib.suppress(redis.RedisError, FileNotFoundError):
            note = self._redis.get(_shard_key(key))
            if note is not None:
                return self._artifacts.read(Artifact.model_validate_json(note))
        return None

    def put(self, key: str, content: bytes) -> None:
        """Keep bytes under this key for a while."""
        artifact = self._artifacts.put(content, "application/octet-stream")
        with contextlib.suppress(redis.RedisError):
            self._redis.set(_shard_key(key), artifact.model_dump_json(), ex=self._seconds)


def _shard_key(key: str) -> str:
    return f"{PREFIX}shard:{key}"
