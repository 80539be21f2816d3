"""What keeps a worker's claims alive: leases are renewed, progress is written, each job stops when it should.

A thread does all that speaks to Redis, so the sampling loop never waits for the network: a step only leaves its
number behind, and picks up whether to go on. Another thread shows that the worker is alive, and brings back what
lost workers left behind.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar

import redis
import structlog
from pydantic import BaseModel

from jobs.records import Job
from jobs.storage.artifacts import Artifact
from jobs.store.connection import retry_while_unavailable
from jobs.store.heartbeats import PeriodicThread, WorkerInfo, WorkerRegistry
from jobs.store.leases import Claim, LeaseStore

__all__ = [
    "Batch",
    "Cancelled",
    "Heartbeat",
    "Interruptible",
    "LeaseLost",
    "OnDone",
    "Preempted",
    "Product",
    "Run",
    "Shutdown",
    "Stopped",
    "TaskRun",
]  # fmt: skip

BEAT_SECONDS = 0.2
RETRY_SECONDS = 0.2
RENEWALS_A_LEASE = 4

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")
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


class Preempted(Stopped):
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


class Interruptible:
    """Work that a watch looks after. Call `check` from within."""

    stop: Stopped | None = None
    """Why it is not to go on, once that is known."""

    def check(self) -> None:
        """Raises Stopped where the work is not to go on."""
        if self.stop is not None:
            raise self.stop

    def retry(self, call: Callable[[], Answer]) -> Answer:
        """What a call answers, once Redis can be reached. Raises Stopped where the work is not to go on."""
        return retry_while_unavailable(call, self._before_pause, pauses=(RETRY_SECONDS, RETRY_SECONDS))

    def _before_pause(self, error: BaseException, _: float) -> None:
        log.warning("Redis cannot be reached; the job waits", reason=str(error))
        self.check()


class Run(Interruptible):
    """A claimed job. Call `step` from within the work."""

    def __init__(self, leases: LeaseStore, claim: Claim) -> None:
        self.claim = claim
        self.progress: tuple[int, int, str] | None = None
        self._leases = leases
        self._reported: tuple[int, int, str] | None = None

    @property
    def job(self) -> Job:
        """The job, as it was claimed."""
        return self.claim.job

    def step(self, done: int, total: int, unit: str) -> None:
        """Notes how far the job is. Raises Stopped where it is not to go on."""
        self.progress = (done, total, unit)
        self.check()

    def publish(self, result: BaseModel) -> None:
        """Shows what is known of the result so far."""
        self._leases.publish(self.claim, result.model_dump(mode="json"))

    def offer(self, parts: Sequence[dict[str, Any]]) -> None:
        """Offers parts of the job to other workers."""
        self._leases.offer(self.claim, parts)

    @property
    def offers_waiting(self) -> bool:
        """Whether parts that were offered, of any job, are still to be taken."""
        return self._leases.offers_waiting()

    def report(self) -> None:
        """Writes how far the job is, where that is news."""
        if (progress := self.progress) is not None and progress != self._reported:
            self._reported = progress
            self._leases.report(self.claim, *progress)

    def renew(self) -> None:
        """Holds on to the job for another while."""
        try:
            held = self._leases.renew(self.claim)
        except redis.RedisError as error:  # held until somebody who can reach Redis says otherwise
            log.warning("lease not renewed", job_id=self.job.id, reason=str(error))
            return
        if not held:
            self.stop = LeaseLost()


OnDone = Callable[[Run, Product[BaseModel] | Exception], None]
"""Called with what a job made, or the error that it ended with."""


class Batch:
    """Claimed jobs that are done together. Use as a context around the work."""

    def __init__(self, leases: LeaseStore, claims: Sequence[Claim], shutdown: Shutdown) -> None:
        self.runs = [Run(leases, claim) for claim in claims]
        self._held = list(self.runs)
        self._leases = leases
        self._shutdown = shutdown
        self._pause = leases.settings.lease_seconds / RENEWALS_A_LEASE
        self._due = time.monotonic() + self._pause
        self._thread = PeriodicThread(self._look, BEAT_SECONDS, f"job-{claims[0].job.id}")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.stop()

    def leave(self, run: Run) -> None:
        """What became of a job is written: it is looked after no longer."""
        self._held.remove(run)

    def _look(self) -> None:
        held = list(self._held)
        self._stop_some([run for run in held if run.stop is None])
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + self._pause
            for run in held:
                run.renew()
        for run in held:
            run.report()

    def _stop_some(self, runs: Sequence[Run]) -> None:
        if self._shutdown.is_due:
            for run in runs:
                run.stop = Preempted()
            return
        cancelled = self._leases.cancelled_of([run.claim for run in runs])
        for run in runs:
            if run.claim in cancelled:
                run.stop = Cancelled()


class TaskRun(Interruptible):
    """A part of a job that another worker holds: it stops when that job does, and when this worker is to stop."""

    def __init__(self, leases: LeaseStore, job_id: str, shutdown: Shutdown) -> None:
        self._leases = leases
        self._job_id = job_id
        self._shutdown = shutdown
        self._thread = PeriodicThread(self._look, BEAT_SECONDS, f"shard-{job_id}")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.stop()

    def _look(self) -> None:
        if self.stop is not None:
            return
        if self._shutdown.is_due:
            self.stop = Preempted()
        elif not self._leases.is_active(self._job_id):
            self.stop = Cancelled()


class Heartbeat:
    """Shows that a worker is alive, and sweeps, every `sweep_seconds` between `start` and `stop`."""

    def __init__(self, leases: LeaseStore, roll: WorkerRegistry, worker: WorkerInfo) -> None:
        self._leases = leases
        self._roll = roll
        self._worker = worker
        self._thread = PeriodicThread(self._beat, leases.settings.sweep_seconds, "upkeep", at_once=True)

    def start(self) -> None:
        """Begins to beat and sweep."""
        self._thread.start()

    def stop(self) -> None:
        """Ends, and takes the worker out of those that are alive."""
        self._thread.stop()
        with contextlib.suppress(redis.RedisError):
            self._roll.leave(self._worker)

    def _beat(self) -> None:
        try:
            self._roll.beat(self._worker)
            self._leases.sweep()
        except redis.RedisError as error:
            log.warning("Redis cannot be reached", reason=str(error))
