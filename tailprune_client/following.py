"""Following jobs by their events, or by asking again and again where these do not arrive."""

from __future__ import annotations

import json
import math
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import httpx_sse

from jobs.records import FINISHED, JobView, Progress
from tailprune_client.core import (
    AWAY,
    Call,
    Close,
    Item,
    Next,
    Open,
    Opened,
    Operation,
    Pause,
    Session,
    Stream,
    ask,
    failure,
    path_of,
    pause_of,
    read_job,
    retry_after,
)
from tailprune_client.errors import ProblemError, ServiceAway, UnexpectedAnswer, WaitTimeout

__all__ = ["Event", "Follower", "Update", "all_events", "events_of", "follow", "get_job"]

LEAST_PATIENCE = 60.0
"""The seconds for which a service is waited for at least that stopped answering while a job is followed."""
POLL_SECONDS = 1.0
"""The pause before a stream is opened again, and between two looks where there are no events."""
QUIET_SECONDS = 25.0
"""After this many seconds without anything a stream counts as lost: a quiet one has a comment every 15 seconds."""
PRECISION_SECONDS = 2.0
"""By how much a limit of time may be exceeded."""
EVENT_ID = re.compile(r"(\d+)-\d+")
"""The id of an event is that of an entry of a Redis stream, which begins with its time in milliseconds."""


@dataclass(frozen=True)
class Event:
    """An event of a job, or of all jobs.

    name: `status`, `progress` and what later services have besides; of all jobs `open`, `job`, `progress`, `deleted`.
    data: what it says, as JSON data.
    id: the id after which to resume; empty where events do not arrive and the job is asked for instead.
    """

    name: str
    data: dict[str, Any]
    id: str = ""

    @property
    def is_last(self) -> bool:
        """Whether no event follows, of a job: it has finished."""
        return self.name == "status" and self.data.get("status") in FINISHED

    @property
    def time(self) -> float | None:
        """When it happened, in seconds since 1970, by the clock of the service; None if that is not known."""
        found = EVENT_ID.fullmatch(self.id)
        return None if found is None else int(found[1]) / 1000


@dataclass(frozen=True)
class Update:
    """A job as it is now. at: the time of the event that said so, in seconds; None if no event did."""

    job: JobView
    at: float | None = None


class _NoEvents(Exception):
    """The events of a job do not arrive: something in between does not pass streams on."""


class _Busy(Exception):
    """The service, or a proxy before it, answers, but not with events. after: the seconds that it asks to wait."""

    def __init__(self, after: float | None) -> None:
        super().__init__()
        self.after = after


def get_job(session: Session, job_id: str, patience: float | None = None) -> Operation[JobView]:
    """GET /jobs/{id}: the job as it is now."""
    return read_job((yield from ask(session, Call("GET", path_of("jobs", job_id)), patience=patience)))


def follow(
    session: Session, job: JobView, show: Callable[[Update], None], timeout: float | None = None
) -> Operation[JobView]:
    """Follow a job until it has finished, and return it then.

    show: is called with the job at each of its changes, the last one included.
    timeout: the seconds to wait for it; None, the default, for as long as it takes.

    Raises WaitTimeout; ServiceAway if the service does not answer for long.
    """
    show(Update(job))
    if job.status in FINISHED:
        return job
    follower = Follower(session, job.id, "", timeout)
    while (seen := (yield from follower.next())) is not None:
        if seen.job is not None:
            job = seen.job
        elif seen.event is not None and seen.event.name == "progress":
            job = job.model_copy(update={"progress": Progress.model_validate(seen.event.data, extra="ignore")})
        elif seen.event is not None and seen.event.name == "status":
            job = job.model_copy(update={"status": seen.event.data["status"], "progress": None})
        if job.status not in FINISHED:
            show(Update(job, None if seen.event is None else seen.event.time))
    if not follower.looked:
        job = yield from get_job(session, job.id, follower.patience)
    show(Update(job))
    return job


def events_of(session: Session, job_id: str, after: str) -> Stream[Event]:
    """The events of a job after one, or from the first if that is empty, as they happen, until it has finished."""
    follower = Follower(session, job_id, after, None)
    while (seen := (yield from follower.next())) is not None:
        if seen.event is not None:
            yield Item(seen.event)


@dataclass(frozen=True)
class _Seen:
    """What is new of a job: an event; the job itself, where it was asked for."""

    event: Event | None
    job: JobView | None = None


class Follower:
    """Looks what is new of a job. A stream of events that breaks is resumed after its last event.

    after: the id of the last event that is known; empty for none.
    timeout: the seconds after which WaitTimeout is raised; None for never.
    """

    def __init__(self, session: Session, job_id: str, after: str, timeout: float | None) -> None:
        self.patience = max(session.patience, LEAST_PATIENCE)
        self.looked = False
        """Whether the job itself is what was seen last."""
        self._session, self._job_id, self._last_event_id, self._timeout = session, job_id, after, timeout
        self._begun = time.monotonic()
        self._away: float | None = None
        """Since when the service has not answered; None while it does."""
        self._waiting: deque[_Seen] = deque()
        self._stream: Opened[httpx_sse.ServerSentEvent] | None = None
        self._stream_seconds = QUIET_SECONDS
        self._has_events, self._told, self._over = True, False, False
        self._job: JobView | None = None

    def next(self) -> Operation[_Seen | None]:
        """What is new, as soon as something is; None once the job has finished. Raises WaitTimeout and ServiceAway."""
        while not self._waiting and not self._over:
            self._check_time()
            try:
                yield from self._advance()
            except ServiceAway as error:
                if self._away is None:
                    self._away = time.monotonic()
                if time.monotonic() - self._away > self.patience:
                    raise
                yield from self._pause(error.retry_after or POLL_SECONDS)
        return self._waiting.popleft() if self._waiting else None

    def _advance(self) -> Operation[None]:
        """Take the next event, or look at the job where there is none."""
        pause = POLL_SECONDS
        if self._has_events:
            try:
                sent = yield from self._next_event()
            except _NoEvents:
                self._has_events = False
            except _Busy as busy:
                pause = busy.after or POLL_SECONDS
                yield from self._look(new=True)
            else:
                if sent is not None:
                    self._take(sent)
                    return
                yield from self._look(new=False)
        if not self._has_events:
            yield from self._look(new=True)
        if not self._over:
            yield from self._pause(pause)

    def _take(self, sent: httpx_sse.ServerSentEvent) -> None:
        """Note an event; one without data is a comment that keeps the connection alive."""
        self._away = None
        self._last_event_id = sent.id or self._last_event_id
        if sent.data:
            event = Event(sent.event, json.loads(sent.data), sent.id)
            self._waiting.append(_Seen(event))
            self._over, self.looked = event.is_last, False

    def _look(self, *, new: bool) -> Operation[None]:
        """Look at the job itself. new: whether what changed meanwhile is reported; if not, its events will come."""
        try:
            job = yield from get_job(self._session, self._job_id, patience=0)
        except ProblemError as problem:
            if problem.status not in AWAY:
                raise
            away = ServiceAway(self._session.url, problem.detail)
            away.retry_after = problem.retry_after
            raise away from problem
        self._away = None
        before, self._job = self._job, job
        self._over = job.status in FINISHED
        if self._over or new:
            self.looked = True
            self._waiting.append(_Seen(None if self._told else _change(before, job), job))

    def _next_event(self) -> Operation[httpx_sse.ServerSentEvent | None]:
        """The next event of the stream, which is opened if it is not yet; None at its end."""
        heard = False
        try:
            if self._stream is None:
                self._stream_seconds = min(QUIET_SECONDS, max(self._left(), 0.1))
                headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
                if self._last_event_id:
                    headers["Last-Event-ID"] = self._last_event_id
                path = path_of("jobs", self._job_id, "events")
                self._stream = yield Open(Call("GET", path, headers=headers, timeout=self._stream_seconds), "events")
                answer = self._stream.response
                if answer.status_code != httpx.codes.OK:
                    self._stream = None
                    if answer.status_code in AWAY:
                        raise _Busy(retry_after(answer))
                    if answer.is_error:
                        raise _NoEvents
                    self._told = True  # 204: the last event that is known is the last of all
                    return None
            else:
                heard = True
            sent: httpx_sse.ServerSentEvent | None = yield Next(self._stream)
            if sent is None:
                self._stream = None
            elif sent.data:
                json.loads(sent.data)
            elif self._left() < self._stream_seconds - PRECISION_SECONDS:
                yield Close(self._stream)  # it is opened again, to be left in time
                self._stream = None
            return sent
        except (httpx_sse.SSEError, ValueError) as error:
            self._stream = None
            raise _NoEvents from error
        except httpx.TransportError as error:
            self._stream = None
            self._check_time()
            if isinstance(error, httpx.ReadTimeout) and not heard:
                raise _NoEvents from error
            raise self._session.away(error) from error

    def _pause(self, seconds: float) -> Operation[None]:
        yield Pause(max(0.0, min(seconds, self._left())))

    def _left(self) -> float:
        """The seconds that are left to wait."""
        return math.inf if self._timeout is None else self._timeout - (time.monotonic() - self._begun)

    def _check_time(self) -> None:
        if self._left() <= 0:
            raise WaitTimeout(f"job {self._job_id} has not finished after {self._timeout:g} s; it goes on")


def _change(before: JobView | None, job: JobView) -> Event | None:
    """What is new of a job that was looked at, as the event that would say so; None for nothing."""
    if before is None or job.status != before.status:
        return Event("status", {"status": job.status})
    if job.progress is not None and job.progress != before.progress:
        return Event("progress", job.progress.model_dump(mode="json"))
    return None


def all_events(session: Session) -> Stream[Event]:
    """The events of all jobs from now on. An `open` comes again after an interruption, in which some may be missed."""
    call = Call("GET", "/events", headers={"Accept": "text/event-stream"}, timeout=QUIET_SECONDS)
    away: float | None = None
    attempt = 0
    while True:
        error: Exception | None = None
        asked: float | None = None
        try:
            opened: Opened[httpx_sse.ServerSentEvent] = yield Open(call, "events")
            if opened.response.is_error:
                error, asked = failure(opened.response), retry_after(opened.response)
                if opened.response.status_code not in AWAY:
                    raise error
            else:
                session.heard = True
                while (sent := (yield Next(opened))) is not None:
                    away, attempt = None, 0
                    if sent.data:
                        yield Item(Event(sent.event, json.loads(sent.data), sent.id))
        except (httpx_sse.SSEError, ValueError) as strange:
            raise UnexpectedAnswer(f"{session.url}/events sends no events: {strange}") from strange
        except httpx.TransportError as broken:
            error = session.away(broken)
            if not session.heard:
                raise error from broken
        if error is not None:
            away = time.monotonic() if away is None else away
            if time.monotonic() - away > max(session.patience, LEAST_PATIENCE):
                raise error
        yield Pause(pause_of(attempt, asked))
        attempt += 1
