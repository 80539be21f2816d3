"""Threads that call a function every few seconds, and the registry of workers that are alive."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self, cast

import redis
import structlog
from pydantic import BaseModel, Field

from jobs.store.scripts import PREFIX

__all__ = ["PeriodicThread", "WorkerInfo", "WorkerRegistry"]

ALIVE_SECONDS = 15.0
FORGET_SECONDS = 3600.0

log = structlog.get_logger(__name__)


class PeriodicThread:
    """Calls a function periodically, from `start` to `stop`, or as a context manager.

    An error of the function is logged, and the calls continue.

    call: the function.
    seconds: the pause between two calls.
    name: the name of the thread.
    at_once: whether the first call is at the start; by default it is `seconds` later.
    """

    def __init__(self, call: Callable[[], object], seconds: float, name: str, *, at_once: bool = False) -> None:
        self._call = call
        self._seconds = seconds
        self._at_once = at_once
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, and wait for a call that is running."""
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
            except Exception:  # if the thread ended, leases would expire and the worker would seem dead
                log.exception("upkeep failed", thread=self._thread.name)


class WorkerInfo(BaseModel):
    """A worker process."""

    name: str = Field(description="The name of the worker.")
    device: str = Field(description="The device on which it computes, such as cpu or cuda:0.")


class WorkerRegistry:
    """The registry of workers that are alive, by the clock of the Redis server."""

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
        """The workers whose last heartbeat is at most ALIVE_SECONDS old. Raises redis.RedisError."""
        members = self._redis.zrangebyscore(PREFIX + "workers", self._now() - ALIVE_SECONDS, "+inf")
        return [WorkerInfo.model_validate_json(cast(bytes, member)) for member in members]

    def _now(self) -> float:
        seconds, microseconds = self._redis.time()
        return seconds + microseconds / 1e6
