"""Following a job: its events, what happens where they break, and what is done where there are none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest

from jobs.records import JobView
from tailprune_client import Event, JobCancelled, JobFailed, ServiceAway, WaitTimeout
from tailprune_client.following import Update
from tailprune_client.progress import Show
from tests.tailprune_client.stand_in import Answer, client_of, event, events, job, progress, refused

Seen = list[tuple[str, int | None, float | None]]


def followed(answers: Answer, patience: float = 60) -> Seen:
    """Each update of a job that begins queued: its status, how much is done, and when."""
    updates: list[Update] = []

    @contextmanager
    def shown(_: JobView) -> Iterator[Show]:
        yield updates.append

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(202, json=job("queued")) if request.method == "POST" else answers(request)

    with client_of(answer, progress=shown, patience=patience) as client:
        started = client.extract("tiny")
        with suppress(JobFailed, JobCancelled):
            started.wait()
    return [(one.job.status, one.job.progress and one.job.progress.done, one.at) for one in updates]


def test_the_events_of_a_job_are_its_updates_and_the_job_is_asked_for_once(pauses: list[float]) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if request.url.path.endswith("/events"):
            ping = b": ping\n\n"
            running, last = '{"status": "running"}', '{"status": "succeeded"}'
            return events(event(1, "status", running), progress(2), ping, progress(3), event(4, "status", last))
        return httpx.Response(200, json=job("succeeded"))

    assert followed(answer) == [
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
            return events(event(1, "status", '{"status": "running"}'), progress(2), httpx.ReadError("cut"))
        if len(resumed) == 2:
            return events(progress(3), b"event: progress\ndata: {")  # ends in the middle of an event
        return events(event(4, "status", '{"status": "succeeded"}'))

    assert [done for _, done, at in followed(answer) if at is not None] == [None, 2, 3]
    assert resumed == [None, "2000-0", "3000-0"]


def test_a_service_that_follows_no_further_job_is_asked_for_the_job_meanwhile(pauses: list[float]) -> None:
    busy = [refused("unavailable", Retry_After="7"), refused("too-many-jobs", Retry_After="2")]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return busy.pop(0) if busy else httpx.Response(204)
        return httpx.Response(200, json=job("running" if busy else "failed"))

    assert [status for status, _, _ in followed(answer)] == ["queued", "running", "failed"]
    assert pauses == [7]


@pytest.mark.parametrize(
    "refusal",
    [
        lambda: httpx.Response(404, json={}),
        lambda: httpx.Response(200, text="<p>a page</p>"),
        lambda: events(httpx.ReadTimeout("nothing passes")),
        lambda: events(b"event: progress\ndata: no JSON\nid: 1-0\n\n"),
    ],
)
def test_where_no_events_arrive_the_job_is_asked_for_until_it_has_finished(
    pauses: list[float], refusal: Callable[[], httpx.Response]
) -> None:
    states = ["running", "running", "cancelled"]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return refusal()
        return httpx.Response(200, json=job(states.pop(0)))

    assert [status for status, _, _ in followed(answer)] == ["queued", "running", "running", "cancelled"]
    assert pauses == [1, 1]


def test_a_service_that_is_away_is_asked_again_when_it_says(pauses: list[float]) -> None:
    away = [httpx.ConnectError("refused"), refused("unavailable", Retry_After="3"), httpx.Response(502)]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json=job("succeeded"))

    def answers(request: httpx.Request) -> httpx.Response:
        if away:
            now = away.pop(0)
            if isinstance(now, Exception):
                raise now
            return now
        return httpx.Response(204) if request.url.path.endswith("/events") else answer(request)

    assert followed(answers)[-1][0] == "succeeded"
    assert pauses == [1, 1]


def test_a_service_that_stays_away_is_given_up(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailprune_client.following.LEAST_PATIENCE", -1.0)

    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(ServiceAway, match="tailprune serve"):
        followed(answer, patience=-1)


def test_a_wait_ends_when_its_time_is_over_and_the_job_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("tailprune_client.following.time.monotonic", lambda: now[0])
    limits: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(202, json=job("queued"))
        assert request.url.path.endswith("/events"), "the job is not cancelled"
        limits.append(request.extensions["timeout"]["read"])

        def quiet() -> Iterator[bytes]:
            yield event(1, "status", '{"status": "running"}')
            while True:
                now[0] += 15
                yield b": ping\n\n"

        return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=quiet())

    with client_of(answer) as client, pytest.raises(WaitTimeout, match="after 40 s; it goes on") as raised:
        client.extract("tiny").wait(timeout=40)
    assert isinstance(raised.value, TimeoutError)
    assert limits == [25, 10], "near its end, the stream is opened for as long as is left"


def test_a_job_that_failed_raises_its_problem_and_is_kept(pauses: list[float]) -> None:
    why = {"type": "urn:tailprune:problem:worker-lost", "title": "Lost", "status": 500, "detail": "three were lost"}

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=job("failed", problem=why))

    with client_of(answer) as client:
        found = client.job("0" * 26)
        with pytest.raises(JobFailed, match=r"^job 0{26} failed: three were lost$") as raised:
            found.wait()
    assert (type(raised.value).__name__, raised.value.type) == ("WorkerLost", "worker-lost")
    assert found.status == "failed"


def test_the_events_of_a_job_begin_after_the_one_that_is_named(pauses: list[float]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/events"):
            return httpx.Response(200, json=job("succeeded"))
        if request.headers.get("Last-Event-ID") == "4000-0":
            return httpx.Response(204)
        return events(progress(3), event(4, "status", '{"status": "succeeded"}'))

    with client_of(answer) as client:
        found = client.job("0" * 26)
        assert list(found.events()) == [
            Event("progress", {"done": 3, "total": 9, "unit": "steps"}, "3000-0"),
            Event("status", {"status": "succeeded"}, "4000-0"),
        ]
        assert list(found.events(after="4000-0")) == []


def test_events_of_a_kind_that_is_not_known_are_passed_on_and_change_nothing(pauses: list[float]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/events"):
            return httpx.Response(200, json=job("succeeded"))
        return events(event(1, "result", '{"variants": []}'), event(2, "status", '{"status": "succeeded"}'))

    with client_of(answer) as client:
        assert [one.name for one in client.job("0" * 26).events()] == ["result", "status"]
    assert [status for status, _, _ in followed(answer)] == ["queued", "queued", "succeeded"]


def test_the_events_of_all_jobs_begin_anew_after_an_interruption(pauses: list[float]) -> None:
    streams = [
        events(b"event: open\ndata: {}\n\n", b'event: deleted\ndata: {"id": "1"}\n\n', httpx.ReadError("cut")),
        refused("unavailable", Retry_After="5"),
        events(b"event: open\ndata: {}\n\n"),
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/events"
        return streams.pop(0)

    with client_of(answer) as client:
        seen = client.events()
        assert [next(seen).name for _ in range(3)] == ["open", "deleted", "open"]
    assert pauses == [0.5, 5]
