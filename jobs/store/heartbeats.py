"""Which workers are alive: each says so every few seconds."""

from __future__ import annotations

from typing import cast

import redis
from pydantic import BaseModel

from jobs.store.scripts import PREFIX

__all__ = ["WorkerInfo", "WorkerRegistry"]

ALIVE_SECONDS = 15.0
FORGET_SECONDS = 3600.0


class WorkerInfo(BaseModel):
    """A worker process."""

    name: str
    device: str


class WorkerRegistry:
    """The roll of workers, by the Redis server's clock."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def beat(self, worker: WorkerInfo) -> None:
        """Say that a worker is alive. Raises redis.RedisError."""
        now = self._now()
        pipeline = self._redis.pipeline()
        pipeline.zremrangebyscore(PREFIX + "workers", "-inf", now - FORGET_SECONDS)
        pipeline.zadd(PREFIX + "workers", {worker.model_dump_json(): now})
        pipeline.execute()

    def leave(self, worker: WorkerInfo) -> None:
        """Say that a worker stops. Raises redis.RedisError."""
        self._redis.zrem(PREFIX + "workers", worker.model_dump_json())

    def alive(self) -> list[WorkerInfo]:
        """The workers heard of lately. Raises redis.RedisError."""
        heard = self._redis.zrangebyscore(PREFIX + "workers", self._now() - ALIVE_SECONDS, "+inf")
        return [WorkerInfo.model_validate_json(cast(bytes, member)) for member in heard]

    def _now(self) -> float:
        seconds, microseconds = self._redis.time()
        return seconds + microseconds / 1e6
