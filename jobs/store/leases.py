"""The store of jobs for workers: a job is claimed by one worker at a time, under a lease, and finished once.

A sweep, which every worker runs, recovers the jobs of lost workers. Every change is one script of `jobs.store.scripts`.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import redis
import structlog

from jobs.packing import packed
from jobs.problems import Problem, problem
from jobs.queue import BrokerUnavailable, JobQueue, make_celery
from jobs.records import FINISHED, Job, Made, Progress, Status, UnreadableRecord
from jobs.requests.base import HISTORIES, QUEUES, History, Queue
from jobs.settings import Settings
from jobs.storage.artifacts import Artifact, ArtifactStore
from jobs.store.connection import retry_while_unavailable, text
from jobs.store.expiry import ExpiryWatch
from jobs.store.outcomes import OutcomeStore
from jobs.store.scripts import PREFIX, Reindex, history_key, load_scripts, record_key
from jobs.store.telemetry import QUEUE_WAIT, Telemetry
from jobs.tracing import Span

__all__ = ["RENEWALS_A_LEASE", "Claim", "LeaseStore"]

PROGRESS_SECONDS = 0.2
RENEWALS_A_LEASE = 4
UNREADABLE = problem(
    "record-unreadable",
    "the record of the job is damaged, or of another version of the service, so that no worker can do it; post its "
    "request again",
)
LONG_LATE = 10
"""After this many times `requeue_seconds` a job is sent again even if its queue is not empty."""

log = structlog.get_logger(__name__)


@dataclass
class Claim:
    """A job that a worker holds. Every write carries its token, which a later claim of the job invalidates."""

    job: Job
    worker: str
    token: int
    ran: float = 0.0
    """For how many seconds earlier attempts ran."""
    since: float = field(default_factory=time.monotonic, repr=False)
    """When it was claimed, by the monotonic clock."""
    reported: float = field(default=-1.0, repr=False)
    """When progress was last reported, by the monotonic clock."""

    @property
    def seconds(self) -> float:
        """For how many seconds the job has run, all its attempts together."""
        return self.ran + time.monotonic() - self.since


class LeaseStore:
    """The jobs of one Redis server, for its workers.

    Methods raise redis.RedisError if it does not answer, except those that never raise.
    """

    def __init__(
        self,
        client: redis.Redis,
        settings: Settings,
        queue: JobQueue | None = None,
        artifacts: ArtifactStore | None = None,
    ) -> None:
        self.settings = settings
        self._telemetry = Telemetry(client)
        self._redis = client
        self._queue = queue or JobQueue(make_celery(settings))
        self._scripts = load_scripts(client)
        self._outcomes = OutcomeStore(artifacts or ArtifactStore(settings, client))
        self._watch = ExpiryWatch(settings.lease_seconds)
        self._reindex = Reindex(self._scripts)

    @property
    def look_seconds(self) -> float:
        """The pause between two looks at the leases: short enough to see each of them renewed."""
        return min(self.settings.sweep_seconds, self.settings.lease_seconds / RENEWALS_A_LEASE)

    def claim(self, job_id: str, worker: str) -> Claim | None:
        """Claim a job that is queued. None if it cannot be claimed; one whose record cannot be read fails.

        The script that claims the job also returns its record: a second call that failed would leave the job claimed,
        by nobody, until its lease expires.
        """
        parts = iter(self._scripts["claim"](args=[job_id, worker, self.settings.lease_seconds]))
        record: dict[str, str | bytes] = {text(name): value for name, value in zip(parts, parts, strict=True)}
        if not record:
            return None
        token = int(record["attempts"])
        try:
            job = Job.from_hash(record | {"id": job_id})
        except UnreadableRecord as error:
            log.error("job failed: its record cannot be read", job_id=job_id, reason=str(error))
            self._finish(job_id, token, "failed", problem=UNREADABLE.model_dump_json(exclude_none=True))
            return None
        self._telemetry.observe(QUEUE_WAIT, job.kind, value=job.queue_seconds)
        waited = Span("queue", job.traceparent, "CONSUMER", start=job.created)
        waited.note(tailprune__job_id=job.id, tailprune__attempt=token)
        waited.end(at=max(job.created, job.started or job.created))  # the clock may have been set back
        return Claim(job=job, worker=worker, token=token, ran=_seconds(record.get("ran")))

    def claim_companions(self, claim: Claim, rows: int, workers: int) -> list[Claim]:
        """Claim queued jobs that can share a batch with a held job, oldest first.

        Jobs that lost two workers before are left out. Never raises: what cannot be claimed now is done later.

        claim: the held job.
        rows: how many rows the batch can hold.
        workers: the number of workers; of the waiting jobs, only this worker's share is claimed.
        """
        claims = []
        with contextlib.suppress(redis.RedisError):
            for job_id in self._scripts["companions"](args=[claim.job.id, rows, workers]):
                if (companion := self.claim(text(job_id), claim.worker)) is not None:
                    claims.append(companion)
        return claims

    def renew(self, claim: Claim) -> bool:
        """Renew a lease for another `lease_seconds`. False if the job is lost: stop, and write nothing."""
        args: list[str | float] = [claim.job.id, claim.token, self.settings.lease_seconds, claim.seconds]
        return bool(self._scripts["renew"](args=args) == 1)

    def cancelled_of(self, claims: Sequence[Claim]) -> list[Claim]:
        """The claims whose jobs were cancelled. Empty while Redis cannot be reached; never raises."""
        pipeline = self._redis.pipeline(transaction=False)
        for claim in claims:
            pipeline.hexists(record_key(claim.job.id), "cancel")
        try:
            return [claim for claim, is_cancelled in zip(claims, pipeline.execute(), strict=True) if is_cancelled]
        except redis.RedisError:
            return []

    def is_active(self, job_id: str) -> bool:
        """Whether a job is queued or running, and not cancelled. True while Redis cannot be reached; never raises."""
        try:
            status, cancel = self._redis.hmget(record_key(job_id), "status", "cancel")
        except redis.RedisError:
            return True
        return status is not None and text(status) not in FINISHED and cancel is None

    def report(
        self,
        claim: Claim,
        done: int,
        total: int,
        unit: str,
        phase: str | None = None,
        eta_seconds: float | None = None,
    ) -> None:
        """Report the progress of a job; written at most five times a second, and always at the end. Never raises.

        claim: the job.
        done: how many units are done.
        total: how many units there are.
        unit: what is counted, such as steps.
        phase: what the job does now; None, the default, where that is not known.
        eta_seconds: about how long the other units take; None, the default, where that is not known.
        """
        moment = time.monotonic()
        if done < total and claim.reported >= 0 and moment - claim.reported < PROGRESS_SECONDS:
            return
        claim.reported = moment
        progress = Progress(done=done, total=total, unit=unit, phase=phase, eta_seconds=eta_seconds)
        with contextlib.suppress(redis.RedisError):
            self._scripts["report"](args=[claim.job.id, claim.token, progress.model_dump_json()])

    def publish(self, claim: Claim, result: dict[str, Any], scores: dict[str, Any]) -> None:
        """Show the preliminary result of a running job. Never raises.

        claim: the job.
        result: all of it, for those who look at the job.
        scores: what is new in it, for those who follow its events.
        """
        with contextlib.suppress(redis.RedisError):
            self._scripts["publish"](args=[claim.job.id, claim.token, packed(result), json.dumps(scores)])

    def offer(self, claim: Claim, parts: Sequence[dict[str, Any]]) -> None:
        """Offer parts of a job to other workers. Never raises: the worker that holds the job does the rest itself."""
        with contextlib.suppress(BrokerUnavailable):
            self._queue.offer(claim.job.id, parts)

    def offers_waiting(self) -> bool:
        """Whether offered parts are still waiting. True while the broker does not answer; never raises."""
        try:
            return self._queue.depth("shards") > 0
        except BrokerUnavailable:
            return True

    def succeed(self, claim: Claim, result: dict[str, Any], artifacts: dict[str, Artifact]) -> bool:
        """Finish a job with its result and its artifacts by name. False if the job was lost.

        Like `fail` and `cancelled`, it retries up to `write_retry_seconds` while Redis does not answer or is full.
        Raises what `store_outcome` raises.
        """
        return self.succeed_with(claim, self.store_outcome(result, artifacts))

    def store_outcome(self, result: dict[str, Any], artifacts: dict[str, Artifact]) -> Artifact:
        """Store a result, and artifacts by name, as a document. Raises ArtifactsUnavailable."""
        return self._outcomes.put(Made(result, artifacts))

    def succeed_with(self, claim: Claim, outcome: Artifact) -> bool:
        """Finish a job with what `store_outcome` stored. False if the job was lost."""
        return self._finish(claim.job.id, claim.token, "succeeded", outcome=outcome.model_dump_json())

    def fail(self, claim: Claim, reason: Problem) -> bool:
        """Finish a job with a problem. False if the job was lost."""
        return self._finish(claim.job.id, claim.token, "failed", problem=json.dumps(reason.public(), allow_nan=False))

    def cancelled(self, claim: Claim) -> bool:
        """Finish a job that was cancelled. False if the job was lost."""
        return self._finish(claim.job.id, claim.token, "cancelled")

    def release(self, claim: Claim) -> bool:
        """Put a job back, for another worker to start it again before all others. False if the job was lost.

        If only its message cannot be sent, a later sweep sends it.
        """
        released = bool(self._scripts["release"](args=[claim.job.id, claim.token, claim.seconds]) == 1)
        if released:
            self._send(claim.job.id, "returned")
        return released

    def _finish(self, job_id: str, token: int, status: Status, **fields: str) -> bool:
        args: list[str | int] = [job_id, token, status, *(part for pair in fields.items() for part in pair)]
        answer = retry_while_unavailable(
            lambda: self._scripts["finish"](args=args),
            _warn_of_pause,
            pauses=(0.1, 5.0),
            seconds=self.settings.write_retry_seconds,
        )
        return bool(answer == 1)

    def sweep(self) -> list[str]:
        """Recover jobs whose worker or message was lost, and delete the oldest finished ones.

        Returns the ids of the jobs that were queued again or, after `max_attempts`, failed. Every worker calls this
        every few seconds; each lost job is found by one of them only.
        """
        expired = self._watch.expired(self._leases)  # first: where Redis fails, leases are judged anew
        kept: dict[History, int] = {"jobs": self.settings.job_history, "statistics": self.settings.statistics_history}
        for history in HISTORIES:
            self._scripts["trim"](args=[history_key(history), kept[history]])
        self._reindex()
        return self._recover(expired) + self._requeue_late()

    def recover(self) -> list[str]:
        """Of a sweep, only the recovery of jobs whose worker was lost. Returns their ids.

        That a worker was lost is seen only by a process that has looked for longer than a lease lasts
        (`jobs.store.expiry`). Where workers are lost soon after they start, none of them does.
        """
        return self._recover(self._watch.expired(self._leases))

    def _recover(self, expired: Mapping[str, float]) -> list[str]:
        """Queue the jobs of these leases again, or end them. Returns their ids."""
        if not expired:
            return []
        attempts = self.settings.max_attempts
        lost = problem(
            "worker-lost",
            f"{attempts} workers were lost over this job, the most that are tried; it may need more memory than they "
            "have: ask for fewer samples or variants",
        )
        problems = [lost.model_dump_json(exclude_none=True), UNREADABLE.model_dump_json(exclude_none=True)]
        found = [part for job_id, until in expired.items() for part in (job_id, repr(until))]
        queued, failed = map(_pairs, self._scripts["sweep"](args=[attempts, *problems, *found]))
        for job_id, _ in failed:
            log.error("job failed: its workers were lost, or its record is damaged", job_id=job_id)
        return self._put_back(queued, "its worker was lost") + [job_id for job_id, _ in failed]

    def _leases(self) -> dict[str, float]:
        """The jobs that run, and until when the lease of each was last renewed."""
        parts = iter(self._scripts["leases"]())
        return {text(job_id): float(until) for job_id, until in zip(parts, parts, strict=True)}

    def _requeue_late(self) -> list[str]:
        second, _ = self._redis.time()
        seconds = self.settings.requeue_seconds
        pipeline = self._redis.pipeline(transaction=False)
        for queue in QUEUES:
            pipeline.zcount(f"{PREFIX}queued:{queue}", "-inf", second + 1 - seconds)
            pipeline.zcount(f"{PREFIX}queued:{queue}", second + 2, "+inf")  # queued before the clock was set back
        if not any(pipeline.execute()):
            return []  # the usual case, without asking the broker
        try:
            empty = [queue for queue in QUEUES if self._queue.depth(queue) == 0]
        except BrokerUnavailable:
            return []
        # Even a queue with other messages may have lost this one; a second message for a job does no harm.
        unreadable = UNREADABLE.model_dump_json(exclude_none=True)
        late = self._scripts["requeue"](args=[seconds, LONG_LATE * seconds, unreadable, *empty])
        return self._put_back(_pairs(late), "its message may be lost")

    def _put_back(self, jobs: list[tuple[str, Queue]], why: str) -> list[str]:
        for job_id, queue in jobs:
            log.warning("job is queued again", job_id=job_id, why=why)
            self._send(job_id, queue)
        return [job_id for job_id, _ in jobs]

    def _send(self, job_id: str, queue: Queue) -> None:
        """Send the message of a queued job. If that fails, a later sweep finds the job late and sends it."""
        with contextlib.suppress(BrokerUnavailable, redis.RedisError):
            self._queue.put(job_id, queue)


def _pairs(answer: list[list[bytes]]) -> list[tuple[str, Queue]]:
    """The ids and queues in the answer of a script."""
    return [(job_id.decode(), cast(Queue, queue.decode())) for job_id, queue in answer]


def _seconds(field: str | bytes | None) -> float:
    """A number of seconds in a record; 0 where it is missing or damaged."""
    try:
        return max(0.0, float(field or 0))
    except ValueError:
        return 0.0


def _warn_of_pause(error: BaseException, pause: float) -> None:
    log.warning("Redis takes no writes; the result is written later", error=str(error), pause=pause)
