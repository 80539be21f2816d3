"""Following a job: its events, what happens where they break, and what is done where there are none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from jobs.records import JobView
from service.cli.api import Calls, ServiceAway
from service.cli.following import follow
from tests.service.cli.test_client import JOB

Answer = Callable[[httpx.Request], httpx.Response]


def job(status: str) -> dict[str, Any]:
    return JOB | {"status": status}


def event(place: int, name: str, data: str) -> bytes:
    return f"event: {name}\ndata: {data}\nid: {place}000-0\n\n".encode()


def progress(place: int) -> bytes:
    return event(place, "progress", f'{{"done": {place}, "total": 9, "unit": "steps"}}')


def stream(*pieces: bytes | Exception) -> httpx.Response:
    def sent() -> Iterator[bytes]:
        for piece in pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    return httpx.Response(200, headers={"Content-Type": "text/event-stream; charset=utf-8"}, content=sent())


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, none of which takes any time."""
    made: list[float] = []
    monkeypatch.setattr("service.cli.following.time.sleep", made.append)
    return made


def followed(answers: Answer) -> list[tuple[str, int | None, float | None]]:
    """Each update of a job that begins queued: its status, how much is done, and when."""
    calls = Calls("http://127.0.0.1:1")
    calls._http = httpx.Client(base_url="http://127.0.0.1:1", transport=httpx.MockTransport(answers))
    updates = follow(calls, JobView.model_validate(job("queued")))
    return [(one.job.status, one.job.progress and one.job.progress.done, one.at) for one in updates]


def test_the_events_of_a_job_are_its_updates_and_the_job_is_asked_for_once(pauses: list[float]) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if request.url.path.endswith("/events"):
            ping = b": ping\n\n"
            running, last = '{"status": "running"}', '{"status": "succeeded"}'
            return stream(event(1, "status", running), progress(2), ping, progress(3), event(4, "status", last))
        return httpx.Response(200, json=job("succeeded"))

    updates = followed(answer)
    assert updates == [
        ("queued", None, None),
        ("running", None, 1.0),
        ("running", 2, 2.0),
        ("running", 3, 3.0),
        ("succeeded", None, None),
    ]
    assert (asked, pauses) == (["/jobs/" + "0" * 26 + "/events", "/jobs/" + "0" * 26], [])


def test_a_stream_that_breaks_is_resumed_after_its_last_event(pauses: list[float]) -> None:
    resumed: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/events"):
            return httpx.Response(200, json=job("running" if len(resumed) < 3 else "succeeded"))
        resumed.append(request.headers.get("Last-Event-ID"))
        if len(resumed) == 1:
            return stream(event(1, "status", '{"status": "running"}'), progress(2), httpx.ReadError("cut"))
        if len(resumed) == 2:
            return stream(progress(3), b"event: progress\ndata: {")  # ends in the middle of an event
        return stream(event(4, "status", '{"status": "succeeded"}'))

    assert [done for _, done, at in followed(answer) if at is not None] == [None, 2, 3]
    assert resumed == [None, "2000-0", "3000-0"]


def test_a_service_that_is_busy_is_asked_again_when_it_says(pauses: list[float]) -> None:
    busy = [httpx.Response(503, headers={"Retry-After": "7"}), httpx.Response(429, headers={"Retry-After": "2"})]

    def answer(request: httpx.Request) -> httpx.Response:
        return busy.pop(0) if busy else httpx.Response(204 if "events" in str(request.url) else 200, json=job("failed"))

    assert followed(answer)[-1][0] == "failed"
    assert pauses == [7, 2]


@pytest.mark.parametrize(
    "refused",
    [
        lambda: httpx.Response(404, json={}),
        lambda: httpx.Response(200, text="<p>a page</p>"),
        lambda: stream(httpx.ReadTimeout("nothing passes")),
    ],
)
def test_where_no_events_arrive_the_job_is_asked_for_until_it_has_finished(
    pauses: list[float], refused: Callable[[], httpx.Response]
) -> None:
    states = ["running", "running", "cancelled"]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return refused()
        return httpx.Response(200, json=job(states.pop(0)))

    assert [status for status, _, _ in followed(answer)] == ["queued", "running", "running", "cancelled"]
    assert pauses == [1, 1]


def test_a_service_that_stays_away_is_given_up(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.following.PATIENCE_SECONDS", -1.0)

    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(ServiceAway, match="tailprune serve"):
        followed(answer)
