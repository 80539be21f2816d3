"""From a request to its job: resolve it, compute its key, submit the job, and wait for it if preferred."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

import structlog
from fastapi import Depends
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from structlog.contextvars import bind_contextvars

from jobs.batching import Share, share_of
from jobs.keys import digest, job_key
from jobs.records import Job
from jobs.registry.digests import Identity, identify
from jobs.registry.models import ModelEntry
from jobs.requests.base import Request
from jobs.store.events import wait_finished
from service.deps import AppState, AppStateDep, PrefixDep, model_of
from service.headers import IdempotencyKey, IfNoneMatch, PreferHeader, etag_matches, preferred_wait
from service.problems import ProblemError, problem_response

__all__ = ["Client", "ClientDep", "ReaderDep", "answer_by_job", "cache_headers", "post_job", "wait_header"]

POLL_SECONDS = 1

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Client:
    """The application's state, and what the headers of a request ask for."""

    state: AppState
    prefix: str
    """What every path in the response begins with."""
    wait: float | None
    """The seconds that the client prefers to wait, within the limit; None without such a preference."""
    idempotency_key: str = ""
    if_none_match: str | None = None


async def _client(
    state: AppStateDep, prefix: PrefixDep, prefer: PreferHeader = None, idempotency_key: IdempotencyKey = None
) -> Client:
    return Client(state, prefix, preferred_wait(prefer, state.settings.max_wait_seconds), idempotency_key or "")


async def _reader(
    state: AppStateDep, prefix: PrefixDep, prefer: PreferHeader = None, if_none_match: IfNoneMatch = None
) -> Client:
    wait = preferred_wait(prefer, state.settings.max_wait_seconds)
    return Client(state, prefix, wait, if_none_match=if_none_match)


ClientDep = Annotated[Client, Depends(_client)]
"""For a POST that starts a job."""
ReaderDep = Annotated[Client, Depends(_reader)]
"""For a GET that may wait for a job."""


async def post_job(body: Request, client: Client) -> JSONResponse:
    """The response to a POST that starts a job. body: the request as it was sent."""
    state = client.state
    entry = await model_of(body.model, state)
    request = await _resolved(body, entry, state)
    identity = await _identity_of(request, entry, state)
    job = await _submit(
        request,
        _key(request, identity),
        state,
        share=share_of(request, identity, state.settings.batch_size),
        idempotency_key=client.idempotency_key,
        fingerprint=digest({"kind": request.kind, "request": request.model_dump()}),
    )
    return _job_response(await _wait_for(job, client.wait or 0, state), client)


async def answer_by_job(
    asked: Request,
    entry: ModelEntry,
    client: Client,
    render: Callable[[Job, dict[str, str]], Awaitable[Response]],
    *,
    tag: str = "",
    headers: dict[str, str] | None = None,
) -> Response:
    """The response to a GET that shows the result of a job, or 202 and the job if it does not finish in time.

    asked: the request as it was sent.
    entry: the model.
    client: the application's state and the client's preferences.
    render: makes the response from a job that succeeded, with these headers.
    tag: a suffix of the entity tag, for jobs that have several responses; empty by default.
    headers: further headers of the response; none by default.
    """
    state = client.state
    request = await _resolved(asked, entry, state)
    key = _key(request, await _identity_of(request, entry, state))
    headers = {**cache_headers(key, tag), **(headers or {})}
    if etag_matches(headers["ETag"], client.if_none_match):
        return Response(status_code=304, headers=headers)
    job = await _submit(request, key, state)
    wait = state.settings.metrics_wait_seconds if client.wait is None else client.wait
    job = await _wait_for(job, wait, state)
    if job.status != "succeeded":
        return _no_result(job, client)
    return await render(job, headers | wait_header(client.wait))


def cache_headers(key: str, tag: str = "") -> dict[str, str]:
    """Cache headers of a response, from its job's key. The entity tag is weak: workers may differ in last digits."""
    return {"ETag": f'W/"{key}{tag}"', "Cache-Control": "no-cache"}


def wait_header(waited: float | None) -> dict[str, str]:
    """The header with the wait that was granted, if the client asked for one."""
    return {} if waited is None else {"Preference-Applied": f"wait={waited:g}"}


async def _resolved(asked: Request, entry: ModelEntry, state: AppState) -> Request:
    """The request with every default filled in. Raises InvalidRequest and UnknownConditions."""
    named = getattr(asked, "conditions", None)

    def resolve() -> Request:  # in a thread: it reads files of conditions, and counts the images of references
        conditions = None if named is None else state.conditions.get(named)
        return asked.resolve(entry, state.settings, conditions, state.evaluation)

    return await run_in_threadpool(resolve)


def _key(request: Request, identity: Identity) -> str:
    return job_key(request.kind, request.model_dump(), identity.weights, identity.reading)


async def _identity_of(request: Request, entry: ModelEntry, state: AppState) -> Identity:
    """The identity of the model of a resolved request. Raises ProblemError if files are missing or cannot be read."""
    if request.reads == "training":
        _check_training(entry)
    elif missing := entry.missing:
        how = entry.obtain or f"put the files beside {state.settings.registry}"
        raise ProblemError("model-not-ready", f"model {entry.name!r} lacks {', '.join(missing)}: {how}")
    evaluated_with = request.evaluated_with(entry, state.evaluation)
    try:
        return await run_in_threadpool(identify, request.reads, entry, state.settings.data_dir, evaluated_with)
    except OSError as error:
        log.warning("file cannot be read", model=entry.name, reason=str(error))
        reason = str(error) if error.filename is None else f"{error.filename}: {error.strerror}"
        raise ProblemError(
            "model-not-ready",
            f"a file of model {entry.name!r}, or one that it is measured with, cannot be read "
            f"({entry.place_of(reason)}): replace or remove it, or permit the service to read it",
        ) from error


async def _submit(request: Request, key: str, state: AppState, share: Share | None = None, **idempotency: str) -> Job:
    """The job of a key: an existing one or a new one.

    request: the resolved request.
    key: the key of its job.
    state: the application's state.
    share: a new job's share in a batch, or None.
    idempotency: `idempotency_key` and `fingerprint` of `JobStore.submit`.
    """
    job, _ = await run_in_threadpool(state.store.submit, request, key, share=share, **idempotency)
    bind_contextvars(job_id=job.id)  # connects the log lines of the request with those of the worker
    return job


async def _wait_for(job: Job, seconds: float, state: AppState) -> Job:
    """The job once it has finished, or as it is after this many seconds or when the service stops."""
    if job.is_finished or seconds <= 0:
        return job
    await wait_finished(state.follower, job.id, seconds, state.stopping)
    return await run_in_threadpool(state.store.get, job.id)


def _no_result(job: Job, client: Client) -> Response:
    """The response to a GET whose job has not succeeded. Raises ProblemError."""
    if job.status == "failed":
        assert job.problem is not None
        return problem_response(job.problem)
    if job.status == "cancelled":
        raise ProblemError("job-cancelled", f"job {job.id} was cancelled while this request waited for it; ask again")
    return _job_response(job, client)


def _check_training(entry: ModelEntry) -> None:
    """Raise ProblemError if a model has no record of its training."""
    if entry.training is None:
        raise ProblemError(
            "model-not-ready",
            f"model {entry.name!r} lacks a record of its training: its entry in the registry names no card, so there "
            "is no training.json beside it",
        )
    if not entry.training.is_file():
        lacks = str(entry.training).removeprefix(f"{entry.folder}/")
        raise ProblemError("model-not-ready", f"model {entry.name!r} lacks {lacks}, the record of its training")


def _job_response(job: Job, client: Client) -> JSONResponse:
    """A job as the response: 200 if it has finished, else 202."""
    headers = {"Location": f"{client.prefix}/jobs/{job.id}", **wait_header(client.wait)}
    if not job.is_finished:
        headers["Retry-After"] = str(POLL_SECONDS)
    return JSONResponse(job.public(client.prefix), 200 if job.is_finished else 202, headers)
