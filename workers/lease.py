"""Keeps a worker's claimed jobs alive: renews leases, writes progress, and stops jobs that have to stop.

One thread does all of it, so that the sampling loop never waits for Redis: a step only stores its number, and checks
whether to go on. Another thread reports that the worker is alive, and queues the jobs of lost workers again.
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
from jobs.storage.artifacts import Artifact, ArtifactsUnavailable
from jobs.store.connection import retry_while_unavailable
from jobs.store.heartbeats import PeriodicThread, WorkerRegistry, end_process
from jobs.store.leases import RENEWALS_A_LEASE, Claim, LeaseStore
from jobs.tracing import Span
from jobs.views import WorkerInfo
from workers.pace import Pace

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
    "TimeUp",
]  # fmt: skip

BEAT_SECONDS = 0.2
RETRY_SECONDS = 0.2
LONGEST_PAUSE = 1.0
SILENT_LEASES = 3
"""A thread that should renew leases and has not looked for so many of their lengths hangs."""
HANGS_SECONDS = 1.0
"""A Redis that takes longer for a heartbeat and a sweep is no longer taken for one that answers."""

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")
Result = TypeVar("Result", bound=BaseModel, covariant=True)


@dataclass(frozen=True)
class Product(Generic[Result]):
    """The result of a job, and its artifacts by name."""

    result: Result
    artifacts: dict[str, Artifact] = field(default_factory=dict)


class Stopped(Exception):
    """Raised inside a job at its next step, where it has to stop."""


class Cancelled(Stopped):
    """The job was cancelled."""


class LeaseLost(Stopped):
    """Another worker has the job: nothing may be written any more."""


class Preempted(Stopped):
    """The worker shuts down, and the job did not end within `handover_seconds`."""


class TimeUp(Stopped):
    """The job has run for longer than any job may."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the job ran for more than the {seconds:g} seconds that a job may run (TAILPRUNE_MAX_JOB_SECONDS), all "
            "its attempts together; ask for fewer samples, prunes or steps, or in several jobs"
        )


class Shutdown:
    """Whether the worker has to shut down, and how long its job may still take."""

    def __init__(self, handover_seconds: float) -> None:
        self._handover_seconds = handover_seconds
        self._deadline: float | None = None

    def begin(self) -> None:
        """Begin the shutdown. Takes no lock, as it may be called in a signal handler."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self._handover_seconds

    @property
    def is_due(self) -> bool:
        """Whether the job has to stop now."""
        return self._deadline is not None and time.monotonic() >= self._deadline


class Interruptible:
    """Work that another thread can stop. The work calls `check` at every step."""

    stop: Stopped | None = None
    """Why the work has to stop; None while it goes on."""

    def check(self) -> None:
        """Raise Stopped where the work has to stop."""
        if self.stop is not None:
            raise self.stop

    def retry(self, call: Callable[[], Answer]) -> Answer:
        """Repeat a call until Redis is available; return its answer. Raises Stopped where the work has to stop."""
        return retry_while_unavailable(call, self._before_pause, pauses=(RETRY_SECONDS, RETRY_SECONDS))

    def _before_pause(self, error: BaseException, _: float) -> None:
        log.warning("Redis cannot be reached; the job waits", reason=str(error))
        self.check()


class Run(Interruptible):
    """A claimed job that is being done. The work calls `step` or `check` at every step."""

    def __init__(self, leases: LeaseStore, claim: Claim) -> None:
        self.claim = claim
        self.progress: tuple[int, int, str] | None = None
        """How many units are done, how many there are, and what is counted."""
        self.span = Span(f"job {claim.job.kind}", claim.job.traceparent, "CONSUMER")
        """The span of this attempt."""
        self.phase: str | None = None
        """What is being done, as clients see it beside the progress; see `jobs.records.Progress`."""
        self._leases = leases
        self._pace = Pace()
        self._reported: tuple[object, ...] = ()

    @property
    def job(self) -> Job:
        """The job, as it was claimed."""
        return self.claim.job

    def step(self, done: int, total: int, unit: str) -> None:
        """Note the progress of the job. Raises Stopped where it has to stop."""
        self.progress = (done, total, unit)
        self.check()

    def publish(self, result: BaseModel, scores: BaseModel) -> None:
        """Publish a partial result, and the scores in it as an event."""
        data = scores.model_dump(mode="json", exclude_defaults=True)
        self._leases.publish(self.claim, result.model_dump(mode="json"), data)

    def offer(self, messages: Sequence[dict[str, Any]]) -> None:
        """Offer tasks of the job, as the content of messages, to other workers."""
        self._leases.offer(self.claim, messages)

    @property
    def offers_waiting(self) -> bool:
        """Whether offered tasks, of any job, wait for a worker."""
        return self._leases.offers_waiting()

    def report(self) -> None:
        """Write the progress of the job, if it or the phase has changed, with how long the rest takes."""
        progress, phase = self.progress, self.phase
        if progress is None:
            return
        now = time.monotonic()
        self._pace.note(*progress, now)
        if (progress, phase) != self._reported:
            self._reported = (progress, phase)
            left = self._pace.left(now)
            self._leases.report(self.claim, *progress, phase, None if left is None else round(left, 1))

    def note_end(self, outcome: str) -> None:
        """Note what became of this attempt, in its span."""
        job = self.job
        self.span.note(tailprune__job_id=job.id, tailprune__model=job.model, tailprune__attempt=self.claim.token)
        self.span.note(tailprune__outcome=outcome)
        if outcome not in ("succeeded", "cancelled", "handed over"):
            self.span.fail(outcome)

    def renew(self) -> None:
        """Renew the lease; stop the job where it is lost. Raises redis.RedisError."""
        if not self._leases.renew(self.claim):
            self.stop = LeaseLost()


OnDone = Callable[[Run, Product[BaseModel] | Exception], None]
"""Called with the product of a job, or the error that it ended with."""


class Batch:
    """Claimed jobs that are done together: a context manager around the work."""

    def __init__(self, leases: LeaseStore, claims: Sequence[Claim], shutdown: Shutdown) -> None:
        self.runs = [Run(leases, claim) for claim in claims]
        self._held = list(self.runs)
        self._leases = leases
        self._shutdown = shutdown
        self._renewal_seconds = leases.settings.lease_seconds / RENEWALS_A_LEASE
        self._next_renewal = time.monotonic() + self._renewal_seconds
        self._most_seconds = leases.settings.max_job_seconds
        self._thread = PeriodicThread(self._look, BEAT_SECONDS, f"job-{claims[0].job.id}", vital=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.stop()

    def retry(self, call: Callable[[], Answer]) -> Answer:
        """Repeat a call to the store of artifacts while that is unavailable, for at most `write_retry_seconds`.

        Raises Stopped where all jobs have to stop.
        """
        return retry_while_unavailable(
            call,
            self._before_pause,
            pauses=(RETRY_SECONDS, LONGEST_PAUSE),
            seconds=self._leases.settings.write_retry_seconds,
            retried=lambda error: isinstance(error, ArtifactsUnavailable),
        )

    def _before_pause(self, error: BaseException, _: float) -> None:
        log.warning("the store of artifacts is unavailable; the job waits", reason=str(error))
        if all(run.stop is not None for run in self._held):
            for run in self._held:
                run.check()

    @property
    def silent_seconds(self) -> float:
        """For how many seconds nothing has looked after the jobs."""
        return self._thread.silent_seconds

    def leave(self, run: Run) -> None:
        """Stop renewing the lease of a job whose outcome is written."""
        self._held.remove(run)
        run.span.end()

    def _look(self) -> None:
        held = list(self._held)  # `leave` is called by the working thread
        self._stop_where_due([run for run in held if run.stop is None])
        if time.monotonic() >= self._next_renewal:
            self._next_renewal = time.monotonic() + self._renewal_seconds
            try:
                for run in held:
                    run.renew()
            except redis.RedisError as error:  # a lease is not judged while Redis does not answer
                log.warning("leases not renewed", jobs=[run.job.id for run in held], reason=str(error))
                self._next_renewal = time.monotonic() + BEAT_SECONDS
                return
        for run in held:
            run.report()

    def _stop_where_due(self, runs: Sequence[Run]) -> None:
        if self._most_seconds is not None:
            for run in runs:
                if run.claim.seconds > self._most_seconds:
                    run.stop = TimeUp(self._most_seconds)
        if self._shutdown.is_due:
            for run in runs:
                run.stop = run.stop or Preempted()
            return
        cancelled = self._leases.cancelled_of([run.claim for run in runs])
        for run in runs:
            if run.claim in cancelled:
                run.stop = Cancelled()


class TaskRun(Interruptible):
    """A task of a job that another worker holds. It stops where that job is over, and where this worker shuts down."""

    def __init__(self, leases: LeaseStore, job_id: str, shutdown: Shutdown) -> None:
        self._leases = leases
        self._job_id = job_id
        self._shutdown = shutdown
        self._thread = PeriodicThread(self._look, BEAT_SECONDS, f"shard-{job_id}", vital=True)

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
    """Reports that a worker is alive, and sweeps, between `start` and `stop`.

    That is every `sweep_seconds`, or often enough to see a lease renewed. Where the worker's leases are no longer
    looked after, though Redis answers here, the process ends.

    leases: the jobs.
    workers: the registry of workers.
    worker: what to report.
    batch: returns the jobs that the worker does now, or None.
    """

    def __init__(
        self, leases: LeaseStore, workers: WorkerRegistry, worker: WorkerInfo, batch: Callable[[], Batch | None]
    ) -> None:
        self._leases = leases
        self._workers = workers
        self._worker = worker
        self._batch = batch
        self._answering_since = time.monotonic()
        self._most_silent = SILENT_LEASES * leases.settings.lease_seconds
        self._thread = PeriodicThread(self._beat, leases.look_seconds, "upkeep", at_once=True, vital=True)

    def start(self) -> None:
        """Begin to beat and sweep."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and remove the worker from those that are alive."""
        self._thread.stop()
        with contextlib.suppress(redis.RedisError):
            self._workers.leave(self._worker)

    def _beat(self) -> None:
        began = time.monotonic()
        try:
            # Both in any case: with its memory full Redis takes no heartbeat, but deletes the oldest jobs.
            try:
                self._leases.sweep()
            finally:
                self._workers.beat(self._worker)
        except redis.RedisError as error:
            log.warning("Redis cannot be reached, or takes no writes", reason=str(error))
            self._answering_since = time.monotonic()
            return
        if time.monotonic() - began > HANGS_SECONDS:
            self._answering_since = time.monotonic()
        batch = self._batch()
        silent = 0.0 if batch is None else min(batch.silent_seconds, time.monotonic() - self._answering_since)
        if silent > self._most_silent:
            end_process(f"the thread that renews leases has hung for {silent:.0f} seconds")
