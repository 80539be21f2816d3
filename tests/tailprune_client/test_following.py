"""Following a job: its events, what happens where they break, and what is done where there are none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest

from jobs.records import JobView
from tailprune_client import AsyncClient, Event, JobCancelled, JobFailed, ServiceAway, Unavailable, WaitTimeout
from tailprune_client.following import Update
from tailprune_client.progress import Show
from tests.tailprune_client.stand_in import URL, Answer, client_of, event, events, job, progress, refused, sent

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


def stored(*kept: bytes, cut: dict[int, int] | None = None, **others: httpx.Response) -> tuple[Answer, list[str]]:
    """A service with these events of a job that ends, resumed as it should be, and after what it was asked each time.

    cut: after how many events the stream of a request ends, by the number of the request. others: what other requests
    for events are answered, by their numbers.
    """
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/events"):
            return httpx.Response(200, json=job("succeeded"))
        asked.append(request.headers.get("Last-Event-ID", ""))
        if (other := others.get(f"at_{len(asked)}")) is not None:
            return other
        rest = [each for each in kept if each.rpartition(b"id: ")[2].strip().decode() > asked[-1]]
        return events(*rest[: (cut or {}).get(len(asked))]) if rest else httpx.Response(204)

    return answer, asked


RUN = (
    event(1, "status", '{"status": "running"}'),
    progress(2),
    progress(3),
    event(4, "status", '{"status": "succeeded"}'),
)


def test_a_stream_that_ends_early_is_resumed_and_skips_nothing_of_a_job_that_has_finished(pauses: list[float]) -> None:
    answer, asked = stored(*RUN, cut={1: 2, 2: 1})
    with client_of(answer) as client:
        seen = list(client.job("0" * 26).events())
    assert [each.id for each in seen] == ["1000-0", "2000-0", "3000-0", "4000-0"]
    assert asked == ["", "2000-0", "3000-0"]


def test_events_neither_repeat_nor_go_back_after_a_service_was_busy(pauses: list[float]) -> None:
    busy = refused("unavailable", Retry_After="7")
    answer, asked = stored(*RUN, cut={1: 2}, at_2=busy, at_3=httpx.Response(502), at_4=events(*RUN))
    with client_of(answer) as client:
        seen = list(client.job("0" * 26).events())
    assert [each.id for each in seen] == ["1000-0", "2000-0", "3000-0", "4000-0"]
    assert asked == ["", "2000-0", "2000-0", "2000-0"]
    assert pauses == [1, 7, 1]


def test_events_of_a_service_that_stays_busy_are_given_up(pauses: list[float]) -> None:
    answer, _ = stored(*RUN, cut={1: 2}, at_2=refused("unavailable", Retry_After="86400"))
    with client_of(answer) as client:
        seen = client.job("0" * 26).events()
        assert [next(seen).id for _ in range(2)] == ["1000-0", "2000-0"]
        with pytest.raises(Unavailable) as raised:
            next(seen)
        assert raised.value.retry_after == 86400
        assert [each.id for each in client.job("0" * 26).events(after="2000-0")] == ["3000-0", "4000-0"]
    assert pauses == [1]


def test_events_end_with_the_job_where_streams_have_none(pauses: list[float]) -> None:
    states = [job("running"), job("running"), job("succeeded"), job("succeeded")]

    def answer(request: httpx.Request) -> httpx.Response:
        return events() if request.url.path.endswith("/events") else httpx.Response(200, json=states.pop(0))

    with client_of(answer) as client:
        assert list(client.job("0" * 26).events()) == [Event("status", {"status": "succeeded"})]


def test_a_job_is_as_its_latest_event_says_and_has_its_result_after_the_last(pauses: list[float]) -> None:
    answer, _ = stored(*RUN)
    states = [job("queued"), job("succeeded", finished="2025-01-01T00:00:09Z")]

    def answers(request: httpx.Request) -> httpx.Response:
        return answer(request) if request.url.path.endswith("/events") else httpx.Response(200, json=states.pop(0))

    with client_of(answers) as client:
        found = client.job("0" * 26)
        seen = [(found.status, found.progress and found.progress.done) for _ in found.events()]
    assert seen == [("running", None), ("running", 2), ("running", 3), ("succeeded", None)]
    assert found.finished is not None


def test_a_job_whose_wait_is_over_is_as_it_was_seen_last(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("tailprune_client.following.time.monotonic", lambda: now[0])

    def answer(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/events"):
            return httpx.Response(200, json=job("queued"))

        def slow() -> Iterator[bytes]:
            yield from (event(1, "status", '{"status": "running"}'), progress(2))
            now[0] += 50
            yield b": ping\n\n"

        return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=slow())

    with client_of(answer) as client:
        found = client.job("0" * 26)
        with pytest.raises(WaitTimeout):
            found.wait(timeout=40)
    assert (found.status, found.progress and found.progress.done) == ("running", 2)


class Closable(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in pieces, which knows whether it was closed."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces, self.closed = pieces, False

    def __iter__(self) -> Iterator[bytes]:
        yield from sent(*self.pieces)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in sent(*self.pieces):
            yield piece

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


def opening() -> tuple[Answer, list[Closable]]:
    """A service whose streams of events end in each way: that of one job at its end, by an error, and by no answer."""
    bodies = [
        Closable(RUN[0], httpx.ReadError("cut")),
        Closable(RUN[1]),
        Closable(b"busy"),
        Closable(b"event: progress\ndata: 1\n\n"),
    ]
    begun: list[Closable] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/events"):
            return httpx.Response(200, json=job("running" if bodies else "succeeded"))
        assert all(body.closed for body in begun), "each is closed before the next is opened"
        begun.append(bodies.pop(0))
        status = 503 if begun[-1].pieces == (b"busy",) else 200
        return httpx.Response(status, headers={"Content-Type": "text/event-stream"}, stream=begun[-1])

    return answer, begun


def test_a_response_is_closed_at_its_end_and_not_at_that_of_the_operation(pauses: list[float]) -> None:
    answer, begun = opening()
    with client_of(answer) as client:
        assert [each.name for each in client.job("0" * 26).events()] == ["status", "progress", "status"]
    assert [body.closed for body in begun] == [True] * 4


def test_an_awaited_response_is_closed_at_its_end_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def pause(_: float) -> None: ...

    monkeypatch.setattr("tailprune_client.drivers.anyio.sleep", pause)
    answer, begun = opening()

    async def follow() -> list[str]:
        async with AsyncClient(URL, transport=httpx.MockTransport(answer)) as client:
            return [each.name async for each in (await client.job("0" * 26)).events()]

    assert asyncio.run(follow()) == ["status", "progress", "status"]
    assert [body.closed for body in begun] == [True] * 4


def test_the_events_of_all_jobs_wait_for_a_proxy_that_has_no_service_behind_it(pauses: list[float]) -> None:
    opened = b"event: open\ndata: {}\n\n"
    answers = [events(opened), httpx.Response(502, text="<p>bad gateway</p>"), httpx.Response(504), events(opened)]
    with client_of(lambda _: answers.pop(0)) as client:
        seen = client.events()
        assert [next(seen).name for _ in range(2)] == ["open", "open"]
    assert pauses == [1, 0.5, 1]
    with client_of(lambda _: httpx.Response(503), patience=0) as client, pytest.raises(ServiceAway, match="503"):
        next(client.events())


def test_the_events_of_all_jobs_are_given_up_that_are_asked_for_too_late(pauses: list[float]) -> None:
    later = refused("unavailable", Retry_After="86400")
    with client_of(lambda _: later) as client, pytest.raises(Unavailable):
        next(client.events())
    assert pauses == []


def test_a_job_is_looked_at_again_long_before_a_busy_service_says(pauses: list[float]) -> None:
    states = ["running", "running", "succeeded"]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return refused("unavailable", Retry_After="86400")
        return httpx.Response(200, json=job(states.pop(0)))

    assert followed(answer)[-1][0] == "succeeded"
    assert pauses == [10, 10]


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
