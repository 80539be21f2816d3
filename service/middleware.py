"""ASGI middleware around the routes: the prefix of a proxy, HTTP's rules, limits, telemetry, and why a start failed."""

from __future__ import annotations

import re
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette_compress import CompressMiddleware, add_compress_type, remove_compress_type

from jobs.settings import as_prefix
from jobs.startup import REASONS
from jobs.tracing import HEADER, Span
from service.headers import listed_tags, preferred_encoding
from service.telemetry import REQUEST_SECONDS, REQUESTS

__all__ = [
    "BodyChecks",
    "Compression",
    "HeadAsGet",
    "ListHeaders",
    "RequestTelemetry",
    "RootPath",
    "StartupReason",
]

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
OTHER = "other"
UNMATCHED = "unmatched"
"""Labels for unknown methods and paths, so that clients cannot create a new time series with each."""
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

LISTS = frozenset({b"accept", b"accept-encoding", b"if-none-match", b"prefer"})
"""The headers that the service reads whose value is a list."""
ENCODINGS = ("zstd", "br", "gzip")
"""How texts can be compressed, the best first."""
COMPRESSED_BYTES = 1000
"""Smaller bodies are sent as they are: they fit in one packet."""
MOST_BODIES_BYTES = 64 * 2**20
"""The most bytes of bodies that a process holds for all requests together."""
ARTIFACT = re.compile(r"/jobs/[^/]+/artifacts/[^/]+")

log = structlog.get_logger(__name__)

add_compress_type("application/problem+json")
add_compress_type("application/yaml")
remove_compress_type("text/event-stream")  # its events are short, and each has to arrive when it happens


class RootPath:
    """ASGI middleware: sets `root_path`, the prefix under which a proxy publishes the application.

    A server may have set one already. Whether or not the proxy removes the prefix from paths, `path` then begins with
    it once, as ASGI has it.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self.app = app
        self.prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            of_server = scope.get("root_path", "")
            prefix = as_prefix(of_server) or self.prefix
            path = scope["path"].removeprefix(of_server)  # which the server has put before what the proxy sent
            if path == prefix:
                path += "/"
            scope["root_path"] = prefix
            scope["path"] = path if path.startswith(f"{prefix}/") else prefix + path
        await self.app(scope, receive, send)


class ListHeaders:
    """ASGI middleware: several lines of a list header are one list (RFC 9110, 5.3)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            lines = defaultdict(list)
            for name, value in scope["headers"]:
                if name in LISTS:
                    lines[name].append(value)
            if any(len(values) > 1 for values in lines.values()):
                others = [(name, value) for name, value in scope["headers"] if name not in LISTS]
                scope["headers"] = [*others, *((name, b", ".join(values)) for name, values in lines.items())]
        await self.app(scope, receive, send)


class HeadAsGet:
    """ASGI middleware: HEAD is answered as GET is, without the content, and without waiting for the end of a stream."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        as_get: Scope = {
            **scope,
            "method": "GET",
            "headers": [(name, value) for name, value in scope["headers"] if name != b"range"],  # RFC 9110, 14.2
            # By this version a stream stops once `receive` says that the response is over.
            "asgi": {**scope.get("asgi", {}), "spec_version": "2.3"},
        }

        async def send_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        try:
            await self.app(as_get, receive, send_headers)
        finally:
            scope["route"] = as_get.get("route")  # for the telemetry


class Compression(CompressMiddleware):
    """ASGI middleware: compresses texts for clients that accept it.

    Artifacts are sent as they are: their entity tags and ranges are of their bytes. The entity tag of any other
    response becomes weak where it is compressed: a strong one names the bytes of one encoding (RFC 9110, 8.8.3).
    """

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app, minimum_size=COMPRESSED_BYTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or ARTIFACT.search(scope["path"]):
            await self.app(scope, receive, send)
            return
        asked = MutableHeaders(scope=scope)
        if "Accept-Encoding" in asked:  # the library ignores its weights, and takes the first coding that it knows
            asked["Accept-Encoding"] = preferred_encoding(asked["Accept-Encoding"], ENCODINGS)

        async def send_tagged(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                weakens = "Content-Encoding" in headers
                if message["status"] == 304:  # has the tag of the response that the client keeps
                    headers.add_vary_header("Accept-Encoding")
                    weakens = headers.get("ETag") not in listed_tags(Headers(scope=scope).get("If-None-Match"))
                if weakens and (etag := headers.get("ETag", "")).startswith('"'):
                    headers["ETag"] = f"W/{etag}"
            await send(message)

        await super().__call__(scope, receive, send_tagged)


class BodyChecks:
    """ASGI middleware: reading a body of more than `most` bytes raises a 413, and reading an encoded one a 415.

    `most_of` has the limits of single calls, by method and path. Reading any body while those of all requests together
    have more than MOST_BODIES_BYTES raises a 503.
    """

    def __init__(self, app: ASGIApp, most: int, most_of: Mapping[tuple[str, str], int]) -> None:
        self.app = app
        self.most = most
        self.most_of = most_of
        self.held = 0
        """The bytes of all bodies in memory."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope["root_path"])
        most = self.most_of.get((scope["method"], path), self.most)
        begun = False
        seen = held = 0

        async def receive_checked() -> Message:
            nonlocal begun, seen, held
            if not begun:
                _check_headers(Headers(scope=scope), most)
                begun = True
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most:
                raise _too_large("is larger", most)
            more = min(seen, self.most) - held  # what exceeds it, as that of an upload does, is on disk
            held += more
            self.held += more
            if self.held > MOST_BODIES_BYTES:
                raise HTTPException(503, "too many bodies are being read at once; try again in a moment")
            return message

        try:
            await self.app(scope, receive_checked, send)
        finally:
            self.held -= held


def _check_headers(headers: Headers, most: int) -> None:
    """Raise HTTPException for a body that by its headers is too large or encoded."""
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > most:
        raise _too_large(f"is {declared[:20]} bytes", most)
    encoding = ", ".join(headers.getlist("content-encoding"))
    if {coding.strip().lower() for coding in encoding.split(",")} - {"", "identity"}:
        shown = ascii(encoding)[1:-1][:80]
        detail = f"the body has Content-Encoding: {shown}; send it as it is, without Content-Encoding"
        raise HTTPException(415, detail, {"Accept-Encoding": "identity"})


def _too_large(what: str, most: int) -> HTTPException:
    return HTTPException(413, f"the body {what}; at most {most} bytes are accepted")


class RequestTelemetry:
    """ASGI middleware: counts, times, logs and traces each request, and answers with its id as `X-Request-ID`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = scope["request_id"] = _request_id(scope)
        status = 500

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        began = time.perf_counter()
        traced = Span("request", _header(scope, HEADER), "SERVER")
        with structlog.contextvars.bound_contextvars(request_id=request_id), traced.current():
            try:
                await self.app(scope, receive, send_named)
            finally:
                seconds = time.perf_counter() - began
                method = scope["method"] if scope["method"] in METHODS else OTHER
                route = getattr(scope.get("route"), "path", UNMATCHED)
                _end(traced, method, route, status, request_id)
                telemetry = scope["app"].state.app.store.telemetry
                telemetry.note(REQUESTS, method, route, str(status))
                telemetry.note(REQUEST_SECONDS, method, route, value=seconds)
                who = {} if (key := scope.get("key")) is None else {"key": key.name}
                log.info("request", method=method, path=scope["path"], status=status, seconds=round(seconds, 4), **who)


class StartupReason:
    """ASGI middleware: says why the application cannot start in a line, where its reason is all there is to read."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle the lifespan; requests pass through."""
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return

        async def send_reason(message: Message) -> None:
            error = sys.exception()  # Starlette sends while it handles the error, with the traceback as its message
            if message["type"] == "lifespan.startup.failed" and isinstance(error, REASONS):
                message = {**message, "message": str(error)}
            await send(message)

        await self.app(scope, receive, send_reason)


def _header(scope: Scope, name: str) -> str:
    """A header of the request; empty where it has none."""
    return bytes(dict(scope["headers"]).get(name.encode(), b"")).decode("latin-1")


def _end(traced: Span, method: str, route: str, status: int, request_id: str) -> None:
    """End the span of a request, by the conventions of OpenTelemetry."""
    traced.rename(f"{method} {route}")
    traced.note(http__request__method=method, http__route=route, http__response__status_code=status)
    traced.note(tailprune__request_id=request_id)
    if status >= 500:
        traced.fail(f"status {status}")
    traced.end()


def _request_id(scope: Scope) -> str:
    """The id that the client sent in `X-Request-ID`, if it is well-formed, or else a new one."""
    given = _header(scope, "x-request-id")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
