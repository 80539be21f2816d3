"""The server: `python -m service.server` is uvicorn with options of this service, and with limits for slow clients.

It takes the options of uvicorn, such as `--host` and `--workers`. uvicorn waits for the head of a request, for
its body, and for a client to read the response, however long each takes, and reads a head of any size; `Protocol` does
not. `uvicorn service.app:app` works too, without these limits.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from jobs.problems import Problem
from jobs.settings import Settings, get_settings
from jobs.startup import ending_on_reasons

__all__ = ["Protocol", "main"]

MOST_HEAD_BYTES = 2**16
"""The largest head of a request: its first line and all headers."""
LEAST_BYTES_A_SECOND = 1024
"""A body that comes, or a response that is read, more slowly than this over `TAILPRUNE_REQUEST_SECONDS` is given up."""
LOOKS = 6
"""How often a connection is looked at in that time."""
LINGER_SECONDS = 1.0
"""How long what a client still sends is taken after it was refused."""
OTHER_FILES = 150
"""How many files a process has open besides the connections of clients: to Redis and the broker, artifacts, logs."""
GRACE_SECONDS = 20
"""How long a download may go on that is under way when the process is asked to stop."""


class Refused(Exception):
    """A request that is answered by the server itself."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.content = Problem(type="about:blank", title=title, status=status, detail=detail)


class Protocol(HttpToolsProtocol):
    """A connection: uvicorn's, with time for the head, a least rate for body and response, and a largest head."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        settings: Settings = get_settings()
        self._seconds = settings.request_seconds
        self._most_connections = _most_connections(settings)
        self._refusal: Refused | None = None
        self._look: asyncio.TimerHandle | None = None
        self._in_head = True
        self._in_body = False
        self._head_bytes = 0
        self._heads = 0
        """How many heads were read to their end."""
        self._begun: float | None = None
        """When the head began that is being read; None between two requests."""
        self._received = 0
        """The bytes of a body since `_received_since`."""
        self._received_since = 0.0
        self._unsent = 0
        """The bytes that were to be sent at `_unsent_since`."""
        self._unsent_since = 0.0

    # What asyncio calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begun = self._unsent_since = self.loop.time()
        self._look_later()
        if len(self.connections) > self._most_connections:
            self._refuse(
                Refused(503, "Too many connections", f"{self._most_connections} connections are open; try again later")
            )
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            return
        if self._begun is None and self._in_head:
            self._begun = self.loop.time()
        self._received += len(data)
        before, heads = self._head_bytes, self._heads
        super().data_received(data)
        # A header that has not ended is in no callback yet.
        if self._begun is not None and self._heads == heads and self._refusal is None:
            self._head_bytes = max(self._head_bytes, before + len(data))
            if self._head_bytes > MOST_HEAD_BYTES:
                self._refuse(_large_head())

    def resume_writing(self) -> None:
        self._unsent_since = self.loop.time()
        super().resume_writing()

    # What the parser calls; an exception ends in `send_400_response`

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        if self._begun is None:
            self._begun = self.loop.time()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count_head(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):  # RFC 9112, 3.2
            self._refusal = Refused(
                400, "The request could not be read", f"a request has one header Host; this one has {hosts}"
            )
            raise self._refusal
        self._in_head, self._in_body, self._begun = False, True, None
        self._heads += 1
        self._received, self._received_since = 0, self.loop.time()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head, self._in_body = True, False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed, or was refused while it was."""
        refusal, self._refusal = self._refusal, None
        self._refuse(refusal or Refused(400, "The request could not be read", "this is not a request of HTTP/1.1"))

    # Limits

    def _count_head(self, more: int) -> None:
        self._head_bytes += more
        if self._head_bytes > MOST_HEAD_BYTES:
            self._refusal = _large_head()
            raise self._refusal

    def _look_later(self) -> None:
        self._look = self.loop.call_later(self._seconds / LOOKS, self._look_at)

    def _look_at(self) -> None:
        """End the connection if the client is too slow."""
        now = self.loop.time()
        if self._begun is not None and now - self._begun > self._seconds:
            self._refuse(_slow("the head of the request", self._seconds))
        elif self._in_body and self.flow.read_paused:  # the service is slower than the client
            self._received, self._received_since = 0, now
        elif self._in_body and now - self._received_since >= self._seconds:
            if self._received < LEAST_BYTES_A_SECOND * self._seconds:
                self._refuse(_slow("the body of the request", self._seconds))
            self._received, self._received_since = 0, now
        unsent = self.transport.get_write_buffer_size()
        if unsent == 0 or unsent <= self._unsent - LEAST_BYTES_A_SECOND * (now - self._unsent_since):
            self._unsent, self._unsent_since = unsent, now
        elif now - self._unsent_since > self._seconds:
            self.transport.abort()
            return
        else:
            self._unsent = max(self._unsent, unsent)
        self._look_later()

    def _refuse(self, refusal: Refused) -> None:
        """Answer with a refusal, unless a response has begun, and close."""
        self._refusal, self._begun, self._in_body = refusal, None, False
        if self.transport.is_closing():
            return
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            content = json.dumps(refusal.content.public()).encode()
            headers = [
                *self.server_state.default_headers,
                (b"content-type", b"application/problem+json"),
                (b"content-length", str(len(content)).encode()),
                (b"connection", b"close"),
            ]
            head = b"".join(b"%s: %s\r\n" % header for header in headers)
            self.transport.write(STATUS_LINE[refusal.content.status] + head + b"\r\n" + content)
        if self.transport.can_write_eof():
            # A client that is still sending would not see the answer if the connection were closed at once.
            self.transport.write_eof()
            self.loop.call_later(LINGER_SECONDS, self.transport.close)
        else:
            self.transport.close()


def _most_connections(settings: Settings) -> int:
    """How many clients may be connected: fewer than is set where this process may not have as many open files."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(settings.max_connections, files - OTHER_FILES))


def _large_head() -> Refused:
    return Refused(
        431, "The headers are too large", f"the first line and the headers have more than {MOST_HEAD_BYTES} bytes"
    )


def _slow(what: str, seconds: float) -> Refused:
    return Refused(408, "The request took too long", f"{what} took more than {seconds:g} seconds, or came too slowly")


def main(*options: str) -> None:
    """Run the service with these options of uvicorn."""
    uvicorn.main(
        ["service.app:app", "--http", "service.server:Protocol", "--ws", "none", "--no-access-log",
         "--no-server-header", "--timeout-graceful-shutdown", str(GRACE_SECONDS), *options],
        prog_name="python -m service.server",
    )  # fmt: skip


if __name__ == "__main__":
    with ending_on_reasons():
        get_settings()
    main(*sys.argv[1:])
