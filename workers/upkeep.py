"""What a worker does besides jobs: it says that it is alive, and brings back what lost workers left behind."""

from __future__ import annotations

import contextlib
import threading

import redis
import structlog

from jobs.store.heartbeats import WorkerInfo, WorkerRegistry
from jobs.store.leases import LeaseStore

__all__ = ["Heartbeat"]

log = structlog.get_logger(__name__)


class Heartbeat:
    """A thread that beats and sweeps every `sweep_seconds`, between `start` and `stop`."""

    def __init__(self, leases: LeaseStore, roll: WorkerRegistry, worker: WorkerInfo) -> None:
        self._leases = leases
        self._roll = roll
        self._worker = worker
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_up, name="upkeep", daemon=True)

    def start(self) -> None:
        """Begins to beat and sweep."""
        self._thread.start()

    def stop(self) -> None:
        """Ends, and strikes the worker off the roll."""
        self._over.set()
        self._thread.join()
        with contextlib.suppress(redis.RedisError):
            self._roll.leave(self._worker)

    def _keep_up(self) -> None:
        while True:
            try:
                self._roll.beat(self._worker)
                self._leases.sweep()
            except redis.RedisError as error:
                log.warning("Redis cannot be reached", reason=str(error))
            except Exception:  # a worker without its upkeep would look dead while it works
                log.exception("upkeep failed")
            if self._over.wait(self._leases.settings.sweep_seconds):
                return
