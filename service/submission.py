"""From a request to its job: resolve it, compute its key, submit the job, and wait for it if preferred."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

import redis
import structlog
from fastapi import Depends
from fastapi import Request as HTTPRequest
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from structlog.contextvars import bind_contextvars

from jobs.batching import Share, share_of
from jobs.keys import digest, job_key
from jobs.problems import Fault, InvalidRequest
from jobs.records import Job
from jobs.registry.digests import Identity, identify
from jobs.registry.models import ModelEntry
from jobs.registry.transformers import TransformerEntry
from jobs.requests.base import ModelRequest, Request, TransformerRequest
from jobs.requests.fields import UNION_TAGS, upload_in
from jobs.requests.subscriber import Subscriber
from jobs.storage.condition_info import ConditionInfo
from jobs.webhooks.hosts import endpoint_of
from service.addresses import address_of, is_loopback
from service.deps import AppState, AppStateDep, KeyDep, PrefixDep, ViewerDep, model_of, transformer_named
from service.headers import IdempotencyKey, IfNoneMatch, PreferHeader, etag_matches, is_any, preferred_wait
from service.problems import ProblemError, problem_response, retry_header

__all__ = [
    "Client",
    "ClientDep",
    "Posted",
    "PostedOfTransformer",
    "ReaderDep",
    "answer_by_job",
    "cache_headers",
    "check_training",
    "from_query",
    "post_job",
    "post_transformer_job",
    "refuse_options",
    "show_result",
    "start_job",
    "wait_header",
]

POLL_SECONDS = 1


class Posted(ModelRequest, Subscriber):
    """The body of a POST that starts a job of a model: its request, and who is told what becomes of it.

    What FastAPI reads of a body is built at the start, with `defer_build=False`; at the first request it would warn.
    """


Asked = TypeVar("Asked", bound=ModelRequest | TransformerRequest)
OfTransformer = TypeVar("OfTransformer", bound=TransformerRequest)

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
    owner: str = ""
    """Who asks, and whose a new job is; empty for nobody in particular."""
    viewer: str | None = None
    """Who sees of a job's webhooks the own alone; None for one who sees all."""


async def _owner(request: HTTPRequest, key: KeyDep) -> str:
    """The name of the key, or the address of a client without one; empty for a client without one of this machine."""
    if key is not None:
        return key.name
    return "" if request.client is None or is_loopback(request.client.host) else address_of(request.scope)


OwnerDep = Annotated[str, Depends(_owner)]


async def _client(
    state: AppStateDep,
    prefix: PrefixDep,
    owner: OwnerDep,
    viewer: ViewerDep,
    prefer: PreferHeader = None,
    idempotency_key: IdempotencyKey = None,
) -> Client:
    wait = preferred_wait(prefer, state.settings.max_wait_seconds)
    return Client(state, prefix, wait, idempotency_key or "", owner=owner, viewer=viewer)


async def _reader(
    state: AppStateDep,
    prefix: PrefixDep,
    owner: OwnerDep,
    viewer: ViewerDep,
    prefer: PreferHeader = None,
    if_none_match: IfNoneMatch = None,
) -> Client:
    wait = preferred_wait(prefer, state.settings.max_wait_seconds)
    return Client(state, prefix, wait, if_none_match=if_none_match, owner=owner, viewer=viewer)


ClientDep = Annotated[Client, Depends(_client)]
"""For a POST that starts a job."""
ReaderDep = Annotated[Client, Depends(_reader)]
"""For a GET that may wait for a job."""


class PostedOfTransformer(TransformerRequest, Subscriber):
    """The body of a POST that starts a job of a large transformer."""


async def post_transformer_job(body: PostedOfTransformer, client: Client) -> JSONResponse:
    """The response to a POST that starts a job of a large transformer. body: the request as it was sent."""
    state = client.state
    entry = await transformer_named(body.model, state)

    def resolve() -> tuple[Request, str, Share | None]:
        return *_of_transformer(body, entry, state), None

    return await start_job(resolve, client, body)


async def post_job(body: Posted, client: Client) -> JSONResponse:
    """The response to a POST that starts a job of a model. body: the request as it was sent."""
    state = client.state
    entry = await model_of(body.model, state)

    def resolve() -> tuple[Request, str, Share | None]:
        request, identity = _resolved(body, entry, state)
        key = job_key(request.kind, request.model_dump(), identity.weights, identity.reading)
        return request, key, share_of(request, identity, state.settings.batch_size)

    return await start_job(resolve, client, body)


async def start_job(
    resolve: Callable[[], tuple[Request, str, Share | None]], client: Client, subscriber: Subscriber | None = None
) -> JSONResponse:
    """The response to a POST that starts a job.

    resolve: in a thread, the resolved request, the key of its job, and its share in a batch, if it may be in one.
    client: the application's state and the client's preferences.
    subscriber: who is told what becomes of the job; None, the default, for nobody.
    """
    state = client.state
    webhook = None if subscriber is None else subscriber.subscription
    if webhook is not None:
        _check_webhook(webhook.url, state)

    def submit() -> Job:
        request, key, share = resolve()
        job, _ = state.store.submit(
            request,
            key,
            share=share,
            idempotency_key=client.idempotency_key,
            owner=client.owner,
            fingerprint=digest({"kind": request.kind, "request": request.model_dump()}),
            webhook=webhook,
        )
        return job

    job = await run_in_threadpool(submit)
    bind_contextvars(job_id=job.id)  # connects the log lines of the request with those of the worker
    return _job_response(await _wait_for(job, client.wait or 0, state), client)


def _check_webhook(url: str, state: AppState) -> None:
    """Raise InvalidRequest for a URL that the service does not call."""
    try:
        endpoint_of(url, state.webhook_hosts)
    except ValueError as error:
        raise InvalidRequest([Fault(location="body.webhook", message=str(error))]) from None


async def answer_by_job(
    asked: ModelRequest | TransformerRequest,
    entry: ModelEntry | TransformerEntry,
    client: Client,
    render: Callable[[Job, dict[str, str]], Awaitable[Response]],
    *,
    tag: str = "",
    headers: dict[str, str] | None = None,
    parameters: Mapping[str, str] = MappingProxyType({}),
) -> Response:
    """The response to a GET that shows the result of a job of a model, or 202 and the job if that takes too long.

    asked: the request as it was sent.
    entry: the model, a large transformer for a request of one.
    client: the application's state and the client's preferences.
    render: makes the response from a job that succeeded, with these headers.
    tag: a suffix of the entity tag, for jobs that have several responses; empty by default.
    headers: further headers of the response; none by default.
    parameters: the query parameters of the fields of the request that have another name, for messages of what is wrong
        with them; none by default.
    """

    def resolve() -> tuple[Request, str]:
        try:
            return _with_key(asked, entry, client.state)
        except InvalidRequest as error:
            raise InvalidRequest([_in_query(fault, parameters) for fault in error.faults]) from error

    return await show_result(resolve, client, render, tag=tag, headers=headers)


def refuse_options(options: Mapping[str, object], message: str) -> None:
    """Raise InvalidRequest for query parameters that are given, though what is asked for does not have them.

    options: their values by name, None for one that is not given.
    message: what is wrong with each, in which `{}` stands for its name.
    """
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise InvalidRequest([Fault(location=f"query.{name}", message=message.format(name)) for name in given])


async def show_result(
    resolve: Callable[[], tuple[Request, str]],
    client: Client,
    render: Callable[[Job, dict[str, str]], Awaitable[Response]],
    *,
    tag: str = "",
    headers: dict[str, str] | None = None,
) -> Response:
    """The response to a GET that shows the result of a job, or 202 and the job if it does not finish in time.

    resolve: in a thread, the resolved request, and the key of its job.
    client, render, tag, headers: as in `answer_by_job`.
    """
    state = client.state
    request, key = await run_in_threadpool(resolve)
    headers = {**cache_headers(key, tag), **(headers or {})}
    unchanged = Response(status_code=304, headers=headers)
    if not is_any(client.if_none_match) and etag_matches(headers["ETag"], client.if_none_match):
        return unchanged
    job, _ = await run_in_threadpool(state.store.submit, request, key, owner=client.owner)
    bind_contextvars(job_id=job.id)
    wait = state.settings.metrics_wait_seconds if client.wait is None else client.wait
    job = await _wait_for(job, wait, state)
    if job.status != "succeeded":
        return _no_result(job, client)
    if is_any(client.if_none_match):  # only now is there a result
        return unchanged
    return await render(job, headers | wait_header(client.wait))


def from_query(kind: type[Asked], parameters: Mapping[str, str], **fields: Any) -> Asked:
    """A request that was sent as a query. parameters: as in `answer_by_job`; fields: by their names in the request.

    Raises InvalidRequest for values that are not valid together.
    """
    try:
        return kind(**{name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        faults = [
            Fault(
                location=".".join(["body", *(str(part) for part in each["loc"] if part not in UNION_TAGS)]),
                message=each["msg"].removeprefix("Value error, "),
            )
            for each in error.errors()
        ]
        raise InvalidRequest([_in_query(fault, parameters) for fault in faults]) from error


def _in_query(fault: Fault, parameters: Mapping[str, str]) -> Fault:
    """A fault of a field of a body as that of a query parameter."""
    if not fault.location.startswith("body."):
        return fault
    if fault.location == "body.model":
        return fault.model_copy(update={"location": "path.model"})
    field = fault.location.removeprefix("body.")
    name, _, place = field.partition(".")
    query = parameters.get(field) or ".".join(filter(None, [parameters.get(name, name), place]))
    return fault.model_copy(update={"location": f"query.{query}"})


def cache_headers(key: str, tag: str = "") -> dict[str, str]:
    """Cache headers of a response, from its job's key. The entity tag is weak: workers may differ in last digits."""
    return {"ETag": f'W/"{key}{tag}"', "Cache-Control": "no-cache"}


def wait_header(waited: float | None) -> dict[str, str]:
    """The header with the wait that was granted, if the client asked for one."""
    return {} if waited is None else {"Preference-Applied": f"wait={waited:g}"}


def _resolved(asked: ModelRequest, entry: ModelEntry, state: AppState) -> tuple[ModelRequest, Identity]:
    """The request with every default filled in, and the identity of its model.

    Run it in a thread: it reads files of conditions, counts the images of references, and looks for files of the model.
    Raises InvalidRequest and UnknownConditions; ProblemError if files are missing or cannot be read.
    """
    request = asked.resolve(entry, state.settings, _upload_of(asked, state), state.evaluation)
    if request.reads == "training":
        check_training(entry)
    else:
        _check_complete(entry, state)
    evaluated_with = request.evaluated_with(entry, state.evaluation)
    with _readable(entry):
        return request, identify(request.reads, entry, state.settings.data_dir, evaluated_with)


def _with_key(
    asked: ModelRequest | TransformerRequest, entry: ModelEntry | TransformerEntry, state: AppState
) -> tuple[Request, str]:
    """A request with every default filled in, and the key of its job, as `_resolved` and `_of_transformer`."""
    if isinstance(asked, TransformerRequest) and isinstance(entry, TransformerEntry):
        return _of_transformer(asked, entry, state)
    assert isinstance(asked, ModelRequest), "the request is of the kind of the model"
    assert isinstance(entry, ModelEntry), "the model is of the kind of the request"
    request, identity = _resolved(asked, entry, state)
    return request, job_key(request.kind, request.model_dump(), identity.weights, identity.reading)


def _of_transformer(asked: OfTransformer, entry: TransformerEntry, state: AppState) -> tuple[OfTransformer, str]:
    """A request of a large transformer with every default filled in, and the key of its job.

    Run it in a thread: it reads files. Raises InvalidRequest and UnknownConditions; ProblemError if files are missing
    or cannot be read.
    """
    _check_complete(entry, state)
    conditions = _upload_of(asked, state)
    with _readable(entry):
        request = asked.resolve(entry, conditions)
        return request, job_key(request.kind, request.model_dump(), entry.files_digest, request.reading(entry))


def _upload_of(asked: Request, state: AppState) -> ConditionInfo | None:
    """The description of the upload that a request names; None if it names none. Raises UnknownConditions."""
    named = upload_in(dict(asked))
    return None if named is None else state.conditions.get(named)


def _check_complete(entry: ModelEntry | TransformerEntry, state: AppState) -> None:
    """Raise ProblemError if files of a model are missing."""
    if missing := entry.missing:
        how = entry.obtain or f"put the files beside {state.settings.registry}"
        raise ProblemError("model-not-ready", f"model {entry.name!r} lacks {', '.join(missing)}: {how}")


@contextmanager
def _readable(entry: ModelEntry | TransformerEntry) -> Iterator[None]:
    """Raise ProblemError where a file that is read within the context cannot be."""
    try:
        yield
    except OSError as error:
        log.warning("file cannot be read", model=entry.name, reason=str(error))
        reason = str(error) if error.filename is None else f"{error.filename}: {error.strerror}"
        raise ProblemError(
            "model-not-ready",
            f"a file of model {entry.name!r}, or one that it is measured with, cannot be read "
            f"({entry.place_of(reason)}): replace or remove it, or permit the service to read it",
        ) from error


async def _wait_for(job: Job, seconds: float, state: AppState) -> Job:
    """The job once it has finished, or as it is after this many seconds, or when it cannot be waited for."""
    if job.is_finished or seconds <= 0:
        return job
    await state.events.wait_finished(job.id, seconds)
    try:
        return await run_in_threadpool(state.store.get, job.id)
    except redis.RedisError:  # the job is stored all the same, and the client can ask for it
        return job


def _no_result(job: Job, client: Client) -> Response:
    """The response to a GET whose job has not succeeded. Raises ProblemError."""
    if job.status == "failed":
        assert job.problem is not None
        return problem_response(job.problem, retry_header(job.problem))
    if job.status == "cancelled":
        raise ProblemError("job-cancelled", f"job {job.id} was cancelled while this request waited for it; ask again")
    return _job_response(job, client)


def check_training(entry: ModelEntry) -> None:
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
    return JSONResponse(job.public(client.prefix, client.viewer), 200 if job.is_finished else 202, headers)
