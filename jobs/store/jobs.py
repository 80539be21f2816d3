"""The store of jobs: made once for each key, claimed by one worker at a time, finished once.

Clients submit, look, list and cancel; workers claim, renew, report and finish; a sweep brings back what lost
workers left behind. Every change is one script of `jobs.store.scripts`.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast

import redis
import structlog

from jobs.batching import Share
from jobs.needs import QUEUES, Queue, needs_of
from jobs.problems import Problem, problem
from jobs.queue import BrokerUnavailable, JobQueue, make_celery
from jobs.records import FINISHED, Job, Kind, Progress, Status, new_id
from jobs.registry.compacted import CompactedStore, compacted_name
from jobs.settings import Settings
from jobs.storage.artifacts import Artifact, ArtifactStore
from jobs.store.connection import is_unavailable, text
from jobs.store.scripts import PREFIX, load_scripts, record_key
from jobs.store.telemetry import QUEUE_WAIT, REQUESTED, Telemetry

__all__ = ["Claim", "IdempotencyConflict", "JobFinished", "JobStore", "Outcome", "Page", "UnderWay", "UnknownJob"]

PROGRESS_SECONDS = 0.2
LIST_BATCH = 200
LONG_LATE = 10
"""After so many times `requeue_seconds` a job is sent again even where its queue is not empty."""
SUMMARY_FIELDS = (
    "id", "kind", "key", "model", "status", "request", "created", "started", "finished", "progress",
    "artifacts",
)  # fmt: skip

Outcome = Literal["created", "joined", "cached"]

log = structlog.get_logger(__name__)


class UnknownJob(LookupError):
    """No job has this id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job has the id {job_id!r}; finished jobs are deleted when many newer ones finished")


class JobFinished(Exception):
    """The job has finished, so it cannot be cancelled."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.id} has already {job.status}; only a queued or running job can be cancelled")


class IdempotencyConflict(Exception):
    """An idempotency key came with another request before."""

    def __init__(self) -> None:
        super().__init__("this idempotency key came with another request before; a new request needs a new key")


@dataclass(frozen=True)
class Page:
    """Jobs, newest first, and where the next page begins."""

    jobs: list[Job]
    next_cursor: str | None


class UnderWay(NamedTuple):
    """How many jobs have not finished."""

    queued: int
    running: int


@dataclass
class Claim:
    """A job that a worker holds. Its token fences every write: a later claim makes it worthless."""

    job: Job
    worker: str
    token: int
    reported: float = field(default=-1.0, repr=False)
    """When progress was last reported, by the monotonic clock."""


class JobStore:
    """All jobs of one Redis server. Methods raise redis.RedisError where it is gone, unless said."""

    def __init__(self, client: redis.Redis, settings: Settings, queue: JobQueue | None = None) -> None:
        self.settings = settings
        self.telemetry = Telemetry(client)
        self.artifacts = ArtifactStore(settings, client)
        self._compacted = CompactedStore(client)
        self._redis = client
        self._queue = queue or JobQueue(make_celery(settings))
        self._scripts = load_scripts(client)

    # Clients

    def submit(
        self,
        kind: Kind,
        request: dict[str, Any],
        key: str,
        *,
        share: Share | None = None,
        idempotency_key: str = "",
        fingerprint: str = "",
    ) -> tuple[Job, Outcome]:
        """The job that answers a resolved request: one under way or done, else a new one on its queue.

        A job that failed or was cancelled answers no later request, nor does one whose artifacts are gone, or the model
        that it made.
        `share` says what a new one can share a batch with. `fingerprint` is the digest of the request as it was
        sent: the same idempotency key with another one raises IdempotencyConflict. Raises BrokerUnavailable where the
        new job could not be put on its queue; it stays queued, and the sweep puts it there.
        """
        queue = needs_of(kind, request).queue
        group, rows = ("", 0) if share is None else (share.group, share.rows)
        arguments = [
            kind, queue, key, request["model"], json.dumps(request), idempotency_key, fingerprint,
            self.settings.cache_ttl_seconds, group, rows,
        ]  # fmt: skip
        job, created = self._submit_once(arguments, stale="")
        if job.status == "succeeded" and not self._has_all_of(job):
            log.warning("what the job made is gone; it is done anew", job_id=job.id)
            job, created = self._submit_once(arguments, stale=job.id)
        outcome: Outcome = "created" if created else "cached" if job.is_finished else "joined"
        self.telemetry.count(REQUESTED, kind, outcome)
        if created:
            self._queue.put(job.id, queue)
        return job, outcome

    def _has_all_of(self, job: Job) -> bool:
        """Whether all that a job made is there still."""
        if job.kind == "compact" and not self._compacted.has(compacted_name(job.model, job.key)):
            return False
        return all(map(self.artifacts.exists, job.artifacts.values()))

    def _submit_once(self, arguments: list[str | int], stale: str) -> tuple[Job, bool]:
        job_id, outcome = (text(part) for part in self._scripts["submit"](args=[new_id(), *arguments, stale]))
        if outcome == "conflict":
            raise IdempotencyConflict
        return self.get(job_id), outcome == "created"

    def get(self, job_id: str) -> Job:
        """A job. Raises UnknownJob."""
        fields = self._redis.hgetall(record_key(job_id))
        if not fields:
            raise UnknownJob(job_id)
        return Job.from_hash({text(name): text(value) for name, value in fields.items()})

    def page(
        self,
        *,
        status: Status | None = None,
        kind: Kind | None = None,
        model: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Jobs without their results, newest first, of one status, kind or model where said.

        A page holds `limit` jobs as long as there are more; `cursor` is the last page's `next_cursor`.
        """
        wanted = {"status": status, "kind": kind, "model": model}
        jobs: list[Job] = []
        while True:
            before = f"({cursor}" if cursor else "+"
            ids = self._redis.zrevrangebylex(PREFIX + "jobs", before, "-", 0, LIST_BATCH)
            for job in self._summaries(ids):
                if len(jobs) == limit:
                    return Page(jobs, next_cursor=jobs[-1].id)
                if all(value is None or getattr(job, name) == value for name, value in wanted.items()):
                    jobs.append(job)
            if len(ids) < LIST_BATCH:
                return Page(jobs, next_cursor=None)
            cursor = text(ids[-1])

    def _summaries(self, ids: list[bytes | str]) -> list[Job]:
        pipeline = self._redis.pipeline(transaction=False)
        for job_id in ids:
            pipeline.hmget(record_key(text(job_id)), SUMMARY_FIELDS)
        rows = [
            {name: text(value) for name, value in zip(SUMMARY_FIELDS, row, strict=True) if value is not None}
            for row in pipeline.execute()
        ]
        return [Job.from_hash(row) for row in rows if row]  # a row is empty when it was deleted meanwhile

    def cancel(self, job_id: str) -> Job:
        """Cancel a job: at once when it is queued or its worker is lost, at its worker's next step when it runs.

        Raises UnknownJob, and JobFinished when there is nothing left to cancel.
        """
        outcome = text(self._scripts["cancel"](args=[job_id]))
        if outcome == "unknown":
            raise UnknownJob(job_id)
        job = self.get(job_id)
        if outcome == "finished":
            raise JobFinished(job)
        return job

    # Workers

    def claim(self, job_id: str, worker: str) -> Claim | None:
        """Take a job, if it is queued or its worker's lease has lapsed. None where it is not to be had.

        Its record comes with it, for a claim that is not heard of holds the job until the lease lapses.
        """
        answer = self._scripts["claim"](args=[job_id, worker, self.settings.lease_seconds, self.settings.max_attempts])
        if not answer:
            return None
        parts = map(text, answer)
        record = dict(zip(parts, parts, strict=True))
        job = Job.from_hash(record)
        self.telemetry.observe(QUEUE_WAIT, job.kind, value=job.queue_seconds)
        return Claim(job=job, worker=worker, token=int(record["attempts"]))

    def claim_companions(self, claim: Claim, rows: int, workers: int) -> list[Claim]:
        """Take queued jobs that can share a batch of so many rows with a held job, the oldest first.

        No more than one worker's share of them, of so many workers. A job that was lost with its worker before goes
        by itself. Never raises: what cannot be had now is done later.
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

    def invite(self, claim: Claim, parts: Sequence[dict[str, Any]]) -> None:
        """Offer parts of a job to other workers. Never raises: whoever holds the job does what nobody else does."""
        with contextlib.suppress(BrokerUnavailable):
            self._queue.invite(claim.job.id, parts)

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
            self._send(claim.job.id, needs_of(claim.job.kind, claim.job.request).queue)
        return released

    def _finish_as(self, status: Status, claim: Claim, **fields: dict[str, Any]) -> bool:
        pairs = [part for name, value in fields.items() for part in (name, json.dumps(value, allow_nan=False))]
        args: list[str | int] = [claim.job.id, claim.token, status, *pairs]
        return bool(self._patiently(lambda: self._scripts["finish"](args=args)) == 1)

    def _patiently(self, write: Callable[[], Any]) -> Any:
        """What a write answers, tried again while Redis is gone or takes no writes."""
        deadline = time.monotonic() + self.settings.write_retry_seconds
        pause = 0.1
        while True:
            try:
                return write()
            except redis.RedisError as error:
                if not is_unavailable(error) or time.monotonic() + pause > deadline:
                    raise
                log.warning("Redis takes no writes; the result is written later", error=str(error), pause=pause)
                time.sleep(pause)
                pause = min(2 * pause, 5.0)

    # Upkeep

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

    def under_way(self) -> UnderWay:
        """How many jobs are queued and running."""
        pipeline = self._redis.pipeline()
        pipeline.zcard(PREFIX + "queued")
        pipeline.zcard(PREFIX + "leases")
        queued, running = pipeline.execute()
        return UnderWay(queued=queued, running=running)


def _pairs(answer: list[list[bytes]]) -> list[tuple[str, Queue]]:
    """The ids and queues in a script's answer."""
    return [(job_id.decode(), cast(Queue, queue.decode())) for job_id, queue in answer]
