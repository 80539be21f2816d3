"""Finished parts of jobs, kept for reuse: a shard that is no longer stored is made again.

A shard is bytes under a key that is computed from everything the bytes depend on. A worker that makes one takes a lease
on it, so that other workers make other shards. Both only save work: a shard that is made twice is the same shard.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import redis
import structlog
from pydantic import ValidationError
from redis.exceptions import LockError
from redis.lock import Lock

from jobs.settings import Settings
from jobs.storage.artifacts import Artifact, ArtifactStore
from jobs.store.heartbeats import PeriodicThread
from jobs.store.scripts import PREFIX

__all__ = ["SHARD_PREFIX", "ShardLease", "ShardStore"]

RENEWALS_A_LEASE = 4
SHARD_PREFIX = f"{PREFIX}shard:"
"""What the keys of all shards in Redis begin with."""

log = structlog.get_logger(__name__)


class ShardStore:
    """Shards by key. This is a cache: a shard that is not found is made again."""

    def __init__(self, settings: Settings, client: redis.Redis, artifacts: ArtifactStore) -> None:
        self._redis = client
        self._artifacts = artifacts
        self._seconds = settings.shard_ttl_seconds
        self._lease_seconds = settings.lease_seconds

    def get(self, key: str) -> bytes | None:
        """The shard of this key, checked, or None. Raises redis.RedisError and ArtifactsUnavailable."""
        artifact = _artifact(self._redis.get(_shard_key(key)))
        if artifact is not None:
            with contextlib.suppress(FileNotFoundError):
                return self._artifacts.read(artifact)
        return None

    def put(self, key: str, content: bytes) -> None:
        """Store a shard under this key, for `shard_ttl_seconds`. Raises ArtifactsUnavailable."""
        artifact = self._artifacts.put(content, "application/octet-stream", "shards")
        with contextlib.suppress(redis.RedisError):
            self._redis.set(_shard_key(key), artifact.model_dump_json(), ex=self._seconds)

    def present(self, keys: Sequence[str]) -> set[str]:
        """The keys whose shards are stored; these are kept for another `shard_ttl_seconds`.

        Raises redis.RedisError and ArtifactsUnavailable.
        """
        notes = self._redis.mget([_shard_key(key) for key in keys]) if keys else []
        noted = {key: artifact for key, note in zip(keys, notes, strict=True) if (artifact := _artifact(note))}
        files = self._artifacts.present(set(noted.values()))
        stored = {key for key, artifact in noted.items() if artifact in files}
        renewal = self._redis.pipeline(transaction=False)
        for key in stored:
            renewal.expire(_shard_key(key), self._seconds)
        renewal.execute()
        return stored

    def lease(self, key: str) -> ShardLease | None:
        """The lease of this key's shard, or None if another worker holds it. Raises redis.RedisError."""
        lock = self._redis.lock(f"{PREFIX}shard-lease:{key}", timeout=self._lease_seconds, thread_local=False)
        return ShardLease(lock, self._lease_seconds) if lock.acquire(blocking=False) else None


class ShardLease:
    """A lease of a shard: held from the start, renewed by a thread inside its context, and released at the end."""

    def __init__(self, lock: Lock, seconds: float) -> None:
        self._lock = lock
        self._renewal = PeriodicThread(self._renew, seconds / RENEWALS_A_LEASE, "shard-lease")

    def __enter__(self) -> ShardLease:
        self._renewal.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._renewal.stop()
        with contextlib.suppress(redis.RedisError, LockError):
            self._lock.release()

    def _renew(self) -> None:
        try:
            self._lock.reacquire()
        except LockError:
            pass  # it expired: another worker may make the same shard, which does no harm
        except redis.RedisError as error:
            log.warning("lease of a shard not renewed", reason=str(error))


def _artifact(note: bytes | str | None) -> Artifact | None:
    """The file of a shard by its note in Redis; None where there is no note that can be read."""
    try:
        return None if note is None else Artifact.model_validate_json(note)
    except ValidationError:
        return None


def _shard_key(key: str) -> str:
    return f"{SHARD_PREFIX}{key}"
