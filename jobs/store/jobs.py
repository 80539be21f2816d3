"""The store of jobs for clients: submit a job, once for each key; read, list and cancel jobs.

Every change is one script of `jobs.store.scripts`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal, NamedTuple

import redis
import structlog

from jobs.batching import Share
from jobs.queue import JobQueue, make_celery
from jobs.records import Job, Kind, Status, new_id
from jobs.registry.compacted import CompactedStore, compacted_name
from jobs.requests.base import Request
from jobs.settings import Settings
from jobs.storage.artifacts import ArtifactStore
from jobs.store.connection import text
from jobs.store.scripts import PREFIX, load_scripts, record_key
from jobs.store.telemetry import REQUESTED, Telemetry

__all__ = ["IdempotencyConflict", "JobFinished", "JobStore", "Outcome", "Page", "UnderWay", "UnknownJob"]

LIST_BATCH = 200
SUMMARY_FIELDS = (
    "id", "kind", "key", "model", "status", "request", "created", "started", "finished", "progress",
    "problem", "artifacts",
)  # fmt: skip

Outcome = Literal["created", "joined", "cached"]

log = structlog.get_logger(__name__)


class UnknownJob(LookupError):
    """No job has this id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job has the id {job_id!r}; a finished job is deleted after many newer ones have finished")


class JobFinished(Exception):
    """The job has finished, so it cannot be cancelled."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.id} has already {job.status}; only a queued or running job can be cancelled")


class IdempotencyConflict(Exception):
    """An idempotency key was used for another request before."""

    def __init__(self) -> None:
        super().__init__("this idempotency key was used for another request before; use a new key for a new request")


@dataclass(frozen=True)
class Page:
    """Jobs, newest first, and the cursor of the next page; None on the last page."""

    jobs: list[Job]
    next_cursor: str | None


class UnderWay(NamedTuple):
    """How many jobs have not finished."""

    queued: int
    running: int


class JobStore:
    """All jobs of one Redis server. Methods raise redis.RedisError if it does not answer."""

    def __init__(self, client: redis.Redis, settings: Settings, queue: JobQueue | None = None) -> None:
        self.settings = settings
        self.telemetry = Telemetry(client)
        self.artifacts = ArtifactStore(settings, client)
        self._compacted = CompactedStore(client)
        self._redis = client
        self._queue = queue or JobQueue(make_celery(settings))
        self._scripts = load_scripts(client)

    def submit(
        self,
        request: Request,
        key: str,
        *,
        share: Share | None = None,
        idempotency_key: str = "",
        fingerprint: str = "",
    ) -> tuple[Job, Outcome]:
        """The job of a resolved request, and how it was found: one with the same key, or a new one on its queue.

        A job that failed or was cancelled is not found again, nor is one whose artifacts or compacted model are gone.

        request: the resolved request.
        key: the key of its job.
        share: a new job's share in a batch; None, the default, for a job that runs by itself.
        idempotency_key: the client's name for the request; empty, the default, for none.
        fingerprint: the digest of the resolved request, which must be the same for the same idempotency key.

        Raises IdempotencyConflict, and BrokerUnavailable if a new job could not be put on its queue: it stays queued,
        and the sweep puts it there later.
        """
        kind, queue = request.kind, request.queue
        group, rows = ("", 0) if share is None else (share.group, share.rows)
        arguments: list[str | int] = [
            kind, queue, key, request.model, json.dumps(request.model_dump()), idempotency_key, fingerprint,
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
        """Whether everything that a job made is still stored."""
        if job.kind == "compact" and not self._compacted.has(compacted_name(job.model, job.key)):
            return False
        return all(map(self.artifacts.exists, job.artifacts.values()))

    def _submit_once(self, arguments: list[str | int], stale: str) -> tuple[Job, bool]:
        job_id, outcome = (text(part) for part in self._scripts["submit"](args=[new_id(), *arguments, stale]))
        if outcome == "conflict":
            raise IdempotencyConflict
        return self.get(job_id), outcome == "created"

    def get(self, job_id: str) -> Job:
        """The job of this id. Raises UnknownJob."""
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
        """A page of jobs without their results, newest first.

        status, kind, model: only jobs of this status, kind or model; None, the default, for any.
        limit: how many jobs the page holds, if there are as many.
        cursor: `next_cursor` of the previous page; None, the default, for the first page.
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
        found = (_readable(row) for row in rows if row)  # empty: the job was deleted meanwhile
        return [job for job in found if job is not None]

    def cancel(self, job_id: str) -> Job:
        """Cancel a job: at once if it is queued or its worker is lost, at its worker's next step if it is running.

        Raises UnknownJob, and JobFinished for a job that has finished.
        """
        outcome = text(self._scripts["cancel"](args=[job_id]))
        if outcome == "unknown":
            raise UnknownJob(job_id)
        job = self.get(job_id)
        if outcome == "finished":
            raise JobFinished(job)
        return job

    def under_way(self) -> UnderWay:
        """How many jobs are queued and running."""
        pipeline = self._redis.pipeline()
        pipeline.zcard(PREFIX + "queued")
        pipeline.zcard(PREFIX + "leases")
        queued, running = pipeline.execute()
        return UnderWay(queued=queued, running=running)


def _readable(row: dict[str, str]) -> Job | None:
    """The record of a job; None if this version of the code cannot read it, as after a newer one was taken back."""
    try:
        return Job.from_hash(row)
    except (KeyError, ValueError) as error:
        log.warning("job left out of the list: its record cannot be read", job_id=row.get("id"), reason=str(error))
        return None
