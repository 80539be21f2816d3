"""From a request to its job: resolved, keyed, submitted, and waited for where the client prefers that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

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
from service.deps import AppState, AppStateDep, model_of
from service.headers import IdempotencyKey, IfNoneMatch, PreferHeader, etag_matches, preferred_wait
from service.problems import ProblemError, problem_response

__all__ = ["Client", "ClientDep", "ReaderDep", "answer_by_job", "cache_headers", "post_job", "wait_header"]

POLL_SECONDS = 1


@dataclass(frozen=True)
class Client:
    """How a client asks for a job."""

    state: AppState
    wait: float | None
    """The seconds that it prefers to wait, within the limit; None where it says nothing of that."""
    idempotency_key: str = ""
    if_none_match: str | None = None


async def _client(state: AppStateDep, prefer: PreferHeader = None, idempotency_key: IdempotencyKey = None) -> Client:
    return Client(state, preferred_wait(prefer, state.settings.max_wait_seconds), idempotency_key or "")


async def _reader(state: AppStateDep, prefer: PreferHeader = None, if_none_match: IfNoneMatch = None) -> Client:
    return Client(state, preferred_wait(prefer, state.settings.max_wait_seconds), if_none_match=if_none_match)


ClientDep = Annotated[Client, Depends(_client)]
"""Of a POST."""
ReaderDep = Annotated[Client, Depends(_reader)]
"""Of a GET that may wait for a job."""


async def post_job(body: Request, client: Client) -> JSONResponse:
    """What a POST of a job is answered with. body: the request as it was sent."""
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
        fingerprint=digest({"kind": body.kind, "body": body.model_dump()}),
    )
    return _job_response(await _wait_for(job, client.wait or 0, state), client.wait)


async def answer_by_job(
    asked: Request,
    entry: ModelEntry,
    client: Client,
    render: Callable[[Job, dict[str, str]], Awaitable[Response]],
    *,
    tag: str = "",
    headers: dict[str, str] | None = None,
) -> Response:
    """What a GET is answered with whose answer is the result of a job; 202 and the job where that takes longer.

    render: makes the answer of a job that succeeded, with these headers. tag: tells the entity tags of several
    answers of one job apart.
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
        return _no_result(job, client.wait)
    return await render(job, headers | wait_header(client.wait))


def cache_headers(key: str, tag: str = "") -> dict[str, str]:
    """Of an answer, from its job's key. The entity tag is weak: two workers may differ in the last digits."""
    return {"ETag": f'W/"{key}{tag}"', "Cache-Control": "no-cache"}


def wait_header(waited: float | None) -> dict[str, str]:
    """The header that says which wait was granted, where one was asked for."""
    return {} if waited is None else {"Preference-Applied": f"wait={waited:g}"}


async def _resolved(asked: Request, entry: ModelEntry, state: AppState) -> Request:
    """The request with every default filled in. Raises InvalidRequest and UnknownConditions."""
    named = getattr(asked, "conditions", None)

    def resolve() -> Request:  # in a thread: files of conditions are looked at, and images of a reference counted
        conditions = None if named is None else state.conditions.get(named)
        return asked.resolve(entry, state.settings, conditions, state.evaluation)

    return await run_in_threadpool(resolve)


def _key(request: Request, identity: Identity) -> str:
    return job_key(request.kind, request.model_dump(), identity.weights, identity.reading)


async def _identity_of(request: Request, entry: ModelEntry, state: AppState) -> Identity:
    """The model behind the answer to a resolved request. Raises ProblemError where it has no files."""
    if request.reads == "training":
        _check_training(entry)
    elif missing := entry.missing:
        how = entry.obtain or f"put the files beside {state.settings.registry}"
        raise ProblemError("model-not-ready", f"model {entry.name!r} lacks {', '.join(missing)}: {how}")
    evaluated_with = request.evaluated_with(entry, state.evaluation)
    return await run_in_threadpool(identify, request.reads, entry, state.settings.data_dir, evaluated_with)


async def _submit(request: Request, key: str, state: AppState, share: Share | None = None, **idempotency: str) -> Job:
    """The job of a key: one that is there, or a new one, which has this share of a batch."""
    job, _ = await run_in_threadpool(state.store.submit, request, key, share=share, **idempotency)
    bind_contextvars(job_id=job.id)  # the request's line in the log then leads to the worker's
    return job


async def _wait_for(job: Job, seconds: float, state: AppState) -> Job:
    """The job when it has finished, or as it is after so many seconds."""
    if job.is_finished or seconds <= 0:
        return job
    await wait_finished(state.follower, job.id, seconds)
    return await run_in_threadpool(state.store.get, job.id)


def _no_result(job: Job, waited: float | None) -> Response:
    """What a GET that waits for a job is answered with where the job has not succeeded. Raises ProblemError."""
    if job.status == "failed":
        assert job.problem is not None
        return problem_response(job.problem)
    if job.status == "cancelled":
        raise ProblemError("job-cancelled", f"job {job.id} was cancelled while it was waited for; ask again")
    return _job_response(job, waited)


def _check_training(entry: ModelEntry) -> None:
    """Raise ProblemError where there is no record of a model's training."""
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
    headers = {"Location": f"/jobs/{job.id}", **wait_header(waited)}
    if not job.is_finished:
        headers["Retry-After"] = str(POLL_SECONDS)
    return JSONResponse(job.public(), 200 if job.is_finished else 202, headers)
