"""What workers do with jobs: each is claimed by one at a time, its lease renewed, and finished once.

A sweep, which every worker runs, brings back what lost workers left behind. Every change is one script of
`jobs.store.scripts`.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import redis
import structlog

from jobs.problems import Problem, problem
from jobs.queue import BrokerUnavailable, JobQueue, make_celery
from jobs.records import FINISHED, Job, Progress, Status
from jobs.requests.base import QUEUES, Queue
from jobs.settings import Settings
from jobs.storage.artifacts import Artifact
from jobs.store.connection import retry_while_unavailable, text
from jobs.store.scripts import PREFIX, load_scripts, record_key
from jobs.store.telemetry import QUEUE_WAIT, Telemetry

__all__ = ["Claim", "LeaseStore"]

PROGRESS_SECONDS = 0.2
LONG_LATE = 10
"""After so many times `requeue_seconds` a job is sent again even where its queue is not empty."""

log = structlog.get_logger(__name__)


@dataclass
class Claim:
    """A job that a worker holds. Its token fences every write: a later claim makes it worthless."""

    job: Job
    worker: str
    token: int
    queue: Queue
    reported: float = field(default=-1.0, repr=False)
    """When progress was last reported, by the monotonic clock."""


class LeaseStore:
    """The jobs of one Redis server, for those that do them.

    Methods raise redis.RedisError where it is gone, but for those that never raise.
    """

    def __init__(self, client: redis.Redis, settings: Settings, queue: JobQueue | None = None) -> None:
        self.settings = settings
        self._telemetry = Telemetry(client)
        self._redis = client
        self._queue = queue or JobQueue(make_celery(settings))
        self._scripts = load_scripts(client)

    def claim(self, job_id: str, worker: str) -> Claim | None:
        """Take a job, if it is queued or its worker's lease has lapsed. None where it is not claimable.

        Its record comes with it, for a claim whose answer is lost holds the job until the lease lapses.
        """
        answer = self._scripts["claim"](args=[job_id, worker, self.settings.lease_seconds, self.settings.max_attempts])
        if not answer:
            return None
        parts = map(text, answer)
        record = dict(zip(parts, parts, strict=True))
        job = Job.from_hash(record)
        self._telemetry.observe(QUEUE_WAIT, job.kind, value=job.queue_seconds)
        return Claim(job=job, worker=worker, token=int(record["attempts"]), queue=cast(Queue, record["queue"]))

    def claim_companions(self, claim: Claim, rows: int, workers: int) -> list[Claim]:
        """Take queued jobs that can share a batch of so many rows with a held job, the oldest first.

        No more than one worker's share of them, of so many workers. A job that was lost with its worker before goes
        by itself. Never raises: what cannot be claimed now is done later.
        """
        claims = []
        with contextlib.suppress(redis.RedisError):
            for job_id in self._scripts["companions"](args=[claim.job.id, rows, workers]):
                if (companion := self.claim(text(job_id), claim.worker)) is not None:
                    claims.append(companion)
        return claims

    def renew(self, claim: Claim) -> bool:
        """Hold on to a job for another `lease_seconds`. False where it is lost: stop, and write nothing."""
        args: list[str | float] = [claim.job.id, claim.token, self.settings.lease_seconds]
        return bool(self._scripts["renew"](args=args) == 1)

    def cancelled_of(self, claims: Sequence[Claim]) -> list[Claim]:
        """Those whose jobs are to be stopped. None while Redis cannot be reached; never raises."""
        pipeline = self._redis.pipeline(transaction=False)
        for claim in claims:
            pipeline.hexists(record_key(claim.job.id), "cancel")
        try:
            return [claim for claim, is_cancelled in zip(claims, pipeline.execute(), strict=True) if is_cancelled]
        except redis.RedisError:
            return []

    def is_active(self, job_id: str) -> bool:
        """Whether a job's parts are of use: it waits or runs. True while Redis cannot be reached; never raises."""
        try:
            status, cancel = self._redis.hmget(record_key(job_id), "status", "cancel")
        except redis.RedisError:
            return True
        return status is not None and text(status) not in FINISHED and cancel is None

    def report(self, claim: Claim, done: int, total: int, unit: str) -> None:
        """Tell how far a job is: written at most five times a second, and always at the end. Never raises."""
        moment = time.monotonic()
        if done < total and claim.reported >= 0 and moment - claim.reported < PROGRESS_SECONDS:
            return
        claim.reported = moment
        progress = Progress(done=done, total=total, unit=unit)
        with contextlib.suppress(redis.RedisError):
            self._scripts["report"](args=[claim.job.id, claim.token, progress.model_dump_json()])

    def publish(self, claim: Claim, result: dict[str, Any]) -> None:
        """Show what is known of a job's result while it runs. Never raises."""
        with contextlib.suppress(redis.RedisError):
            self._scripts["publish"](args=[claim.job.id, claim.token, json.dumps(result, allow_nan=False)])

    def offer(self, claim: Claim, parts: Sequence[dict[str, Any]]) -> None:
        """Offer parts of a job to other workers. Never raises: whoever holds the job does what nobody else does."""
        with contextlib.suppress(BrokerUnavailable):
            self._queue.offer(claim.job.id, parts)

    def offers_waiting(self) -> bool:
        """Whether parts that were offered are still to be taken. True while that cannot be found out; never raises."""
        try:
            return self._queue.depth("shards") > 0
        except BrokerUnavailable:
            return True

    def succeed(self, claim: Claim, result: dict[str, Any], artifacts: dict[str, Artifact]) -> bool:
        """Finish a job with its result and its artifacts by name. False where it was lost.

        This and its siblings wait for a Redis that is gone or full, up to `write_retry_seconds`.
        """
        files = {name: artifact.model_dump() for name, artifact in artifacts.items()}
        return self._finish_as("succeeded", claim, result=result, artifacts=files)

    def fail(self, claim: Claim, reason: Problem) -> bool:
        """Finish a job with a problem. False where it was lost."""
        return self._finish_as("failed", claim, problem=reason.public())

    def cancelled(self, claim: Claim) -> bool:
        """Finish a job that was cancelled. False where it was lost."""
        return self._finish_as("cancelled", claim)

    def release(self, claim: Claim) -> bool:
        """Hand a job back, for another worker to begin it anew. False where it was lost.

        Only its message may get lost here, and then a later sweep sends it again.
        """
        released = bool(self._scripts["release"](args=[claim.job.id, claim.token]) == 1)
        if released:
            self._send(claim.job.id, claim.queue)
        return released

    def _finish_as(self, status: Status, claim: Claim, **fields: dict[str, Any]) -> bool:
        pairs = [part for name, value in fields.items() for part in (name, json.dumps(value, allow_nan=False))]
        args: list[str | int] = [claim.job.id, claim.token, status, *pairs]
        answer = retry_while_unavailable(
            lambda: self._scripts["finish"](args=args),
            _warn_of_pause,
            pauses=(0.1, 5.0),
            seconds=self.settings.write_retry_seconds,
        )
        return bool(answer == 1)

    def sweep(self) -> list[str]:
        """Bring back jobs whose worker or message was lost, and delete the oldest finished ones.

        The ids of the jobs that were queued again or, after `max_attempts`, failed. Called by every worker
        every few seconds; the jobs found are shared out between those that call at once.
        """
        self._scripts["trim"](args=[self.settings.job_history])
        lost = [] if self._just_started() else self._sweep_leases()
        return lost + self._requeue_late()

    def _just_started(self) -> bool:
        """Whether Redis came up so lately that workers may not have renewed their leases yet."""
        return bool(self._redis.info("server")["uptime_in_seconds"] < self.settings.lease_seconds)

    def _sweep_leases(self) -> list[str]:
        attempts = self.settings.max_attempts
        reason = problem(
            "worker-lost",
            f"{attempts} workers were lost over this job, as many as are tried; it may need more memory "
            "than they have: ask for fewer samples or variants",
        )
        queued, failed = map(_pairs, self._scripts["sweep"](args=[attempts, json.dumps(reason.public())]))
        for job_id, _ in failed:
            log.error("job failed: its workers were lost", job_id=job_id)
        return self._put_back(queued, "its worker was lost") + [job_id for job_id, _ in failed]

    def _requeue_late(self) -> list[str]:
        second, _ = self._redis.time()
        before = second + 1 - self.settings.requeue_seconds
        if not self._redis.zcount(PREFIX + "queued", "-inf", before):
            return []  # the usual case, without a look at the broker
        try:
            empty = [queue for queue in QUEUES if self._queue.depth(queue) == 0]
        except BrokerUnavailable:
            return []
        # A queue with other messages in it may have lost this one: one too many does no harm, none at all does.
        seconds = self.settings.requeue_seconds
        late = self._scripts["requeue"](args=[seconds, LONG_LATE * seconds, *empty])
        return self._put_back(_pairs(late), "its message may be lost")

    def _put_back(self, jobs: list[tuple[str, Queue]], why: str) -> list[str]:
        for job_id, queue in jobs:
            log.warning("job is queued again", job_id=job_id, why=why)
            self._send(job_id, queue)
        return [job_id for job_id, _ in jobs]

    def _send(self, job_id: str, queue: Queue) -> None:
        """Send a job that is queued. Where that fails it counts as late, and a later sweep sends it."""
        with contextlib.suppress(BrokerUnavailable, redis.RedisError):
            self._queue.put(job_id, queue)


def _pairs(answer: list[list[bytes]]) -> list[tuple[str, Queue]]:
    """The ids and queues in a script's answer."""
    return [(job_id.decode(), cast(Queue, queue.decode())) for job_id, queue in answer]


def _warn_of_pause(error: BaseException, pause: float) -> None:
    log.warning("Redis takes no writes; the result is written later", error=str(error), pause=pause)
