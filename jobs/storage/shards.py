"""Parts of jobs that are done: whoever needs one finds it, and makes it anew where it is gone.

A shard is bytes under a key that says all it was made of. Who is about to make one takes a lease on it, so that others
make another meanwhile. Both are for saving work alone: a shard made twice is the same shard.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import redis
import structlog
from redis.exceptions import LockError
from redis.lock import Lock

from jobs.settings import Settings
from jobs.storage.artifacts import Artifact, ArtifactStore
from jobs.store.heartbeats import PeriodicThread
from jobs.store.scripts import PREFIX

__all__ = ["ShardLease", "ShardStore"]

RENEWALS_A_LEASE = 4

log = structlog.get_logger(__name__)


class ShardStore:
    """Bytes by the key of the shard they are. A cache: what is not found is made anew."""

    def __init__(self, settings: Settings, client: redis.Redis, artifacts: ArtifactStore) -> None:
        self._redis = client
        self._artifacts = artifacts
        self._seconds = settings.shard_ttl_seconds
        self._lease_seconds = settings.lease_seconds

    def get(self, key: str) -> bytes | None:
        """What was kept under this key, or None where it is gone. Raises redis.RedisError."""
        note = self._redis.get(_shard_key(key))
        if note is not None:
            with contextlib.suppress(FileNotFoundError):
                return self._artifacts.read(Artifact.model_validate_json(note))
        return None

    def put(self, key: str, content: bytes) -> None:
        """Keep bytes under this key for a while."""
        artifact = self._artifacts.put(content, "application/octet-stream")
        with contextlib.suppress(redis.RedisError):
            self._redis.set(_shard_key(key), artifact.model_dump_json(), ex=self._seconds)

    def present(self, keys: Sequence[str]) -> set[str]:
        """Those of the keys that something is kept under; it is kept as long again. Raises redis.RedisError."""
        notes = self._redis.mget([_shard_key(key) for key in keys]) if keys else []
        there = {
            key
            for key, note in zip(keys, notes, strict=True)
            if note is not None and self._artifacts.exists(Artifact.model_validate_json(note))
        }
        renewal = self._redis.pipeline(transaction=False)
        for key in there:
            renewal.expire(_shard_key(key), self._seconds)
        renewal.execute()
        return there

    def lease(self, key: str) -> ShardLease | None:
        """The right to make what is kept under this key; None where somebody else has it.

        Raises redis.RedisError.
        """
        lock = self._redis.lock(f"{PREFIX}shard-lease:{key}", timeout=self._lease_seconds, thread_local=False)
        return ShardLease(lock, self._lease_seconds) if lock.acquire(blocking=False) else None


class ShardLease:
    """Held from the start, renewed by a thread while it is a context, and given back at its end."""

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
            pass  # it lapsed: somebody else may make the shard too, which does no harm
        except redis.RedisError as error:
            log.warning("lease of a shard not renewed", reason=str(error))


def _shard_key(key: str) -> str:
    return f"{PREFIX}shard:{key}"
