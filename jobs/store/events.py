"""Following jobs: their events as they happen, those of one job from the first or after any other, or those of all.

The events of a job are a Redis stream, and the id of an event is its id in the stream: an interrupted client resumes
after the last id that it received. What is in the stream is read from there; what happens meanwhile is heard in a
channel, where each event is published in the step that writes it. One connection of the process listens for all who
follow. Of the progress that waits for a follower only the latest is passed on, so one who is slow does not fall behind.
Those who follow all jobs hear what happens from then on, and nothing that was before.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from typing import Any

import redis
import redis.asyncio
import structlog

from jobs.records import FINISHED
from jobs.store.connection import Breaker, text
from jobs.store.listeners import QUIET_SECONDS, Change, Event, Follower, Observer, change_of
from jobs.store.scripts import PREFIX, record_key

__all__ = ["EVENT_ID_PATTERN", "START", "Events", "TooManyFollowers"]

EVENT_ID_PATTERN = r"^[0-9]{1,15}-[0-9]{1,10}$"
START = "0-0"
CHANNEL = PREFIX + "events"
PING_SECONDS = 1.0
"""After this many seconds in which nothing was heard, the server is asked whether it is still there."""
SILENT_PINGS = 3
"""After this many of these questions without any answer, it is not. They are counted, and not the seconds: where this
process is busy, an answer may have come and not been read yet."""
RECONNECT_SECONDS = 0.5
PAGE = 100
"""The most events that are read at once."""
PASS_SECONDS = 0.0005
"""After progress of a job was passed on to its followers, it is not for this long times their number: each takes about
a third of that of the process's time, which others want, too."""
CONNECT_SECONDS = 5.0
"""How long one who wants to follow all jobs waits for the connection that listens."""

log = structlog.get_logger(__name__)


class TooManyFollowers(Exception):
    """As many already follow jobs as one process serves."""

    def __init__(self, most: int) -> None:
        super().__init__(f"{most} clients already follow jobs or wait for them, which is the most of one process")


class Events:
    """The events of all jobs, for at most `most` followers in this process.

    client: the asynchronous client.
    breaker: the breaker of that client.
    most: the most who follow or wait at a time.

    `run` has to run meanwhile.
    """

    def __init__(self, client: redis.asyncio.Redis, breaker: Breaker, most: int) -> None:
        self._redis = client
        self._breaker = breaker
        self._most = most
        self._followers: dict[str, set[Follower]] = {}
        self._observers: set[Observer] = set()
        self._count = 0
        self._held: dict[str, Event | None] = {}
        """By job, the progress that is not passed on yet, if there is some, while none is."""
        self._listening = asyncio.Event()
        self._stopped = False

    async def run(self) -> None:
        """Listen until `stop`. Where the server is lost, all who follow end; clients come again."""
        while not self._stopped:
            try:
                await self._listen()
            except (redis.RedisError, OSError) as error:
                if isinstance(error, redis.TimeoutError):
                    self._breaker.note(error)
                self._end_all()
            await asyncio.sleep(RECONNECT_SECONDS)

    def stop(self) -> None:
        """End all who follow or wait, and all who begin to from now on: the process is asked to stop."""
        self._stopped = True
        self._end_all()
        self._listening.set()  # nobody waits for it any more

    @contextmanager
    def follower(self, job_id: str) -> Iterator[Follower]:
        """Someone who follows this job for as long as the context lasts. Raises TooManyFollowers."""
        follower = Follower(job_id)
        with self._counted():
            self._followers.setdefault(job_id, set()).add(follower)
            try:
                yield follower
            finally:
                self._followers[job_id].discard(follower)
                if not self._followers[job_id]:
                    del self._followers[job_id]

    @asynccontextmanager
    async def observer(self) -> AsyncIterator[Observer]:
        """Someone who follows all jobs for as long as the context lasts, and misses nothing from its beginning on.

        Raises TooManyFollowers, and redis.ConnectionError where the server does not answer.
        """
        observer = Observer()
        with self._counted():
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await self._listening.wait()
            except TimeoutError:
                raise redis.ConnectionError("no connection listens for events") from None
            self._observers.add(observer)
            if self._stopped:
                observer.end()
            try:
                yield observer
            finally:
                self._observers.discard(observer)

    async def observe(self, observer: Observer, seconds: float | None = None) -> AsyncIterator[Change | None]:
        """What changes about all jobs, until the server is lost, `stop` is called, or the observer is too slow.

        None where it is quiet for long.

        seconds: after how long it ends in any case; never, by default.
        """
        clock = asyncio.get_running_loop().time
        end = math.inf if seconds is None else clock() + seconds
        while (now := clock()) < end:
            try:
                async with asyncio.timeout_at(min(end, now + QUIET_SECONDS)):
                    change = await observer.waiting.get()
            except TimeoutError:
                yield None
                continue
            if change is None:
                return
            yield change

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Counts one who follows. Raises TooManyFollowers."""
        if self._count >= self._most:
            raise TooManyFollowers(self._most)
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1

    async def follow(self, follower: Follower, last_event_id: str = START) -> AsyncIterator[Event | None]:
        """The events of a follower's job after `last_event_id`, until it has finished; None where it is quiet for long.

        Progress that is followed by later progress already is left out. Ends at once if the job does not exist, or if
        that was its last event; and soon after the server is lost or `stop` is called. Raises redis.RedisError.
        """
        while not self._stopped and not follower.is_over:
            # The last event is written together with the status: if it has finished by now, its last event is read.
            ended = await self._has_ended(follower.job_id)
            while batch := await self._read(follower.job_id, last_event_id):
                for event, following in pairwise((*batch, None)):
                    assert event is not None
                    last_event_id = event.id
                    if not (event.is_progress and following is not None and following.is_progress):
                        yield event
                    if event.is_last:
                        return
                if self._stopped:
                    return
            if ended:
                return
            try:
                while (heard := await follower.heard()) is not None:
                    if _order(heard.id) > _order(last_event_id):
                        last_event_id = heard.id
                        yield heard
                        if heard.is_last:
                            return
            except TimeoutError:
                yield None

    async def has_events(self, job_id: str, last_event_id: str) -> bool:
        """Whether a job has events after `last_event_id` already. Raises redis.RedisError."""
        return bool(await self._read(job_id, last_event_id, count=1))

    async def wait_finished(self, job_id: str, seconds: float) -> None:
        """Return when a job has finished, or after this many seconds.

        Returns sooner if it cannot be told, since too many follow, the server is lost, or the process is to stop.
        """
        with contextlib.suppress(TimeoutError, TooManyFollowers, redis.RedisError), self.follower(job_id) as follower:
            async with asyncio.timeout(seconds):
                async for _ in self.follow(follower):
                    pass

    async def _listen(self) -> None:
        """Pass on what is heard, until the server is lost. Raises redis.RedisError."""
        async with self._redis.pubsub() as channel:
            await channel.subscribe(CHANNEL)
            unanswered = 0
            try:
                while not self._stopped:
                    message = await channel.get_message(timeout=PING_SECONDS)
                    if message is None:
                        if unanswered == SILENT_PINGS:
                            raise redis.TimeoutError(f"{SILENT_PINGS} pings were not answered")
                        unanswered += 1
                        await channel.ping()
                        continue
                    unanswered = 0
                    if message["type"] == "subscribe":  # now, or again after the connection was lost
                        for follower in self._all():
                            follower.look()
                        for observer in self._observers:
                            observer.end()
                        self._listening.set()
                    elif message["type"] == "message":
                        try:
                            self._pass_on(json.loads(message["data"]))
                        except (ValueError, KeyError, TypeError) as error:  # of another version, or of someone else
                            log.warning("an event could not be read", reason=repr(error))
                            for follower in self._all():
                                follower.look()
            finally:
                self._listening.clear()

    def _pass_on(self, said: dict[str, Any]) -> None:
        """Tell of an event; a job's followers of its progress no more often than PASS_SECONDS has it."""
        job_id = said["job"]
        if followers := self._followers.get(job_id):
            if said["event"] == "deleted":
                for follower in followers:
                    follower.look()
            else:
                event = Event(id=said["id"], name=said["event"], data=json.loads(said["data"]))
                self._tell_at_intervals(job_id, event, len(followers))
        if self._observers and (change := change_of(said)) is not None:
            for observer in self._observers:
                observer.hear(change)

    def _tell_at_intervals(self, job_id: str, event: Event, followers: int) -> None:
        if not event.is_progress:
            if held := self._held.get(job_id):
                self._held[job_id] = None
                self._tell(job_id, held)
            self._tell(job_id, event)
        elif job_id in self._held:
            self._held[job_id] = event
        else:
            self._held[job_id] = None
            asyncio.get_running_loop().call_later(PASS_SECONDS * followers, self._release, job_id)
            self._tell(job_id, event)

    def _release(self, job_id: str) -> None:
        """Pass on the progress of a job that was held back."""
        if held := self._held.pop(job_id):
            self._tell(job_id, held)

    def _tell(self, job_id: str, event: Event) -> None:
        for follower in self._followers.get(job_id, ()):
            follower.hear(event)

    def _end_all(self) -> None:
        for follower in self._all():
            follower.end()
        for observer in self._observers:
            observer.end()

    def _all(self) -> list[Follower]:
        return [follower for followers in self._followers.values() for follower in followers]

    async def _has_ended(self, job_id: str) -> bool:
        """Whether a job has finished, or does not exist."""
        status = await self._redis.hget(record_key(job_id), "status")
        return status is None or text(status) in FINISHED

    async def _read(self, job_id: str, last_event_id: str, count: int = PAGE) -> list[Event]:
        """The next events of a job, at most `count`, as far as there are any."""
        answer: Any = await self._redis.xread({f"{record_key(job_id)}:events": last_event_id}, count=count)
        streams = answer.items() if isinstance(answer, dict) else answer or []
        return [
            Event(id=text(entry_id), name=text(fields[b"event"]), data=json.loads(fields[b"data"]))
            for _, entries in streams
            for entry_id, fields in entries
        ]


def _order(event_id: str) -> tuple[int, ...]:
    """What the ids of events are ordered by."""
    return tuple(map(int, event_id.split("-")))
