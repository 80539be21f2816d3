"""ASGI middleware: a limit on request bodies, counted as they arrive, and the telemetry of requests."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping

import structlog
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.telemetry import ServiceTelemetry

__all__ = ["BodyLimit", "RequestTelemetry"]

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
OTHER = "other"
UNMATCHED = "unmatched"
"""Labels for unknown methods and paths, so that clients cannot create a new time series with each."""
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

log = structlog.get_logger(__name__)


class BodyLimit:
    """ASGI middleware: reading a body of more than `most` bytes raises a 413.

    `most_of` has the limits of single calls, by method and path.
    """

    def __init__(self, app: ASGIApp, most: int, most_of: Mapping[tuple[str, str], int]) -> None:
        self.app = app
        self.most = most
        self.most_of = most_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        most = self.most_of.get((scope["method"], path), self.most)
        declared = Headers(scope=scope).get("content-length", "")
        declared_too_large = declared.isdecimal() and int(declared[:20]) > most
        seen = 0

        async def receive_within() -> Message:
            nonlocal seen
            if declared_too_large:
                raise _too_large(f"is {declared[:20]} bytes", most)
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most:
                raise _too_large("is larger", most)
            return message

        await self.app(scope, receive_within, send)


def _too_large(what: str, most: int) -> HTTPException:
    return HTTPException(413, f"the body {what}; at most {most} bytes are accepted")


class RequestTelemetry:
    """ASGI middleware: counts, times and logs each request, and answers with its id as `X-Request-ID`."""

    def __init__(self, app: ASGIApp, telemetry: ServiceTelemetry) -> None:
        self.app = app
        self.telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        status = 500

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        began = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_named)
            finally:
                seconds = time.perf_counter() - began
                method = scope["method"] if scope["method"] in METHODS else OTHER
                route = getattr(scope.get("route"), "path", UNMATCHED)
                self.telemetry.requests.labels(method, route, str(status)).inc()
                self.telemetry.seconds.labels(method, route).observe(seconds)
                log.info("request", method=method, path=scope["path"], status=status, seconds=round(seconds, 4))


def _request_id(scope: Scope) -> str:
    """The id that the client sent in `X-Request-ID`, if it is well-formed, or else a new one."""
    given: str = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
