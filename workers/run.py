"""A claimed job while it runs: its lease is renewed, its progress told, and it stops when it should.

A thread does all that speaks to Redis, so the sampling loop never waits for the network: a step only leaves its
number behind, and picks up whether to go on.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import redis
import structlog
from pydantic import BaseModel

from jobs.artifacts import Artifact
from jobs.store import Claim, JobStore

__all__ = ["Cancelled", "HandedOver", "LeaseLost", "Product", "Run", "Shutdown", "Stopped"]

BEAT_SECONDS = 0.2
RENEWALS_A_LEASE = 4

log = structlog.get_logger(__name__)

Result = TypeVar("Result", bound=BaseModel, covariant=True)


@dataclass(frozen=True)
class Product(Generic[Result]):
    """What a job made."""

    result: Result
    artifacts: dict[str, Artifact] = field(default_factory=dict)


class Stopped(Exception):
    """Raised inside a job at its next step: it is not to go on."""


class Cancelled(Stopped):
    """Somebody cancelled the job."""


class LeaseLost(Stopped):
    """Another worker has the job now: nothing may be written any more."""


class HandedOver(Stopped):
    """The worker stops, and the job would take too long to finish first."""


class Shutdown:
    """Whether the worker was asked to stop, and how long its job may still take."""

    def __init__(self, handover_seconds: float) -> None:
        self._handover_seconds = handover_seconds
        self._deadline: float | None = None

    def begin(self) -> None:
        """Called when the worker is asked to stop. Takes no lock: it may run in a signal handler."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self._handover_seconds

    @property
    def is_due(self) -> bool:
        """Whether the job's time is up."""
        return self._deadline is not None and time.monotonic() >= self._deadline


class Run:
    """Use as a context around the work, and call `step` from within."""

    def __init__(self, store: JobStore, claim: Claim, shutdown: Shutdown) -> None:
        self._store = store
        self._claim = claim
        self._shutdown = shutdown
        self.progress: tuple[int, int, str] | None = None
        self._stop: Stopped | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._accompany, name=f"job-{claim.job.id}", daemon=True)

    def __enter__(self) -> Run:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def step(self, done: int, total: int, unit: str) -> None:
        """Notes how far the job is. Raises Stopped where it is not to go on."""
        self.progress = (done, total, unit)
        self.check()

    def check(self) -> None:
        """Raises Stopped where the job is not to go on."""
        if self._stop is not None:
            raise self._stop

    def _accompany(self) -> None:
        pause = self._store.settings.lease_seconds / RENEWALS_A_LEASE
        told = None
        due = time.monotonic() + pause
        while not self._over.wait(BEAT_SECONDS):
            if time.monotonic() >= due:
                due = time.monotonic() + pause
                self._renew()
            if self._stop is None:
                self._stop = self._reason_to_stop()
            if (progress := self.progress) is not None and progress != told:
                told = progress
                self._store.report(self._claim, *progress)

    def _renew(self) -> None:
        try:
            held = self._store.renew(self._claim)
        except redis.RedisError as error:  # held until somebody who can reach Redis says otherwise
            log.warning("lease not renewed", reason=str(error))
            return
        if not held:
            self._stop = LeaseLost()

    def _reason_to_stop(self) -> Stopped | None:
        if self._shutdown.is_due:
            return HandedOver()
        return Cancelled() if self._store.is_cancelled(self._claim) else None
