"""What a worker does every few seconds, on a thread beside its work; and which workers are alive, by that."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self, cast

import redis
import structlog
from pydantic import BaseModel

from jobs.store.scripts import PREFIX

__all__ = ["PeriodicThread", "WorkerInfo", "WorkerRegistry"]

ALIVE_SECONDS = 15.0
FORGET_SECONDS = 3600.0

log = structlog.get_logger(__name__)


class PeriodicThread:
    """Calls a function every so many seconds, from `start` to `stop` or while it is a context.

    An error of the function is logged, and the calls go on.

    name: of the thread.
    at_once: whether the first call comes at the start, or `seconds` after it.
    """

    def __init__(self, call: Callable[[], object], seconds: float, name: str, *, at_once: bool = False) -> None:
        self._call = call
        self._seconds = seconds
        self._at_once = at_once
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to call."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the call that is under way."""
        self._over.set()
        self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _run(self) -> None:
        pause = 0.0 if self._at_once else self._seconds
        while not self._over.wait(pause):
            pause = self._seconds
            try:
                self._call()
            except Exception:  # without it a lease would lapse, or a worker look dead, while it works
                log.exception("upkeep failed", thread=self._thread.name)


class WorkerInfo(BaseModel):
    """A worker process."""

    name: str
    device: str


class WorkerRegistry:
    """The workers that are alive, by the Redis server's clock."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def beat(self, worker: WorkerInfo) -> None:
        """Record that a worker is alive. Raises redis.RedisError."""
        now = self._now()
        pipeline = self._redis.pipeline()
        pipeline.zremrangebyscore(PREFIX + "workers", "-inf", now - FORGET_SECONDS)
        pipeline.zadd(PREFIX + "workers", {worker.model_dump_json(): now})
        pipeline.execute()

    def leave(self, worker: WorkerInfo) -> None:
        """Record that a worker has stopped. Raises redis.RedisError."""
        self._redis.zrem(PREFIX + "workers", worker.model_dump_json())

    def alive(self) -> list[WorkerInfo]:
        """The workers that beat in the last ALIVE_SECONDS. Raises redis.RedisError."""
        members = self._redis.zrangebyscore(PREFIX + "workers", self._now() - ALIVE_SECONDS, "+inf")
        return [WorkerInfo.model_validate_json(cast(bytes, member)) for member in members]

    def _now(self) -> float:
        seconds, microseconds = self._redis.time()
        return seconds + microseconds / 1e6
