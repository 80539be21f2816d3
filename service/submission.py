"""From a resolved request to a job, waited for where the client prefers that."""

from __future__ import annotations

from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from structlog.contextvars import bind_contextvars

from jobs.conditions import ConditionInfo
from jobs.digests import identify
from jobs.events import wait_finished
from jobs.keys import job_key
from jobs.records import Job, Kind
from jobs.registry import ModelEntry
from jobs.requests import MetricsRequest, PruneSampleRequest
from service.deps import Parts
from service.problems import ProblemError

__all__ = ["applied", "conditions_of", "job_response", "key_of", "submit", "wait_for"]

POLL_SECONDS = 1


async def key_of(kind: Kind, request: PruneSampleRequest | MetricsRequest, entry: ModelEntry, parts: Parts) -> str:
    """The key of the job that answers a resolved request. Raises ProblemError where the model has no files."""
    if missing := entry.missing:
        how = entry.obtain or f"put the files beside {parts.settings.registry}"
        raise ProblemError("model-not-ready", f"model {entry.name!r} lacks {', '.join(missing)}: {how}")
    identity = await run_in_threadpool(identify, kind, entry, parts.settings.data_dir)
    return job_key(kind, request.model_dump(), identity.weights, identity.reading)


async def conditions_of(request: PruneSampleRequest | MetricsRequest, parts: Parts) -> ConditionInfo | None:
    """What is known of the conditions that a request names. Raises UnknownConditions."""
    if request.conditions is None:
        return None
    return await run_in_threadpool(parts.conditions.get, request.conditions)


async def submit(
    kind: Kind, request: PruneSampleRequest | MetricsRequest, key: str, parts: Parts, **idempotency: str
) -> Job:
    """The job of a key: one that is there, or a new one."""
    job, _ = await run_in_threadpool(parts.store.submit, kind, request.model_dump(), key, **idempotency)
    bind_contextvars(job_id=job.id)  # the request's line in the log then leads to the worker's
    return job


async def wait_for(job: Job, seconds: float, parts: Parts) -> Job:
    """The job when it has finished, or as it is after so many seconds."""
    if job.is_finished or seconds <= 0:
        return job
    await wait_finished(parts.follower, job.id, seconds)
    return await run_in_threadpool(parts.store.get, job.id)


def applied(waited: float | None) -> dict[str, str]:
    """The header that says which wait was granted, where one was asked for."""
    return {} if waited is None else {"Preference-Applied": f"wait={waited:g}"}


def job_response(job: Job, waited: float | None) -> JSONResponse:
    """A job as an answer: 200 when it has finished, else 202. `waited` is the granted preference."""
    headers = {"Location": f"/jobs/{job.id}", **applied(waited)}
    if not job.is_finished:
        headers["Retry-After"] = str(POLL_SECONDS)
    return JSONResponse(job.public(), 200 if job.is_finished else 202, headers)
