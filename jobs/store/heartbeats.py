"""Threads that call a function every few seconds, and the registry of workers that are alive."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Literal, Self, cast

import redis
import structlog

from jobs.store.scripts import PREFIX
from jobs.views import WorkerInfo

__all__ = ["PeriodicThread", "WorkerRegistry", "end_process"]

ALIVE_SECONDS = 15.0
ALIVE_BEATS = 3
"""A worker counts as alive for this many pauses between heartbeats, and for at least ALIVE_SECONDS."""
FORGET_SECONDS = 3600.0

log = structlog.get_logger(__name__)


def end_process(why: str) -> None:
    """End this process at once, for whatever started it to start it anew: it can no longer do its work."""
    try:
        log.critical("the process ends", why=why)
    finally:
        os._exit(1)


class PeriodicThread:
    """Calls a function periodically, from `start` to `stop`, or as a context manager.

    An error of the function is logged, and the calls continue.

    call: the function.
    seconds: the pause between two calls.
    name: the name of the thread.
    at_once: whether the first call is at the start; by default it is `seconds` later.
    vital: whether the process ends where the thread cannot start, or dies; False by default.
    """

    def __init__(
        self, call: Callable[[], object], seconds: float, name: str, *, at_once: bool = False, vital: bool = False
    ) -> None:
        self._call = call
        self._seconds = seconds
        self._at_once = at_once
        self._vital = vital
        self._called = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._called = time.monotonic()
        try:
            self._thread.start()
        except RuntimeError as error:  # the system has no more threads
            if self._vital:
                end_process(f"the thread {self._thread.name} cannot start: {error}")
            raise

    def stop(self) -> None:
        """Stop the thread, and wait for a call that is running."""
        self._over.set()
        self._thread.join()

    @property
    def silent_seconds(self) -> float:
        """For how many seconds no call has ended."""
        return time.monotonic() - self._called

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            self._repeat()
        except BaseException as error:  # also a MemoryError where an error is logged
            if self._vital:
                end_process(f"the thread {self._thread.name} died: {error!r}")
            raise

    def _repeat(self) -> None:
        pause = 0.0 if self._at_once else self._seconds
        while not self._over.wait(pause):
            pause = self._seconds
            try:
                self._call()
            except Exception:  # if the thread ended, leases would expire and the worker would seem dead
                log.exception("upkeep failed", thread=self._thread.name)
            self._called = time.monotonic()


class WorkerRegistry:
    """The registry of workers that are alive, by the clock of the Redis server.

    client: of the server.
    beat_seconds: the longest pause between two heartbeats of a worker.
    kind: `workers` (the default) for those that do jobs, `callers` for those that call webhooks.
    """

    def __init__(
        self, client: redis.Redis, beat_seconds: float, kind: Literal["workers", "callers"] = "workers"
    ) -> None:
        self._redis = client
        self._key = PREFIX + kind
        self._alive_seconds = max(ALIVE_SECONDS, ALIVE_BEATS * beat_seconds)

    def beat(self, worker: WorkerInfo) -> None:
        """Record that a worker is alive. Raises redis.RedisError."""
        now = self._now()
        pipeline = self._redis.pipeline()
        pipeline.zremrangebyscore(self._key, "-inf", now - max(FORGET_SECONDS, self._alive_seconds))
        pipeline.zremrangebyscore(self._key, now + 1, "+inf")  # of before the clock was set back
        pipeline.zadd(self._key, {worker.model_dump_json(): now})
        pipeline.execute()

    def leave(self, worker: WorkerInfo) -> None:
        """Record that a worker has stopped. Raises redis.RedisError."""
        self._redis.zrem(self._key, worker.model_dump_json())

    def alive(self) -> list[WorkerInfo]:
        """The workers that were heard of lately. Raises redis.RedisError."""
        now = self._now()
        members = self._redis.zrangebyscore(self._key, now - self._alive_seconds, now + 1)
        return [WorkerInfo.model_validate_json(cast(bytes, member)) for member in members]

    def _now(self) -> float:
        seconds, microseconds = self._redis.time()
        return seconds + microseconds / 1e6
