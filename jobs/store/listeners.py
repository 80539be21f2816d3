"""Those who follow one job or all of them, and what waits for each to be told."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jobs.records import FINISHED, JobHead, UnreadableRecord

__all__ = ["QUIET_SECONDS", "Change", "Event", "Follower", "Observer", "change_of"]

QUIET_SECONDS = 15.0
"""After this many seconds without an event, a follower is told so, and looks itself whether it has missed one, or its
job is gone: a worker of an older version publishes none."""
WAITING = 64
"""The most events that wait for one follower; one that is slower reads them from the stream when it comes to them."""
CHANGES_WAITING = 1024
"""The most changes that wait for one who follows all jobs; one that is slower is ended, and loads the jobs anew."""


@dataclass(frozen=True)
class Event:
    """A `status`, `progress` or `result` event; `data` holds the status, the progress, or the scores so far."""

    id: str
    name: str
    data: dict[str, Any]

    @cached_property
    def line(self) -> bytes:
        """The event as it is sent to clients, made once for all who follow."""
        return f"event: {self.name}\ndata: {json.dumps(self.data)}\nid: {self.id}\n\n".encode()

    @property
    def is_progress(self) -> bool:
        """Whether later progress says all that it says."""
        return self.name == "progress"

    @property
    def is_last(self) -> bool:
        """Whether no event follows: the job has finished."""
        return self.name == "status" and self.data["status"] in FINISHED


@dataclass(frozen=True, eq=False)
class Change:
    """What those who follow all jobs hear: a job is new or has another status, is further, or is gone."""

    job_id: str
    job: JobHead | None = None
    """The job as it is after it was made, or after its status changed; None for another change."""
    progress: dict[str, Any] | None = None
    """How far it is; None for another change. Without `job` and `progress` it was deleted."""


class Follower:
    """Someone who follows a job, and the events that wait for it."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.is_over = False
        """Whether nothing more will be heard."""
        self._waiting: deque[Event | None] = deque()
        self._told = asyncio.Event()

    def hear(self, event: Event) -> None:
        """Keep an event, progress in place of earlier progress; where there are too many, keep that there were some."""
        if self._waiting and self._waiting[-1] and self._waiting[-1].is_progress and event.is_progress:
            self._waiting.pop()
        if len(self._waiting) == WAITING:
            self.look()
            return
        self._waiting.append(event)
        self._told.set()

    def look(self) -> None:
        """Make it read from the stream what it has not seen."""
        self._waiting.clear()
        self._waiting.append(None)
        self._told.set()

    def end(self) -> None:
        """Make it end."""
        self.is_over = True
        self.look()

    async def heard(self) -> Event | None:
        """The next event; None where it has to look at the stream. Raises TimeoutError after QUIET_SECONDS."""
        if not self._waiting:
            self._told.clear()
            async with asyncio.timeout(QUIET_SECONDS):
                await self._told.wait()
        return self._waiting.popleft()


class Observer:
    """Someone who follows all jobs, and the changes that wait for it."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[Change | None] = asyncio.Queue(CHANGES_WAITING)
        self.is_over = False
        """Whether nothing more will be heard."""

    def hear(self, change: Change) -> None:
        """Keep a change; where too many wait, end."""
        if self.is_over:
            return
        if self.waiting.full():
            self.end()
        else:
            self.waiting.put_nowait(change)

    def end(self) -> None:
        """Make it end. What waits is of no use: whoever begins anew loads the jobs anew."""
        self.is_over = True
        while not self.waiting.empty():
            self.waiting.get_nowait()
        self.waiting.put_nowait(None)


def change_of(said: dict[str, Any]) -> Change | None:
    """What those who follow all jobs are told of a message; None for nothing."""
    job_id = said["job"]
    match said["event"]:
        case "status" if "head" in said:
            fields = {name: value for name, value in said["head"].items() if name != "place"}
            try:
                head = JobHead.from_hash(fields | {"id": job_id})
            except UnreadableRecord:  # lists leave it out
                return None
            place = said["head"]["place"] if head.status == "queued" else None
            return Change(job_id, head.model_copy(update={"queue_position": place}))
        case "progress":
            return Change(job_id, progress=json.loads(said["data"]))
        case "deleted":
            return Change(job_id)
    return None
