"""A claimed job while it runs: its lease is renewed, its progress told, and it stops when it should.

A thread does all that speaks to Redis, so the sampling loop never waits for the network: a step only leaves its
number behind, and picks up whether to go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar

import redis
import structlog
from pydantic import BaseModel

from jobs.artifacts import Artifact
from jobs.store import Claim, JobStore

__all__ = ["Accompanied", "Cancelled", "HandedOver", "LeaseLost", "PartRun", "Product", "Run", "Shutdown", "Stopped"]

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


class Accompanied:
    """Work that a thread looks after. Use as a context around it, and call `check` from within."""

    def __init__(self, name: str) -> None:
        self._stop: Stopped | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._accompany, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def check(self) -> None:
        """Raises Stopped where the work is not to go on."""
        if self._stop is not None:
            raise self._stop

    def _accompany(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            if self._stop is None:
                self._stop = self._reason_to_stop()
            self._beat()

    def _reason_to_stop(self) -> Stopped | None:
        raise NotImplementedError

    def _beat(self) -> None:
        """What else is to be done every moment; nothing here."""


class Run(Accompanied):
    """A claimed job. Use as a context around the work, and call `step` from within."""

    def __init__(self, store: JobStore, claim: Claim, shutdown: Shutdown) -> None:
        super().__init__(f"job-{claim.job.id}")
        self._store = store
        self._claim = claim
        self._shutdown = shutdown
        self.progress: tuple[int, int, str] | None = None
        self._told: tuple[int, int, str] | None = None
        self._pause = store.settings.lease_seconds / RENEWALS_A_LEASE
        self._due = time.monotonic() + self._pause

    def step(self, done: int, total: int, unit: str) -> None:
        """Notes how far the job is. Raises Stopped where it is not to go on."""
        self.progress = (done, total, unit)
        self.check()

    def publish(self, result: BaseModel) -> None:
        """Shows what is known of the result so far."""
        self._store.publish(self._claim, result.model_dump(mode="json"))

    def invite(self, shards: Sequence[dict[str, Any]]) -> None:
        """Offers shards of the job to other workers."""
        self._store.invite(self._claim, shards)

    @property
    def offers_waiting(self) -> bool:
        """Whether shards that were offered, of any job, are still to be taken."""
        return self._store.offers_waiting()

    def _beat(self) -> None:
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + self._pause
            self._renew()
        if (progress := self.progress) is not None and progress != self._told:
            self._told = progress
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


class PartRun(Accompanied):
    """A shard of a job that another worker holds: it stops when that job does, and when this worker is to stop."""

    def __init__(self, store: JobStore, job_id: str, shutdown: Shutdown) -> None:
        super().__init__(f"shard-{job_id}")
        self._store = store
        self._job_id = job_id
        self._shutdown = shutdown

    def _reason_to_stop(self) -> Stopped | None:
        if self._shutdown.is_due:
            return HandedOver()
        return None if self._store.is_wanted(self._job_id) else Cancelled()
