"""Following jobs by their events, or by asking again and again where these do not arrive."""

from __future__ import annotations

import json
import math
import re
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, get_args

import httpx
import httpx_sse
from pydantic import ValidationError

from jobs.records import FINISHED, JobView, Progress, Status
from tailprune_client.answers import read_job
from tailprune_client.core import AWAY, LONGEST_PAUSE, Patience, Session, ask, path_of, refusal
from tailprune_client.effects import Call, Close, Item, Next, Open, Opened, Operation, Pause, Stream
from tailprune_client.errors import ProblemError, ServiceAway, TailpruneError, UnexpectedAnswer, WaitTimeout

__all__ = ["Event", "Update", "all_events", "events_of", "follow", "get_job"]

POLL_SECONDS = 1.0
"""The pause before a stream is opened again, and between two looks where there are no events."""
QUIET_SECONDS = 25.0
"""After this many seconds without anything a stream counts as lost: a quiet one has a comment every 15 seconds."""
PRECISION_SECONDS = 2.0
"""By how much a limit of time may be exceeded."""
EVENT_ID = re.compile(r"(\d+)-(\d+)")
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
    """The service, or a proxy before it, answers, but not with events. error: how it answers."""

    def __init__(self, error: TailpruneError) -> None:
        super().__init__()
        self.error = error


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
    follower = _Follower(session, job, timeout=timeout)
    while (seen := (yield from follower.next())) is not None:
        if follower.job.status not in FINISHED:
            show(Update(follower.job, None if seen.event is None else seen.event.time))
    if not follower.looked:
        follower.job = yield from get_job(session, job.id, session.following_patience)
    show(Update(follower.job))
    return follower.job


def events_of(session: Session, job: JobView, after: str, show: Callable[[JobView], None]) -> Stream[Event]:
    """The events of a job after one, or from the first if that is empty, as they happen, until it has finished.

    show: is called with the job as it is after each event, before that is passed on.
    """
    follower = _Follower(session, job, after, every=True)
    while (seen := (yield from follower.next())) is not None:
        if seen.event is not None:
            if seen.event.is_last and not follower.looked:
                with suppress(TailpruneError):  # the event is known all the same
                    follower.job = yield from get_job(session, job.id, session.following_patience)
            show(follower.job)
            yield Item(seen.event)


@dataclass(frozen=True)
class _Seen:
    """What is new of a job: an event; None where only the job itself was looked at."""

    event: Event | None


class _Follower:
    """Looks what is new of a job. A stream of events that breaks is resumed after its last event.

    job: the job as far as it is known.
    after: the id of the last event that is known; empty for none.
    timeout: the seconds after which WaitTimeout is raised; None for never.
    every: whether each event is wanted, so that the job is not looked at in place of events that may still come.
    """

    def __init__(
        self, session: Session, job: JobView, after: str = "", timeout: float | None = None, *, every: bool = False
    ) -> None:
        self.job = job
        self.looked = False
        """Whether the job itself is what was seen last."""
        self._session, self._last_event_id, self._timeout, self._every = session, after, timeout, every
        self._begun = time.monotonic()
        self._patience = Patience(session.following_patience)
        self._waiting: deque[_Seen] = deque()
        self._stream: Opened[httpx_sse.ServerSentEvent] | None = None
        self._stream_seconds = QUIET_SECONDS
        self._heard = False
        """Whether the stream that is open, or was last, had any event."""
        self._finished = False
        """Whether the job had finished already before the stream that is open, or was last."""
        self._has_events, self._told, self._over = True, False, False

    def next(self) -> Operation[_Seen | None]:
        """What is new, as soon as something is; None once the job has finished. Raises WaitTimeout and ServiceAway."""
        while not self._waiting and not self._over:
            self._check_time()
            try:
                yield from self._advance()
            except ServiceAway as error:
                yield from self._pause(self._patience.pause(error, POLL_SECONDS))
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
                if self._every:
                    yield from self._pause(self._patience.pause(busy.error))
                    return
                pause = min(busy.error.retry_after or POLL_SECONDS, LONGEST_PAUSE)
                yield from self._look()
            else:
                if sent is not None:
                    self._take(sent)
                    return
                if not self._every or self._told:
                    yield from self._look(tell=False)
                elif not self._heard and self._finished:
                    self._has_events = False  # nor will any come
                elif not self._heard:
                    self._finished = (yield from self._found()).status in FINISHED
        if not self._has_events:
            yield from self._look()
        if not self._over:
            yield from self._pause(pause)

    def _take(self, sent: httpx_sse.ServerSentEvent) -> None:
        """Note an event; one without data is a comment that keeps the connection alive."""
        self._patience.answered()
        if not sent.data or not _is_after(sent.id, self._last_event_id):
            return
        self._heard, self._last_event_id = True, sent.id or self._last_event_id
        event = Event(sent.event, json.loads(sent.data), sent.id)
        if self.job.status not in FINISHED:
            self.job = _after(self.job, event)
        self._waiting.append(_Seen(event))
        self._over, self.looked = event.is_last, False

    def _look(self, *, tell: bool = True) -> Operation[None]:
        """Look at the job itself. tell: whether what changed meanwhile is reported; if not, its events will come."""
        before, self.job = self.job, (yield from self._found())
        self._over = self.job.status in FINISHED
        if self._over or tell:
            self.looked = True
            self._waiting.append(_Seen(None if self._told else _change(before, self.job)))

    def _found(self) -> Operation[JobView]:
        """The job as it is now. Raises ServiceAway also where the service says that it cannot answer."""
        try:
            job = yield from get_job(self._session, self.job.id, patience=0)
        except ProblemError as problem:
            if problem.status not in AWAY:
                raise
            away = ServiceAway(self._session.url, problem.detail)
            away.retry_after = problem.retry_after
            raise away from problem
        self._patience.answered()
        return job

    def _next_event(self) -> Operation[httpx_sse.ServerSentEvent | None]:
        """The next event of the stream, which is opened if it is not yet; None at its end."""
        begins = self._stream is None
        try:
            if self._stream is None:
                self._stream_seconds = min(QUIET_SECONDS, max(self._left(), 0.1))
                headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
                if self._last_event_id:
                    headers["Last-Event-ID"] = self._last_event_id
                path = path_of("jobs", self.job.id, "events")
                opened = yield Open(Call("GET", path, headers=headers, timeout=self._stream_seconds), "events")
                answer = opened.response
                if answer.status_code in AWAY:
                    raise _Busy(refusal(self._session, answer))
                if answer.is_error or answer.has_redirect_location:
                    raise _NoEvents
                if answer.status_code == httpx.codes.NO_CONTENT:
                    yield Close(opened)
                    self._told = True  # the last event that is known is the last of all
                    return None
                self._stream, self._heard = opened, False
            sent: httpx_sse.ServerSentEvent | None = yield Next(self._stream)
            if sent is None:
                self._stream = None
            elif sent.data:
                if not isinstance(json.loads(sent.data), dict):
                    raise ValueError("the data of an event are no object")
            elif self._left() < self._stream_seconds - PRECISION_SECONDS:
                yield Close(self._stream)  # it is opened again, to be left in time
                self._stream = None
            return sent
        except (httpx_sse.SSEError, ValueError) as error:
            if self._stream is not None:
                yield Close(self._stream)
                self._stream = None
            raise _NoEvents from error
        except httpx.TransportError as error:
            self._stream = None
            self._check_time()
            if isinstance(error, httpx.ReadTimeout) and begins:
                raise _NoEvents from error
            raise self._session.away(error) from error

    def _pause(self, seconds: float) -> Operation[None]:
        yield Pause(max(0.0, min(seconds, self._left())))

    def _left(self) -> float:
        """The seconds that are left to wait."""
        return math.inf if self._timeout is None else self._timeout - (time.monotonic() - self._begun)

    def _check_time(self) -> None:
        if self._left() <= 0:
            raise WaitTimeout(f"job {self.job.id} has not finished after {self._timeout:g} s; it goes on")


def _is_after(event_id: str, last: str) -> bool:
    """Whether an event is later than the last one that is known; one whose id says nothing is."""
    found, known = EVENT_ID.fullmatch(event_id), EVENT_ID.fullmatch(last)
    return found is None or known is None or tuple(map(int, found.groups())) > tuple(map(int, known.groups()))


def _after(job: JobView, event: Event) -> JobView:
    """A job as it is after an event."""
    with suppress(ValidationError):  # an event of a newer service changes nothing
        if event.name == "progress":
            return job.model_copy(update={"progress": Progress.model_validate(event.data, extra="ignore")})
        if event.name == "status" and event.data.get("status") in get_args(Status):
            return job.model_copy(update={"status": event.data["status"], "progress": None, "queue_position": None})
    return job


def _change(before: JobView, job: JobView) -> Event | None:
    """What is new of a job that was looked at, as the event that would say so; None for nothing."""
    if job.status != before.status:
        return Event("status", {"status": job.status})
    if job.progress is not None and job.progress != before.progress:
        return Event("progress", job.progress.model_dump(mode="json"))
    return None


def all_events(session: Session) -> Stream[Event]:
    """The events of all jobs from now on. An `open` comes again after an interruption, in which some may be missed."""
    call = Call("GET", "/events", headers={"Accept": "text/event-stream"}, timeout=QUIET_SECONDS)
    patience = Patience(session.following_patience)
    while True:
        error: TailpruneError | None = None
        try:
            opened: Opened[httpx_sse.ServerSentEvent] = yield Open(call, "events")
            if not opened.response.is_success:
                error = refusal(session, opened.response)
                if opened.response.status_code not in AWAY:
                    raise error
            session.heard = True  # also where the answer is that it cannot answer
            while (sent := (yield Next(opened))) is not None:
                patience.answered()
                if sent.data:
                    yield Item(Event(sent.event, json.loads(sent.data), sent.id))
        except (httpx_sse.SSEError, ValueError) as strange:
            raise UnexpectedAnswer(f"{session.url}/events sends no events: {strange}") from strange
        except httpx.TransportError as broken:
            error = session.away(broken)
            if not session.heard:
                raise error from broken
        yield Pause(POLL_SECONDS if error is None else patience.pause(error))
