"""A service that a test makes up, and clients of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx

from jobs.problems import Slug, problem
from tailprune_client import Client

Answer = Callable[[httpx.Request], httpx.Response]

URL = "http://127.0.0.1:1"
JOB: dict[str, Any] = {
    "id": "0" * 26,
    "kind": "extract",
    "title": "extract of tiny",
    "status": "succeeded",
    "progress": None,
    "created": "2025-01-01T00:00:00Z",
    "started": None,
    "finished": None,
    "request": {"model": "tiny"},
    "result": None,
    "problem": None,
    "links": {"self": "/jobs/0", "events": "/jobs/0/events", "artifacts": {"vectors.safetensors": "/vectors"}},
}


def job(status: str, **fields: Any) -> dict[str, Any]:
    """The job in another state."""
    return JOB | {"status": status} | fields


def client_of(answer: Answer, url: str = URL, **options: Any) -> Client:
    """A client of the service that answers so."""
    return Client(url, transport=httpx.MockTransport(answer), **options)


def refused(slug: Slug, detail: str = "not now", **headers: str) -> httpx.Response:
    """A problem as an answer. headers: with underscores for hyphens."""
    what = problem(slug, detail)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(what.status, json=what.public(), headers=named)


def event(place: int, name: str, data: str) -> bytes:
    """An event as it is sent."""
    return f"event: {name}\ndata: {data}\nid: {place}000-0\n\n".encode()


def progress(place: int) -> bytes:
    """An event that says how far a job is."""
    return event(place, "progress", f'{{"done": {place}, "total": 9, "unit": "steps"}}')


def events(*pieces: bytes | Exception) -> httpx.Response:
    """A stream of events, which may break."""
    headers = {"Content-Type": "text/event-stream; charset=utf-8"}
    return httpx.Response(200, headers=headers, content=sent(*pieces))


def sent(*pieces: bytes | Exception) -> Iterator[bytes]:
    """A body in pieces, which may break."""
    for piece in pieces:
        if isinstance(piece, Exception):
            raise piece
        yield piece
