"""Following a job."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
import redis.asyncio

from jobs.requests.metrics import MetricsRequest
from jobs.store.connection import connect_async
from jobs.store.events import Event, follow, has_events, wait_finished
from jobs.store.jobs import JobStore
from jobs.store.leases import LeaseStore

T = TypeVar("T")
REQUEST = MetricsRequest(model="shapes-sit")


def run(store: JobStore, what: Callable[[redis.asyncio.Redis], Awaitable[T]]) -> T:
    async def go() -> T:
        async with connect_async(store.settings) as client:
            return await what(client)

    return asyncio.run(go())


def told(store: JobStore, job_id: str, last_event_id: str = "0-0") -> list[Event]:
    async def go(client: redis.asyncio.Redis) -> list[Event]:
        return [event async for event in follow(client, job_id, last_event_id)]

    return run(store, go)


def finished_job(store: JobStore, leases: LeaseStore) -> str:
    job, _ = store.submit(REQUEST, "key")
    held = leases.claim(job.id, "worker")
    assert held is not None
    leases.report(held, 1, 1, "steps")
    leases.succeed(held, {}, {})
    return job.id


def test_a_job_is_told_from_its_queue_to_its_end(store: JobStore, leases: LeaseStore) -> None:
    said: list[tuple[str, Any]] = [(e.name, e.data.get("status")) for e in told(store, finished_job(store, leases))]
    assert said == [("status", "queued"), ("status", "running"), ("progress", None), ("status", "succeeded")]


def test_a_follower_goes_on_after_the_event_it_names(store: JobStore, leases: LeaseStore) -> None:
    job_id = finished_job(store, leases)
    events = told(store, job_id)
    assert told(store, job_id, events[1].id) == events[2:]


def test_following_ends_where_nothing_more_can_come(store: JobStore, leases: LeaseStore) -> None:
    job_id = finished_job(store, leases)
    assert told(store, job_id, told(store, job_id)[-1].id) == []
    assert told(store, "unknown") == []


def test_following_a_finished_job_does_not_wait(
    store: JobStore, leases: LeaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[int | None] = []
    xread = redis.asyncio.Redis.xread

    async def watched(self: redis.asyncio.Redis, *args: Any, block: int | None = None, **options: Any) -> Any:
        waits.append(block)
        return await xread(self, *args, block=block, **options)

    monkeypatch.setattr(redis.asyncio.Redis, "xread", watched)
    job_id = finished_job(store, leases)
    last = told(store, job_id)[-1].id
    for seen in (last, "99999999999999-0"):
        assert told(store, job_id, seen) == []
    assert waits == [None] * 3


def test_a_finished_job_with_more_events_than_one_read_is_told_to_its_end(store: JobStore, leases: LeaseStore) -> None:
    job, _ = store.submit(REQUEST, "key")
    held = leases.claim(job.id, "worker")
    assert held is not None
    for done in range(1, 251):
        leases.report(held, done, done, "steps")
    leases.succeed(held, {}, {})
    assert len(told(store, job.id)) == 253


def test_a_job_has_events_until_the_last_was_seen(store: JobStore, leases: LeaseStore) -> None:
    job_id = finished_job(store, leases)
    *_, before, last = told(store, job_id)
    assert run(store, lambda client: has_events(client, job_id, before.id))
    assert not run(store, lambda client: has_events(client, job_id, last.id))


def test_waiting_ends_when_the_job_does(store: JobStore) -> None:
    job, _ = store.submit(REQUEST, "key")

    async def go(client: redis.asyncio.Redis) -> None:
        later = asyncio.get_running_loop().run_in_executor(None, store.cancel, job.id)
        async with asyncio.timeout(30):  # to fail then, and not in a day
            await wait_finished(client, job.id, 86_400)
        await later

    run(store, go)
    assert store.get(job.id).status == "cancelled"


def test_waiting_ends_after_its_time(store: JobStore) -> None:
    job, _ = store.submit(REQUEST, "key")
    run(store, lambda client: wait_finished(client, job.id, 0.1))
    assert store.get(job.id).status == "queued"
