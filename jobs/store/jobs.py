"""The store of jobs for clients: submit a job, once for each key; read, list, cancel and delete jobs.

Every change is one script of `jobs.store.scripts`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

import redis
import structlog

from jobs.batching import Share
from jobs.packing import packed
from jobs.problems import Fault, InvalidRequest
from jobs.queue import JobQueue, make_celery
from jobs.records import Job, JobHead, Kind, Status, UnreadableRecord, new_id
from jobs.registry.added import AddedStore
from jobs.registry.compacted import CompactedStore
from jobs.registry.compaction import compacted_name
from jobs.requests.base import QUEUES, Request
from jobs.requests.subscriber import Webhook
from jobs.settings import Settings
from jobs.storage.artifacts import Artifact, ArtifactStore
from jobs.store.connection import text
from jobs.store.outcomes import OutcomeGone, OutcomeStore
from jobs.store.scripts import HEAD_FIELDS, PREFIX, Reindex, load_scripts, record_key
from jobs.store.telemetry import REQUESTED, Telemetry
from jobs.store.webhooks import MOST_PENDING, MOST_WEBHOOKS, WebhookStore, webhooks_of
from jobs.tracing import HEADER, current_traceparent

__all__ = [
    "IdempotencyConflict",
    "JobFinished",
    "JobOfOthers",
    "JobStore",
    "JobUnfinished",
    "Outcome",
    "Page",
    "ResultGone",
    "TooManyJobs",
    "UnderWay",
    "UnknownJob",
    "UnreadableJob",
]

Outcome = Literal["created", "joined", "cached"]
Argument = str | int | bytes
"""Of a script."""
AnyHead = TypeVar("AnyHead", bound=JobHead)

log = structlog.get_logger(__name__)


class UnknownJob(LookupError):
    """No job has this id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job has the id {job_id!r}; a finished job is deleted after many newer ones have finished")


class UnreadableJob(Exception):
    """The record of this job cannot be read."""

    def __init__(self, job_id: str, reason: UnreadableRecord) -> None:
        super().__init__(
            f"the record of job {job_id} is damaged, or of another version of the service: {reason}; post the job's "
            "request again to make it again, and delete this one with ?purge=true"
        )


class ResultGone(Exception):
    """The job succeeded, but its result is no longer stored."""

    def __init__(self, job_id: str, reason: OutcomeGone) -> None:
        super().__init__(f"the result of job {job_id} cannot be read: {reason}; post its request again to remake it")


class JobFinished(Exception):
    """The job has finished, so it cannot be cancelled."""

    def __init__(self, job_id: str, status: str) -> None:
        super().__init__(f"job {job_id} has already {status}; only a queued or running job can be cancelled")


class JobOfOthers(Exception):
    """Others asked for the job, and the one who cancels it did not."""

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"job {job_id} was asked for with other keys: only they, and keys with the scope 'admin', may cancel it"
        )


class JobUnfinished(Exception):
    """The job has not finished, so it cannot be deleted."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} has not finished; cancel it first, with DELETE /jobs/{job_id}")


class TooManyJobs(Exception):
    """So many jobs are queued, in all or of one owner, that no new one is taken."""


class IdempotencyConflict(Exception):
    """An idempotency key was used for another request before."""

    def __init__(self) -> None:
        super().__init__("this idempotency key was used for another request before; use a new key for a new request")


@dataclass(frozen=True)
class Page:
    """Jobs, newest first, and the cursor of the next page; None on the last page."""

    jobs: list[JobHead]
    next_cursor: str | None


class UnderWay(NamedTuple):
    """How many jobs have not finished."""

    queued: int
    running: int


class JobStore:
    """All jobs of one Redis server. Methods raise redis.RedisError if it does not answer."""

    def __init__(
        self,
        client: redis.Redis,
        settings: Settings,
        queue: JobQueue | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.settings = settings
        self.telemetry = telemetry or Telemetry(client)
        self.artifacts = ArtifactStore(settings, client)
        self._compacted = CompactedStore(client)
        self._added = AddedStore(client)
        self._outcomes = OutcomeStore(self.artifacts)
        self._redis = client
        self._queue = queue or JobQueue(make_celery(settings))
        self._scripts = load_scripts(client)
        self._reindex = Reindex(self._scripts)

    def submit(
        self,
        request: Request,
        key: str,
        *,
        share: Share | None = None,
        idempotency_key: str = "",
        fingerprint: str = "",
        owner: str = "",
        webhook: Webhook | None = None,
    ) -> tuple[Job, Outcome]:
        """The job of a resolved request, and how it was found: one with the same key, or a new one on its queue.

        A job that failed or was cancelled is not found again, nor is one whose record, result, artifacts, or compacted
        or added model are gone.

        request: the resolved request.
        key: the key of its job.
        share: a new job's share in a batch; None, the default, for a job that runs by itself.
        idempotency_key: the owner's name for the request; empty, the default, for none.
        fingerprint: the digest of the resolved request, which must be the same for the same idempotency key.
        owner: who asks. A new job counts against the owner's share of the queues; of one that there is, this is one of
            those for whom it goes on until they `withdraw`. Empty, the default, for nobody in particular.
        webhook: is the owner's, and called for what happens to the job, besides those of earlier equal requests; None,
            the default, for none.

        Raises IdempotencyConflict; InvalidRequest if too many webhooks wait to hear of the job; TooManyJobs if the
        queues are full, or too many calls of webhooks are pending; and BrokerUnavailable if a new job could not be put
        on its queue: it stays queued, and the sweep puts it there later.
        """
        most = self.settings.max_queued_jobs
        of_owner = max(1, round(most * self.settings.max_queued_share))
        named = f"{owner} {idempotency_key}" if owner and idempotency_key else idempotency_key
        idempotency: list[Argument] = [named, fingerprint, self.settings.cache_ttl_seconds, owner]
        record = [part for pair in _new_record(request, key, share).items() for part in pair]
        if webhook is not None and self.pending_webhooks() >= MOST_PENDING:
            raise TooManyJobs(
                f"{MOST_PENDING} calls of webhooks wait for receivers, the most that may wait; try again later, or "
                "follow the events of the job"
            )
        called = ("", "") if webhook is None else (webhook.url, " ".join(webhook.events))
        job_id, created = self._submit_once([*idempotency, "", most, of_owner, *called, *record])
        job = None if created else self._usable(job_id)
        if job is None and not created:
            log.warning("what the job made is gone, or its record; it is done anew", job_id=job_id)
            job_id, created = self._submit_once([*idempotency, job_id, most, of_owner, *called, *record])
        if webhook is not None and not created:
            self._subscribe(job_id, owner, webhook)
            job = None  # it has the webhook now
        job = job or self.get(job_id)
        outcome: Outcome = "created" if created else "cached" if job.is_finished else "joined"
        self.telemetry.count(REQUESTED, request.kind, outcome)
        if created:
            self._queue.put(job.id, request.queue)
        return job, outcome

    def _usable(self, job_id: str) -> Job | None:
        """The job of this id; None if it, or a part of what it made, can no longer be read."""
        try:
            job = self.get(job_id)
        except (UnknownJob, UnreadableJob, ResultGone):
            return None
        return None if job.status == "succeeded" and not self._has_all_of(job) else job

    def _has_all_of(self, job: Job) -> bool:
        """Whether everything that a job made is still stored."""
        if job.kind == "compact" and not self._compacted.has(compacted_name(job.model, job.key)):
            return False
        if job.kind == "register":
            added = self._added.get(job.model)
            return added is not None and added.key == job.key
        return self.artifacts.has_all(list(job.artifacts.values()))

    def _subscribe(self, job_id: str, owner: str, webhook: Webhook) -> None:
        """Add a webhook of an owner to a job. Raises UnknownJob, InvalidRequest."""
        args: list[Argument] = [job_id, owner, webhook.url, " ".join(webhook.events), MOST_WEBHOOKS]
        match text(self._scripts["subscribe"](args=args)):
            case "unknown":
                raise UnknownJob(job_id)
            case "full":
                message = (
                    f"{MOST_WEBHOOKS} webhooks wait to hear of job {job_id}, the most of one job: follow its events, "
                    "or name a webhook of yours that it has already"
                )
                raise InvalidRequest([Fault(location="body.webhook", message=message)])

    def _submit_once(self, arguments: list[Argument]) -> tuple[str, bool]:
        job_id, outcome = (text(part) for part in self._scripts["submit"](args=[new_id(), *arguments]))
        if outcome == "conflict":
            raise IdempotencyConflict
        if outcome == "full":
            raise TooManyJobs(
                f"{self.settings.max_queued_jobs} jobs are waiting, the most that may wait; try again later"
            )
        if outcome == "full of its owner":
            raise TooManyJobs(
                f"as many of your jobs are waiting as one client may have ({self.settings.max_queued_share:.0%} of "
                f"{self.settings.max_queued_jobs}); try again when some are done"
            )
        return job_id, outcome == "created"

    def get(self, job_id: str) -> Job:
        """The job of this id. Raises UnknownJob, UnreadableJob, and ResultGone if what it made is no longer stored."""
        fields = self._fields(job_id)
        try:
            named = fields.get("outcome")
            made = None if named is None else self._outcomes.get(Artifact.model_validate_json(named))
            (job,) = self._placed([Job.from_hash(fields, made)])
            if "webhooks" in fields:
                job = job.model_copy(update={"webhooks": webhooks_of(self._redis, job)})
            return job
        except OutcomeGone as error:
            raise ResultGone(job_id, error) from error
        except UnreadableRecord as error:
            raise UnreadableJob(job_id, error) from error
        except ValueError as error:
            raise UnreadableJob(job_id, UnreadableRecord("outcome: it names no artifact")) from error

    def _fields(self, job_id: str) -> dict[str, str | bytes]:
        """The record of a job. Raises UnknownJob and UnreadableJob."""
        try:
            fields = self._redis.hgetall(record_key(job_id))
        except redis.ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            raise UnreadableJob(job_id, UnreadableRecord("it is no hash")) from error
        if not fields:
            raise UnknownJob(job_id)
        return {text(name): value for name, value in fields.items()} | {"id": job_id}

    def page(
        self,
        *,
        status: Status | None = None,
        kind: Kind | Sequence[Kind] | None = None,
        model: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """A page of jobs without their requests and results, newest first.

        status, model: only jobs of this status or model; None, the default, for any.
        kind: only jobs of this kind, or of one of these; None, the default, for any.
        limit: how many jobs the page holds, if there are as many.
        cursor: `next_cursor` of the previous page; None, the default, for the first page.
        """
        self._reindex()
        kinds = [kind] if isinstance(kind, str) else list(kind or [])
        wanted = [("status", status), *(("kind", each) for each in kinds), ("model", model)]
        facets = [part for name, value in wanted if value is not None for part in (name, value)]
        jobs: list[JobHead] = []
        while True:
            count = limit + 1 - len(jobs)
            ids = [text(job_id) for job_id in self._scripts["page"](args=[cursor or "", count, *facets])]
            jobs += self._heads(ids)
            if len(jobs) > limit:
                return Page(jobs[:limit], next_cursor=jobs[limit - 1].id)
            if len(ids) < count:
                return Page(jobs, next_cursor=None)
            cursor = ids[-1]

    def _heads(self, ids: list[str]) -> list[JobHead]:
        """What lists show of these jobs, without those that were deleted meanwhile or cannot be read."""
        pipeline = self._redis.pipeline(transaction=False)
        for job_id in ids:
            pipeline.hmget(record_key(job_id), HEAD_FIELDS)
        rows = pipeline.execute(raise_on_error=False)
        found = [self._head(job_id, row) for job_id, row in zip(ids, rows, strict=True)]
        return self._placed([job for job in found if job is not None])

    def _placed(self, jobs: list[AnyHead]) -> list[AnyHead]:
        """Jobs, of which those that are queued have their places in their queues."""
        queued = [job.id for job in jobs if job.status == "queued"]
        places = dict(zip(queued, self._scripts["places"](args=queued), strict=True)) if queued else {}
        return [job.model_copy(update={"queue_position": places.get(job.id) or None}) for job in jobs]

    def _head(self, job_id: str, row: list[bytes | None] | Exception) -> JobHead | None:
        if isinstance(row, redis.ResponseError) and str(row).startswith("WRONGTYPE"):
            return None
        if isinstance(row, Exception):
            raise row
        fields: dict[str, str | bytes]
        fields = {name: value for name, value in zip(HEAD_FIELDS, row, strict=True) if value is not None}
        if not fields:
            return None
        if "title" not in fields and (request := self._redis.hget(record_key(job_id), "request")) is not None:
            fields["request"] = request
        try:
            return JobHead.from_hash(fields | {"id": job_id})
        except UnreadableRecord as error:
            log.warning("job left out of the list: its record cannot be read", job_id=job_id, reason=str(error))
            return None

    def cancel(self, job_id: str) -> Job:
        """Cancel a job: at once if it is queued or its worker is lost, at its worker's next step if it is running.

        Raises UnknownJob; JobFinished for a job that has finished; UnreadableJob where it is cancelled, but its record
        cannot be read.
        """
        self._cancel(job_id)
        return self.get(job_id)

    def withdraw(self, job_id: str, owner: str) -> tuple[Job, bool]:
        """Cancel a job for one of those who asked for it: the job, and whether it goes on, for the others.

        Where it does, the owner's webhooks are no longer called for it.

        Raises JobOfOthers where the owner did not ask for it, or no longer does; and what `cancel` raises.
        """
        outcome = self._cancel(job_id, owner)
        return self.get(job_id), outcome == "left"

    def _cancel(self, *job_and_owner: str) -> str:
        job_id, *owner = job_and_owner
        outcome = text(self._scripts["cancel"](args=[job_id, self.settings.lease_seconds, *owner]))
        if outcome == "unknown":
            raise UnknownJob(job_id)
        if outcome == "of others":
            raise JobOfOthers(job_id)
        if outcome == "finished":
            raise JobFinished(job_id, text(self._fields(job_id)["status"]))
        return outcome

    def purge(self, job_id: str) -> None:
        """Delete a job that has finished, or whose record cannot be read. Its files stay until nothing names them.

        Raises UnknownJob, and JobUnfinished for a job that is queued or running.
        """
        outcome = text(self._scripts["purge"](args=[job_id]))
        if outcome == "unknown":
            raise UnknownJob(job_id)
        if outcome == "unfinished":
            raise JobUnfinished(job_id)

    def pending_webhooks(self) -> int:
        """How many calls of webhooks are yet to succeed."""
        return WebhookStore(self._redis).pending()

    def under_way(self) -> UnderWay:
        """How many jobs are queued and running."""
        pipeline = self._redis.pipeline()
        for queue in QUEUES:
            pipeline.zcard(f"{PREFIX}queued:{queue}")
        pipeline.zcard(PREFIX + "leases")
        *queued, running = pipeline.execute()
        return UnderWay(queued=sum(queued), running=running)


def _new_record(request: Request, key: str, share: Share | None) -> Mapping[str, Argument]:
    """The fields of a new record, besides those that the script fills in."""
    fields: dict[str, Argument] = {
        "kind": request.kind,
        "queue": request.queue,
        "key": key,
        "model": request.about,
        "title": request.job_title,
        "thresholds": json.dumps(request.pruned_at),
        "request": packed(request.model_dump()),
    }
    if share is not None:
        fields |= {"group": share.group, "rows": share.rows}
    if request.history != "jobs":
        fields["history"] = request.history
    if traceparent := current_traceparent():
        fields[HEADER] = traceparent
    return fields
