"""Clients that are slow, send too much or hold connections, against the server's own protocol."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from jobs.settings import Settings
from service import server
from service.server import MOST_HEAD_BYTES, Protocol

SECONDS = 0.3
"""TAILPRUNE_REQUEST_SECONDS in these tests."""
LARGE = 8 * 2**20
"""More than the kernel keeps for a client that does not read."""

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[Any]]


class App:
    """Reads each body, and answers with its size, or at /large with many bytes; keeps what happened."""

    def __init__(self) -> None:
        self.heads = 0
        self.ended: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.heads += 1
        size = 0
        while (message := await receive())["type"] == "http.request":
            size += len(message["body"])
            if not message["more_body"]:
                break
        if message["type"] == "http.disconnect":
            self.ended.append("disconnected")
            return
        body = bytes(LARGE) if scope["path"] == "/large" else str(size).encode()
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-length", str(len(body)).encode())],
            }
        )
        for at in range(0, len(body), 2**20):
            more = at + 2**20 < len(body)
            await send({"type": "http.response.body", "body": body[at : at + 2**20], "more_body": more})
        self.ended.append("answered")


@asynccontextmanager
async def serving(app: App, settings: Settings) -> AsyncIterator[int]:
    """The port at which an application is served in this process."""
    running = uvicorn.Server(
        uvicorn.Config(app, http=Protocol, ws="none", lifespan="off", log_config=None, timeout_keep_alive=60)
    )
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        task = asyncio.create_task(running.serve(sockets=[listening]))
        while not running.started:
            await asyncio.sleep(0.01)
        yield listening.getsockname()[1]
        running.should_exit = running.force_exit = True
        await task


@pytest.fixture
def talk(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Talks to the server over one connection; what the talk returns."""

    def talk(what: Talk, app: App | None = None, **changes: Any) -> Any:
        chosen = settings.model_copy(update={"request_seconds": SECONDS} | changes)
        monkeypatch.setattr(server, "get_settings", lambda: chosen)

        async def go() -> Any:
            async with serving(app or App(), chosen) as port, asyncio.timeout(60):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**17)
                try:
                    return await what(reader, writer)
                finally:
                    writer.close()

        return asyncio.run(go())

    return talk


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    """The status and the problem of an answer after which the connection is closed."""
    head, _, content = (await reader.read()).partition(b"\r\n\r\n")
    assert b"connection: close" in head
    return int(head.split()[1]), json.loads(content)


def sends(*parts: bytes, pause: float = 0.0) -> Talk:
    """Sends these parts, and reads an answer after which the connection is closed."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, dict[str, Any]]:
        for part in parts:
            writer.write(part)
            await asyncio.sleep(pause)
        return await answer(reader)

    return talk


@pytest.mark.parametrize("start", [b"", b"G", b"GET / HTTP/1.1\r\nHost: a\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX: "])
def test_a_head_that_is_not_finished_is_given_up(talk: Callable[..., Any], start: bytes) -> None:
    status, document = talk(sends(start))
    assert status == 408
    assert "the head of the request took more than 0.3 seconds" in document["detail"]


def test_a_head_that_trickles_is_given_up(talk: Callable[..., Any]) -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, dict[str, Any]]:
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n")
        answering = asyncio.create_task(answer(reader))
        while not answering.done():
            writer.write(b"X: y\r\n")
            await asyncio.sleep(SECONDS / 10)
        return await answering

    assert talk(trickle)[0] == 408


def test_a_second_head_that_is_not_finished_is_given_up(talk: Callable[..., Any]) -> None:
    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, dict[str, Any]]:
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n0")
        writer.write(b"\r\n")  # which begins no head
        return await answer(reader)

    assert talk(twice)[0] == 408


@pytest.mark.parametrize("start", [b"", b"ab"])
def test_a_body_that_does_not_come_is_given_up_and_the_application_is_told(
    talk: Callable[..., Any], start: bytes
) -> None:
    app = App()
    status, document = talk(sends(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n" + start), app)
    assert status == 408
    assert "the body of the request took more than 0.3 seconds" in document["detail"]
    assert app.ended == ["disconnected"]


def test_a_body_that_trickles_is_given_up(talk: Callable[..., Any]) -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, dict[str, Any]]:
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n")
        answering = asyncio.create_task(answer(reader))
        while not answering.done():
            writer.write(b"x")
            await asyncio.sleep(SECONDS / 10)
        return await answering

    assert talk(trickle)[0] == 408


def test_a_large_body_that_comes_slowly_but_steadily_is_read(talk: Callable[..., Any]) -> None:
    parts, part = 40, bytes(2**10)

    async def upload(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (parts * len(part)))
        for _ in range(parts):
            writer.write(part)
            await asyncio.sleep(SECONDS / 10)
        return await reader.readuntil(b"40960")

    assert talk(upload).startswith(b"HTTP/1.1 200")


def test_a_client_that_does_not_read_its_response_is_cut_off(talk: Callable[..., Any]) -> None:
    app = App()

    async def never_reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        while not app.ended:
            await asyncio.sleep(0.01)

    talk(never_reads, app)


def test_a_client_that_reads_slowly_but_steadily_gets_all(talk: Callable[..., Any]) -> None:
    async def reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        size = len(await reader.readuntil(b"\r\n\r\n")) * 0
        while part := await reader.read(2**18):
            size += len(part)
            await asyncio.sleep(SECONDS / 20)  # thirty-two times, so that all of it takes longer than a pause may
        return size

    assert talk(reads) == LARGE


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * MOST_HEAD_BYTES + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * MOST_HEAD_BYTES,
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * (MOST_HEAD_BYTES // 4),
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"a" * 128 * 1024 + b"\r\n\r\n",
    ],
    ids=["a long path", "a long header that does not end", "many headers", "128 KiB at once"],
)
def test_a_head_that_is_too_large_is_refused(talk: Callable[..., Any], head: bytes) -> None:
    app = App()
    status, document = talk(sends(head), app, request_seconds=30.0)
    assert (status, app.heads) == (431, 0)
    assert "more than 65536 bytes" in document["detail"]


def test_a_head_just_below_the_limit_is_read(talk: Callable[..., Any]) -> None:
    async def asks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * (MOST_HEAD_BYTES - 100) + b"\r\n\r\n")
        return await reader.readuntil(b"\r\n")

    for _ in range(2):
        assert talk(asks) == b"HTTP/1.1 200 OK\r\n"


def test_large_bodies_that_come_at_once_with_their_heads_do_not_count_as_heads(talk: Callable[..., Any]) -> None:
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + bytes(200_000)

    async def asks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> list[bytes]:
        found = []
        for _ in range(3):
            writer.write(request)
            found.append((await reader.readuntil(b"200000")).splitlines()[0])
        return found

    assert [line for line in talk(asks, request_seconds=30.0) if line] == [b"HTTP/1.1 200 OK"] * 3


@pytest.mark.parametrize(
    ("head", "count"),
    [(b"GET / HTTP/1.1\r\n\r\n", 0), (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 2)],
)
def test_a_request_has_one_host(talk: Callable[..., Any], head: bytes, count: int) -> None:
    app = App()
    status, document = talk(sends(head), app)
    assert (status, app.heads) == (400, 0)
    assert document["detail"] == f"a request has one header Host; this one has {count}"


def test_a_request_of_http_1_0_needs_no_host(talk: Callable[..., Any]) -> None:
    async def asks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        return await reader.read()

    assert talk(asks).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "nonsense", [b"\x16\x03\x01\x00", b"hello\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"]
)
def test_what_is_no_request_is_answered_with_a_problem(talk: Callable[..., Any], nonsense: bytes) -> None:
    status, document = talk(sends(nonsense))
    assert (status, document["status"]) == (400, 400)


def test_a_connection_beyond_the_limit_is_refused_and_those_below_it_are_answered(
    talk: Callable[..., Any], settings: Settings
) -> None:
    async def third(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, bytes]:
        host, port = writer.get_extra_info("peername")
        _, second = await asyncio.open_connection(host, port)
        beyond, _ = await asyncio.open_connection(host, port)
        status, document = await answer(beyond)
        assert "2 connections are open" in document["detail"]
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        first = await reader.readuntil(b"\r\n")
        second.close()
        while True:  # the place of one that left is free again
            again, asking = await asyncio.open_connection(host, port)
            asking.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            if b"200" in await again.readuntil(b"\r\n"):
                break
        asking.close()
        return status, first

    assert talk(third, max_connections=2, request_seconds=30.0) == (503, b"HTTP/1.1 200 OK\r\n")


def test_a_process_with_few_files_takes_fewer_connections(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.resource, "getrlimit", lambda _: (256, 256))
    assert server._most_connections(settings) == 256 - server.OTHER_FILES
