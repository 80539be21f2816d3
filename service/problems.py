"""Errors as problem documents (RFC 9457): every exception is translated to one here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import redis
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from jobs.problems import STORAGE_FULL, Fault, InvalidRequest, Problem, Slug, problem
from jobs.queue import BrokerUnavailable
from jobs.registry.added import ModelExists
from jobs.registry.catalogue import ModelRegistered
from jobs.registry.models import UnknownModel
from jobs.requests.fields import UNION_TAGS
from jobs.storage.artifacts import ArtifactsFull, ArtifactsUnavailable
from jobs.storage.uploads import ConditionsInUse, ConditionsOfOthers, UnknownConditions
from jobs.store.connection import is_unavailable
from jobs.store.events import TooManyFollowers
from jobs.store.jobs import (
    IdempotencyConflict,
    JobFinished,
    JobOfOthers,
    JobUnfinished,
    ResultGone,
    TooManyJobs,
    UnknownJob,
    UnreadableJob,
)

__all__ = [
    "MEDIA_TYPE",
    "MOST_SHOWN",
    "NothingMore",
    "ProblemError",
    "add_handlers",
    "problem_response",
    "retry_header",
]

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5
QUEUE_RETRY_AFTER_SECONDS = 30
"""A full queue takes longer to be worked off than a server to come back."""
MOST_SHOWN = 80
"""The most characters of a client's text that a message repeats."""
MOST_FAULTS = 100
"""The most faults that a response lists: a body may have a hundred thousand."""
MOST_FAULT_BYTES = 2**15
"""The most bytes of all faults that a response lists: a client's text may be in each."""
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
MESSAGES = {
    "unexpected_keyword_argument": "Extra inputs are not permitted",
    "dataclass_type": "Input should be an object",
    "model_type": "Input should be an object",
    "model_attributes_type": "Input should be an object",
    "tuple_type": "Input should be a valid list",
}
"""Messages in place of pydantic's, whose wording differs between dataclasses and models, by type of error."""

log = structlog.get_logger(__name__)


class ProblemError(Exception):
    """Answers the request with a problem of one of the catalogued types."""

    def __init__(self, slug: Slug, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.problem = problem(slug, detail)
        self.headers = headers


class NothingMore(Exception):
    """Answers the request with 204: no content, now or later."""


def problem_response(what: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The response that sends a problem."""
    # ASCII: a message may quote what a client sent, and that need not be valid Unicode.
    return Response(json.dumps(what.public(), ensure_ascii=True), what.status, headers=headers, media_type=MEDIA_TYPE)


def retry_header(what: Problem) -> dict[str, str]:
    """When to try again, for a problem that passes by itself; nothing for others."""
    return {"Retry-After": str(RETRY_AFTER_SECONDS)} if what.status == 503 else {}


def add_handlers(app: FastAPI) -> None:
    """Register a handler for every exception that a request may raise."""
    plain: dict[type[Exception], Slug] = {
        UnknownModel: "unknown-model",
        ModelRegistered: "model-registered",
        ModelExists: "model-exists",
        UnknownConditions: "unknown-conditions",
        ConditionsInUse: "conditions-in-use",
        ConditionsOfOthers: "not-allowed",
        UnknownJob: "unknown-job",
        UnreadableJob: "record-unreadable",
        ResultGone: "result-gone",
        JobFinished: "job-finished",
        JobOfOthers: "not-allowed",
        JobUnfinished: "job-unfinished",
        IdempotencyConflict: "idempotency-key-reused",
    }
    for kind, slug in plain.items():
        app.add_exception_handler(kind, _plain_handler(slug))
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(InvalidRequest, _on_invalid)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(NothingMore, _on_nothing_more)
    app.add_exception_handler(TooManyJobs, _on_too_many_jobs)
    app.add_exception_handler(BrokerUnavailable, _on_unavailable)
    app.add_exception_handler(redis.RedisError, _on_redis)
    app.add_exception_handler(ArtifactsUnavailable, _on_artifacts)
    app.add_exception_handler(TooManyFollowers, _on_too_many_followers)
    app.add_exception_handler(Exception, _on_unexpected)


def _plain_handler(slug: Slug) -> Any:
    async def handler(_: Request, error: Exception) -> Response:
        return problem_response(problem(slug, str(error)))

    return handler


async def _on_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return problem_response(error.problem, error.headers)


async def _on_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, InvalidRequest)
    return problem_response(_invalid(error.faults))


async def _on_validation(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = error.errors()
    if errors[0]["type"] == "json_invalid":
        place, reason = errors[0]["loc"][1], errors[0]["ctx"]["error"]
        return problem_response(problem("malformed-request", f"the body is not JSON: {reason}, at character {place}"))
    faults = [Fault(location=_path(e["loc"]), message=_message(e)) for e in errors[:MOST_FAULTS]]
    return problem_response(_invalid(faults, len(errors)))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    handlers: Mapping[Any, Any] = request.app.exception_handlers
    for kind in type(error.__cause__).__mro__:  # FastAPI's 400 is for whatever is raised while it reads a body
        if kind is not Exception and kind in handlers:
            response: Response = await handlers[kind](request, error.__cause__)
            return response
    detail, headers = str(error.detail), error.headers
    match error.status_code:
        case 404:
            prefix = request.scope.get("app_root_path", request.scope["root_path"])  # the first is set within a mount
            what = problem("not-found", f"nothing is at this path; {quote(prefix)}/docs lists all paths")
        case 405:
            allowed = ", ".join(_methods(request))
            what = problem("method-not-allowed", f"this path does not answer {request.method}; use {allowed}")
            headers = {"Allow": allowed}
        case 413:
            what = problem("body-too-large", detail)
        case 415:
            what = problem("unsupported-media-type", detail)
        case 400:
            what = problem("malformed-request", _unreadable(error))
        case 503:
            what, headers = problem("unavailable", detail), {"Retry-After": str(RETRY_AFTER_SECONDS)}
        case status:
            what = Problem(type="about:blank", title=detail, status=status, detail=detail)
    return problem_response(what, headers)


async def _on_nothing_more(_: Request, __: Exception) -> Response:
    return Response(status_code=204)


async def _on_too_many_jobs(_: Request, error: Exception) -> Response:
    log.warning("no more jobs are taken", reason=str(error))
    return problem_response(problem("too-many-jobs", str(error)), {"Retry-After": str(QUEUE_RETRY_AFTER_SECONDS)})


async def _on_redis(request: Request, error: Exception) -> Response:
    if not is_unavailable(error):
        raise error  # a bug: logged, and answered as an unexpected error
    return await _on_unavailable(request, error)


async def _on_unavailable(_: Request, error: Exception) -> Response:
    log.warning("the job store cannot be reached, or takes no writes", error=str(error))
    detail = f"the job store or its queue does not answer, or is full; try again in {RETRY_AFTER_SECONDS} seconds"
    return problem_response(problem("unavailable", detail), {"Retry-After": str(RETRY_AFTER_SECONDS)})


async def _on_artifacts(_: Request, error: Exception) -> Response:
    log.warning("the store of artifacts is unavailable or full", error=str(error))
    if isinstance(error, ArtifactsFull):
        return problem_response(problem("storage-full", STORAGE_FULL))
    detail = f"the store of artifacts does not answer; try again in {RETRY_AFTER_SECONDS} seconds"
    return problem_response(problem("unavailable", detail), {"Retry-After": str(RETRY_AFTER_SECONDS)})


async def _on_too_many_followers(_: Request, error: Exception) -> Response:
    detail = f"{error}; poll the job, or try again in {RETRY_AFTER_SECONDS} seconds"
    return problem_response(problem("unavailable", detail), {"Retry-After": str(RETRY_AFTER_SECONDS)})


async def _on_unexpected(request: Request, error: Exception) -> Response:
    # This runs outside of all middleware, which would name the request.
    request_id = request.scope["request_id"]
    log.error("unexpected error", request_id=request_id, exc_info=error)
    detail = "the error was logged; the same request may work later"
    return problem_response(problem("internal", detail), {"X-Request-ID": request_id})


def _unreadable(error: HTTPException) -> str:
    """Why a request could not be read: FastAPI has one text for all that it cannot parse, and the error as cause."""
    match error.__cause__:
        case UnicodeDecodeError() as cause:
            return (
                f"the body is not JSON: byte {cause.start} is not {cause.encoding}; send text in UTF-8, not compressed"
            )
        case RecursionError():
            return "the body is not JSON that can be read: its arrays or objects are nested too deeply"
        case ValueError():  # the only one: an integer of more digits than Python converts
            return "the body is not JSON that can be read: a number has too many digits"
    return str(error.detail)


def _methods(request: Request) -> list[str]:
    """The methods of the request's path; Starlette's own `Allow` lists only those of the first matching route.

    The files of the reference are mounted, not routed; they can only be read.
    """
    found = [
        method
        for method in METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    ] or ["GET"]
    return ["GET", "HEAD", *found[1:]] if "GET" in found else found  # HEAD is answered wherever GET is


def _invalid(faults: Sequence[Fault], count: int | None = None) -> Problem:
    """The problem of an invalid request. count: how many faults it has; by default these."""
    count = len(faults) if count is None else count
    shown, size = list[Fault](), 0
    for fault in faults[:MOST_FAULTS]:
        size += len(fault.model_dump_json(ensure_ascii=True))
        if shown and size > MOST_FAULT_BYTES:
            break
        shown.append(fault)
    what = "one thing is" if count == 1 else f"{count} things are"
    which = f"errors has the first {len(shown)}" if count > len(shown) else "see errors"
    return problem("invalid-request", f"{what} wrong with the request; {which}", shown)


def _path(location: Sequence[Any]) -> str:
    return ".".join(str(part)[:MOST_SHOWN] for part in location if part not in UNION_TAGS)


def _message(error: Mapping[str, Any]) -> str:
    """What is wrong, with the value if it is short."""
    if error["type"] == "missing" and tuple(error["loc"]) == ("body",):
        return "there is no body; send a JSON object, with the header Content-Type: application/json"
    message = MESSAGES.get(error["type"]) or str(error["msg"]).removeprefix("Value error, ")
    given = error.get("input")
    if isinstance(given, str | int | float) and len(shown := ascii(given)) <= MOST_SHOWN:
        return f"{message}; given {shown}"
    return message
