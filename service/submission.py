"""From a resolved request to a job, waited for where the client prefers that."""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from structlog.contextvars import bind_contextvars

from jobs.batching import Share, share_of
from jobs.keys import digest, job_key
from jobs.needs import needs_of
from jobs.records import Job, Kind
from jobs.registry.digests import Identity, identify, identify_at_once
from jobs.registry.models import ModelEntry
from jobs.requests.compact import CompactRequest
from jobs.requests.extract import ExtractRequest
from jobs.requests.figure import FigureRequest
from jobs.requests.metrics import MetricsRequest
from jobs.requests.prune_sample import PruneSampleRequest
from jobs.requests.study import StudyRequest, evaluation_of
from jobs.storage.uploads import ConditionInfo
from jobs.store.events import wait_finished
from service.deps import AppState
from service.problems import ProblemError, problem_response

__all__ = ["applied", "conditions_of", "key_at_once", "key_of", "no_result", "post_job", "submit", "wait_for"]

Request = PruneSampleRequest | MetricsRequest | ExtractRequest | FigureRequest | StudyRequest | CompactRequest

POLL_SECONDS = 1


async def key_of(kind: Kind, request: Request, entry: ModelEntry, parts: AppState) -> str:
    """The key of the job that answers a resolved request. Raises ProblemError where the model has no files."""
    return _key(kind, request, await _identity_of(kind, request, entry, parts))


def _key(kind: Kind, request: Request, identity: Identity) -> str:
    return job_key(kind, request.model_dump(), identity.weights, identity.reading)


async def _identity_of(kind: Kind, request: Request, entry: ModelEntry, parts: AppState) -> Identity:
    """The model behind the answer to a resolved request. Raises ProblemError where it has no files."""
    reads = needs_of(kind, request.model_dump()).reads
    if reads == "training":
        _check_training(entry)
    elif missing := entry.missing:
        how = entry.obtain or f"put the files beside {parts.settings.registry}"
        raise ProblemError("model-not-ready", f"model {entry.name!r} lacks {', '.join(missing)}: {how}")
    measured_with = evaluation_of(request, entry, parts.instruments) if isinstance(request, StudyRequest) else {}
    return await run_in_threadpool(identify, reads, entry, parts.settings.data_dir, measured_with)


def key_at_once(kind: Kind, said: dict[str, Any], entry: ModelEntry) -> str | None:
    """What `key_of` finds for a resolved request as JSON, where no file needs to be read for it; None where one does.

    It looks at the state of the model's files, so it takes microseconds, and is asked on the event loop.
    """
    if not entry.ready:
        return None
    identity = identify_at_once(needs_of(kind, said).reads, entry)
    return None if identity is None else job_key(kind, said, identity.weights, identity.reading)


async def conditions_of(request: Request, parts: AppState) -> ConditionInfo | None:
    """What is known of the conditions that a request names. Raises UnknownConditions."""
    if request.conditions is None:
        return None
    return await run_in_threadpool(parts.conditions.get, request.conditions)


async def submit(
    kind: Kind, request: Request, key: str, parts: AppState, share: Share | None = None, **idempotency: str
) -> Job:
    """The job of a key: one that is there, or a new one, which has this share of a batch."""
    job, _ = await run_in_threadpool(parts.store.submit, kind, request.model_dump(), key, share=share, **idempotency)
    bind_contextvars(job_id=job.id)  # the request's line in the log then leads to the worker's
    return job


async def wait_for(job: Job, seconds: float, parts: AppState) -> Job:
    """The job when it has finished, or as it is after so many seconds."""
    if job.is_finished or seconds <= 0:
        return job
    await wait_finished(parts.follower, job.id, seconds)
    return await run_in_threadpool(parts.store.get, job.id)


def applied(waited: float | None) -> dict[str, str]:
    """The header that says which wait was granted, where one was asked for."""
    return {} if waited is None else {"Preference-Applied": f"wait={waited:g}"}


async def post_job(
    kind: Kind,
    body: Request,
    request: Request,
    entry: ModelEntry,
    wait: float | None,
    idempotency_key: str | None,
    parts: AppState,
) -> JSONResponse:
    """What a POST of a job is answered with. body: the request as it was sent. wait: the granted preference."""
    identity = await _identity_of(kind, request, entry, parts)
    share = share_of(request, identity, parts.settings.batch_size)
    idempotency = {
        "idempotency_key": idempotency_key or "",
        "fingerprint": digest({"kind": kind, "body": body.model_dump()}),
    }
    job = await submit(kind, request, _key(kind, request, identity), parts, share, **idempotency)
    return _job_response(await wait_for(job, wait or 0, parts), wait)


def no_result(job: Job, waited: float | None) -> Response:
    """What a GET that waits for a job is answered with where the job has not succeeded. Raises ProblemError."""
    if job.status == "failed":
        assert job.problem is not None
        return problem_response(job.problem)
    if job.status == "cancelled":
        raise ProblemError("job-cancelled", f"job {job.id} was cancelled while it was waited for; ask again")
    return _job_response(job, waited)


def _check_training(entry: ModelEntry) -> None:
    """Raises ProblemError where there is no record of a model's training."""
    if entry.training is None:
        raise ProblemError(
            "model-not-ready",
            f"model {entry.name!r} lacks a record of its training: its entry in the registry names no card, beside "
            "which training.json would be",
        )
    if not entry.training.is_file():
        lacks = str(entry.training).removeprefix(f"{entry.folder}/")
        raise ProblemError("model-not-ready", f"model {entry.name!r} lacks {lacks}, the record of its training")


def _job_response(job: Job, waited: float | None) -> JSONResponse:
    """A job as an answer: 200 when it has finished, else 202. `waited` is the granted preference."""
    headers = {"Location": f"/jobs/{job.id}", **applied(waited)}
    if not job.is_finished:
        headers["Retry-After"] = str(POLL_SECONDS)
    return JSONResponse(job.public(), 200 if job.is_finished else 202, headers)
