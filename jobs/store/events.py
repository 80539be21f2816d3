"""Following a job: its events as they happen, from the first or after any other.

The events of a job are a Redis stream, and the id of an event is its id in the stream: an interrupted client resumes
after the last id that it received.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from jobs.records import FINISHED
from jobs.store.connection import text
from jobs.store.scripts import record_key

__all__ = ["EVENT_ID_PATTERN", "Event", "follow", "has_events", "wait_finished"]

EVENT_ID_PATTERN = r"^[0-9]{1,15}-[0-9]{1,10}$"
START = "0-0"
QUIET_SECONDS = 2.0


@dataclass(frozen=True)
class Event:
    """A `status` or `progress` event; `data` holds the status, or done, total and unit."""

    id: str
    name: str
    data: dict[str, Any]

    @property
    def is_last(self) -> bool:
        """Whether no event follows: the job has finished."""
        return self.name == "status" and self.data["status"] in FINISHED


async def follow(
    client: redis.asyncio.Redis, job_id: str, last_event_id: str = START, stopping: asyncio.Event | None = None
) -> AsyncIterator[Event]:
    """The events of a job after `last_event_id`, until it has finished.

    Ends at once if the job does not exist, or if that was its last event, and within QUIET_SECONDS once `stopping` is
    set. Raises redis.RedisError.
    """
    block = round(QUIET_SECONDS * 1000)
    ended = await _has_ended(client, job_id)
    while True:
        # The last event is written together with the status, so a finished job is read without waiting.
        batch = await _read(client, job_id, last_event_id, block=None if ended else block)
        for event in batch:
            yield event
            if event.is_last:
                return
            last_event_id = event.id
        if stopping is not None and stopping.is_set():
            return
        if not batch:
            if ended:
                return
            ended = await _has_ended(client, job_id)


async def has_events(client: redis.asyncio.Redis, job_id: str, last_event_id: str) -> bool:
    """Whether a job has events after `last_event_id` already. Raises redis.RedisError."""
    return bool(await _read(client, job_id, last_event_id, count=1))


async def wait_finished(
    client: redis.asyncio.Redis, job_id: str, seconds: float, stopping: asyncio.Event | None = None
) -> None:
    """Return when a job has finished, after this many seconds, or soon after `stopping` is set.

    Raises redis.RedisError.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            async for _ in follow(client, job_id, stopping=stopping):
                pass


async def _has_ended(client: redis.asyncio.Redis, job_id: str) -> bool:
    """Whether a job has finished, or does not exist."""
    status = await client.hget(record_key(job_id), "status")
    return status is None or text(status) in FINISHED


async def _read(
    client: redis.asyncio.Redis, job_id: str, last_event_id: str, *, block: int | None = None, count: int = 100
) -> list[Event]:
    """The next events of a job.

    client: the asynchronous client.
    job_id: the job.
    last_event_id: the event after which to read.
    block: milliseconds to wait for an event if there is none; None, the default, not to wait.
    count: the most events to read.
    """
    answer: Any = await client.xread({f"{record_key(job_id)}:events": last_event_id}, block=block, count=count)
    streams = answer.items() if isinstance(answer, dict) else answer or []
    return [
        Event(id=text(entry_id), name=text(fields[b"event"]), data=json.loads(fields[b"data"]))
        for _, entries in streams
        for entry_id, fields in entries
    ]
