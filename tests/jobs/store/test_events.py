"""Following jobs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

import pytest
import redis
import redis.asyncio

from jobs.problems import problem
from jobs.requests.metrics import MetricsRequest
from jobs.settings import Settings
from jobs.store import events as module
from jobs.store import listeners
from jobs.store.connection import READING_CONNECTIONS, Breaker, connect_async
from jobs.store.events import Events, TooManyFollowers
from jobs.store.jobs import JobStore
from jobs.store.leases import Claim, LeaseStore
from jobs.store.listeners import Change, Event, Follower
from tests.redis_process import RedisProcess

T = TypeVar("T")
REQUEST = MetricsRequest(model="shapes-sit")


@asynccontextmanager
async def listening(settings: Settings, most: int = 1000, seconds: float = 30.0) -> AsyncIterator[Events]:
    """The events of the store, listened to; an answer of Redis may take so many seconds."""
    breaker = Breaker(settings.redis_url)
    async with connect_async(settings, breaker, seconds) as client:
        events = Events(client, breaker, most)
        task = asyncio.create_task(events.run())
        yield events
        events.stop()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    breaker.close()


def run(store: JobStore, what: Callable[[Events], Awaitable[T]], most: int = 1000) -> T:
    async def go() -> T:
        async with listening(store.settings, most) as events, asyncio.timeout(60):  # to fail then, and not in a day
            return await what(events)

    return asyncio.run(go())


async def heard(events: Events, job_id: str, last_event_id: str = "0-0") -> list[Event]:
    with events.follower(job_id) as follower:
        return [event async for event in events.follow(follower, last_event_id) if event is not None]


def told(store: JobStore, job_id: str, last_event_id: str = "0-0") -> list[Event]:
    return run(store, lambda events: heard(events, job_id, last_event_id))


def names(events: list[Event]) -> list[tuple[str, Any]]:
    return [(event.name, event.data.get("status")) for event in events]


def claimed(store: JobStore, leases: LeaseStore) -> Claim:
    job, _ = store.submit(REQUEST, "key")
    held = leases.claim(job.id, "worker")
    assert held is not None
    return held


def finished_job(store: JobStore, leases: LeaseStore) -> str:
    held = claimed(store, leases)
    leases.report(held, 1, 1, "steps")
    leases.succeed(held, {}, {})
    return held.job.id


ALL = [("status", "queued"), ("status", "running"), ("progress", None), ("status", "succeeded")]


def test_a_job_is_told_from_its_queue_to_its_end(store: JobStore, leases: LeaseStore) -> None:
    assert names(told(store, finished_job(store, leases))) == ALL


def test_a_follower_goes_on_after_the_event_it_names(store: JobStore, leases: LeaseStore) -> None:
    job_id = finished_job(store, leases)
    events = told(store, job_id)
    assert told(store, job_id, events[1].id) == events[2:]


def test_a_message_that_cannot_be_read_ends_nothing(
    store: JobStore, leases: LeaseStore, redis_client: redis.Redis
) -> None:
    held = claimed(store, leases)

    async def go(events: Events) -> list[Event]:
        found = []
        with events.follower(held.job.id) as follower:
            async for event in events.follow(follower):
                assert event is not None
                found.append(event)
                if names(found) == ALL[:2]:
                    for message in ("x", "[]", "{}", json.dumps({"job": held.job.id})):
                        await asyncio.to_thread(redis_client.publish, module.CHANNEL, message)
                    await asyncio.to_thread(leases.succeed, held, {}, {})
        async with events.observer():  # the connection still listens
            return found

    assert names(run(store, go))[-1] == ("status", "succeeded")


def test_following_ends_where_nothing_more_can_come(store: JobStore, leases: LeaseStore) -> None:
    job_id = finished_job(store, leases)
    assert told(store, job_id, told(store, job_id)[-1].id) == []
    assert told(store, job_id, "99999999999999-0") == []
    assert told(store, "unknown") == []


def test_a_finished_job_with_more_events_than_one_read_is_told_to_its_end(
    store: JobStore, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.store.scripts.EVENTS_LEFT", 500)
    leases = LeaseStore(redis_client, store.settings)
    held = claimed(store, leases)
    for done in range(1, 251):
        leases.report(held, done, done, "steps")
    leases.succeed(held, {}, {})
    found = told(store, held.job.id)
    assert names(found[:2]) == ALL[:2]
    assert found[-2].data["done"] == 250
    assert names(found[-1:]) == ALL[-1:]
    assert len(found) <= 6  # of each read, the latest progress


def test_a_job_whose_first_events_were_trimmed_is_told_from_those_that_are_left(
    store: JobStore, leases: LeaseStore, redis_client: redis.Redis
) -> None:
    job_id = finished_job(store, leases)
    redis_client.xtrim(f"tailprune:job:{job_id}:events", maxlen=2, approximate=False)
    assert names(told(store, job_id)) == ALL[2:]


def test_a_job_has_events_until_the_last_was_seen(store: JobStore, leases: LeaseStore) -> None:
    job_id = finished_job(store, leases)
    *_, before, last = told(store, job_id)
    assert run(store, lambda events: events.has_events(job_id, before.id))
    assert not run(store, lambda events: events.has_events(job_id, last.id))


def test_what_happens_while_a_job_is_followed_is_told_once_and_in_order(store: JobStore, leases: LeaseStore) -> None:
    held = claimed(store, leases)

    async def go(events: Events) -> list[Event]:
        found = []
        with events.follower(held.job.id) as follower:
            async for event in events.follow(follower):
                found.append(event)
                if event.data.get("status") == "running":
                    await asyncio.to_thread(leases.report, held, 1, 1, "steps")
                if event.name == "progress":
                    await asyncio.to_thread(leases.succeed, held, {}, {})
        return found

    found = run(store, go)
    assert names(found) == ALL
    assert found == told(store, held.job.id)


def test_hundreds_follow_one_job_over_few_connections(
    store: JobStore, leases: LeaseStore, redis_client: redis.Redis
) -> None:
    held = claimed(store, leases)
    before = len(redis_client.client_list())

    async def go(events: Events) -> tuple[list[list[Event]], int]:
        followers = [asyncio.create_task(heard(events, held.job.id)) for _ in range(300)]
        await asyncio.sleep(0)
        await asyncio.to_thread(leases.report, held, 1, 1, "steps")
        connections = len(await asyncio.to_thread(redis_client.client_list))
        await asyncio.to_thread(leases.succeed, held, {}, {})
        return await asyncio.gather(*followers), connections

    found, connections = run(store, go)
    assert [names(each) for each in found] == [ALL] * 300
    assert connections - before <= READING_CONNECTIONS


def test_a_slow_follower_misses_no_status_and_is_told_the_latest_progress_alone(
    store: JobStore, leases: LeaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "WAITING", 4)
    held = claimed(store, leases)

    def work() -> None:
        current = held
        for attempt in range(4):
            for done in range(1, 11):
                leases.report(current, done, 10, "steps")
            leases.release(current)
            current = leases.claim(held.job.id, f"worker {attempt}") or pytest.fail("cannot be claimed")
        leases.report(current, 7, 10, "steps")

    async def go(events: Events) -> list[Event]:
        found = []
        with events.follower(held.job.id) as follower:
            async for event in events.follow(follower):
                assert event is not None
                found.append(event)
                if names(found) == ALL[:2]:
                    await asyncio.to_thread(work)
                if event.data.get("done") == 7:
                    await asyncio.to_thread(store.cancel, held.job.id)
                    await asyncio.to_thread(leases.cancelled, replace(held, token=held.token + 4))
        return found

    found = run(store, go)
    assert [event.data.get("status", event.data.get("done")) for event in found] == [
        "queued",
        *["running", 10, "queued"] * 4,
        "running",
        7,
        "cancelled",
    ]


def test_progress_is_passed_on_at_intervals_and_the_last_of_it_before_the_end(
    store: JobStore, leases: LeaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PASS_SECONDS", 600.0)
    held = claimed(store, leases)

    def work() -> None:
        for done in range(1, 11):
            leases.report(held, done, 10, "steps")
        leases.succeed(held, {}, {})

    async def go(events: Events) -> list[Event]:
        found = []
        with events.follower(held.job.id) as follower:
            async for event in events.follow(follower):
                assert event is not None
                found.append(event)
                if names(found) == ALL[:2]:
                    await asyncio.to_thread(leases.report, held, 0, 10, "steps")
                if event.data.get("done") == 0:
                    await asyncio.to_thread(work)
        return found

    assert [event.data.get("status", event.data.get("done")) for event in run(store, go)] == [
        "queued", "running", 0, 10, "succeeded",
    ]  # fmt: skip


def test_events_that_were_not_published_are_found_all_the_same(
    store: JobStore, leases: LeaseStore, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "QUIET_SECONDS", 0.05)
    held = claimed(store, leases)

    async def go(events: Events) -> list[Event]:
        following = asyncio.create_task(heard(events, held.job.id))
        while not events._followers:
            await asyncio.sleep(0)
        redis_client.xadd(  # as a worker of an older version does
            f"tailprune:job:{held.job.id}:events", {"event": "status", "data": '{"status": "failed"}'}
        )
        return await following

    assert names(run(store, go)) == [*ALL[:2], ("status", "failed")]


def test_followers_of_a_job_that_is_deleted_end(
    store: JobStore, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "QUIET_SECONDS", 0.05)
    job, _ = store.submit(REQUEST, "key")

    async def go(events: Events) -> list[Event]:
        following = asyncio.create_task(heard(events, job.id))
        while not events._followers:
            await asyncio.sleep(0)
        await asyncio.to_thread(redis_client.flushdb)
        return await following

    run(store, go)


def test_as_many_follow_as_are_allowed_and_those_who_left_do_not_count(store: JobStore) -> None:
    async def go(events: Events) -> None:
        with ExitStack() as three:
            for job_id in ("a", "a", "b"):
                three.enter_context(events.follower(job_id))
            with pytest.raises(TooManyFollowers, match="3 clients already follow"), events.follower("c"):
                pass
        with events.follower("c"):
            pass
        assert events._followers == {}

    run(store, go, most=3)


def test_nobody_waits_where_too_many_follow(store: JobStore) -> None:
    job, _ = store.submit(REQUEST, "key")
    run(store, lambda events: events.wait_finished(job.id, 86_400), most=0)


def test_waiting_ends_when_the_job_does(store: JobStore) -> None:
    job, _ = store.submit(REQUEST, "key")

    async def go(events: Events) -> None:
        later = asyncio.get_running_loop().run_in_executor(None, store.cancel, job.id)
        await events.wait_finished(job.id, 86_400)
        await later

    run(store, go)
    assert store.get(job.id).status == "cancelled"


def test_waiting_ends_after_its_time(store: JobStore) -> None:
    job, _ = store.submit(REQUEST, "key")
    run(store, lambda events: events.wait_finished(job.id, 0.1))
    assert store.get(job.id).status == "queued"


def test_all_who_follow_or_wait_end_when_the_process_stops(store: JobStore) -> None:
    job, _ = store.submit(REQUEST, "key")

    async def go(events: Events) -> list[Event]:
        waiting = asyncio.create_task(events.wait_finished(job.id, 86_400))
        following = asyncio.create_task(heard(events, job.id))
        while len(events._all()) < 2:
            await asyncio.sleep(0)
        events.stop()
        await waiting
        found = await following
        assert await heard(events, job.id) == []
        return found

    assert names(run(store, go)) in ([], ALL[:1])


def test_all_who_follow_end_when_redis_is_lost_and_others_follow_once_it_is_back(
    settings: Settings, own_redis: RedisProcess
) -> None:
    settings = settings.model_copy(update={"redis_url": own_redis.url})
    client = redis.Redis.from_url(own_redis.url)
    store = JobStore(client, settings)
    job, _ = store.submit(REQUEST, "key")

    async def go() -> list[tuple[str, Any]]:
        async with listening(settings) as events, asyncio.timeout(60):
            first = asyncio.Event()

            async def follow(follower: Follower) -> None:
                with suppress(redis.RedisError):  # where it was lost while a follower was reading
                    async for _ in events.follow(follower):
                        first.set()

            with events.follower(job.id) as follower:
                following = asyncio.create_task(follow(follower))
                await first.wait()
                await asyncio.to_thread(own_redis.stop)
                await following
            await asyncio.to_thread(own_redis.start)
            while True:
                try:
                    await events.has_events(job.id, "0-0")
                    break
                except redis.RedisError:
                    await asyncio.sleep(0.05)
            following_again = asyncio.create_task(heard(events, job.id))
            while not events._followers:
                await asyncio.sleep(0)
            await asyncio.to_thread(store.cancel, job.id)
            return names(await following_again)

    assert asyncio.run(go()) == [("status", "queued"), ("status", "cancelled")]
    client.close()


def test_all_who_follow_end_when_redis_falls_silent(
    settings: Settings, own_redis: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PING_SECONDS", 0.05)
    settings = settings.model_copy(update={"redis_url": own_redis.url})
    with redis.Redis.from_url(own_redis.url) as client:
        job, _ = JobStore(client, settings).submit(REQUEST, "key")

    async def go() -> None:
        async with listening(settings, seconds=2.0) as events, asyncio.timeout(60):
            first = asyncio.Event()
            with events.follower(job.id) as follower:

                async def follow() -> None:
                    with suppress(redis.RedisError):
                        async for _ in events.follow(follower):
                            first.set()

                following = asyncio.create_task(follow())
                await first.wait()
                own_redis.pause()
                await following
            own_redis.resume()

    asyncio.run(go())


async def changes(events: Events, act: Callable[[], object], until: Callable[[Change], bool]) -> list[Change]:
    """What one who follows all jobs hears while something is done, until a last change."""
    found = []
    async with events.observer() as observer:
        acting = asyncio.create_task(asyncio.to_thread(act))
        async for change in events.observe(observer):
            found.append(change)
            if until(change):
                break
        await acting
    return found


def test_one_who_follows_all_jobs_hears_of_each_from_its_making_to_its_deletion(
    store: JobStore, leases: LeaseStore
) -> None:
    def act() -> None:
        store.purge(finished_job(store, leases))

    found = run(store, lambda events: changes(events, act, lambda change: change.job is None and not change.progress))
    assert [change.job.status if change.job else change.progress and "progress" for change in found] == [
        "queued", "running", "progress", "succeeded", None,
    ]  # fmt: skip
    assert len({change.job_id for change in found}) == 1
    assert found[2].progress == {"done": 1, "total": 1, "unit": "steps", "phase": None, "eta_seconds": None}


def test_a_change_of_a_job_has_it_as_lists_do(store: JobStore, leases: LeaseStore) -> None:
    listed: list[dict[str, Any]] = []

    def act() -> None:
        store.submit(REQUEST, "before")
        job, _ = store.submit(REQUEST.model_copy(update={"part": "y"}), "key")
        listed.append(store.page(limit=1).jobs[0].summary())
        held = leases.claim(job.id, "worker")
        assert held is not None
        listed.append(store.page(limit=1).jobs[0].summary())
        leases.fail(held, problem("failed", "the samples hold NaN"))
        listed.append(store.page(limit=1).jobs[0].summary())

    found = run(
        store, lambda events: changes(events, act, lambda change: change.job is not None and change.job.is_finished)
    )
    heard = [change.job.summary() for change in found if change.job is not None]
    assert heard[1:] == listed
    assert [job["queue_position"] for job in heard] == [1, 2, None, None]


def test_jobs_that_the_history_has_no_room_for_are_told_as_deleted(store: JobStore, redis_client: redis.Redis) -> None:
    few = LeaseStore(redis_client, store.settings.model_copy(update={"statistics_history": 0}))
    job, _ = store.submit(REQUEST, "key")
    store.cancel(job.id)
    found = run(store, lambda events: changes(events, few.sweep, lambda change: change.job is None))
    assert [(change.job_id, change.job, change.progress) for change in found] == [(job.id, None, None)]


def test_one_who_does_not_read_is_ended_and_little_waits_for_it(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "CHANGES_WAITING", 4)

    async def go(events: Events) -> tuple[list[Change], int]:
        async with events.observer() as observer, events.observer() as reading:
            heard: list[Change] = []

            async def read() -> None:
                async for change in events.observe(reading):
                    heard.append(change)

            task = asyncio.create_task(read())
            for n in range(8):
                await asyncio.to_thread(store.submit, REQUEST, f"key-{n}")
                while len(heard) <= n:
                    await asyncio.sleep(0)
            task.cancel()
            assert observer.waiting.qsize() == 1
            return [change async for change in events.observe(observer)], len(heard)

    assert run(store, go) == ([], 8)


def test_one_who_follows_all_jobs_for_some_seconds_ends_then_though_changes_keep_coming(store: JobStore) -> None:
    async def go(events: Events) -> int:
        async with events.observer() as observer:
            await asyncio.to_thread(store.submit, REQUEST, "first")
            heard = 0
            async for _ in events.observe(observer, 0.2):
                heard += 1
                await asyncio.to_thread(store.submit, REQUEST, f"key-{heard}")
            return heard

    assert run(store, go) >= 1


def test_those_who_follow_all_jobs_count_with_the_others(store: JobStore) -> None:
    async def go(events: Events) -> None:
        with events.follower("a"):
            async with events.observer():
                with pytest.raises(TooManyFollowers, match="2 clients already follow"), events.follower("b"):
                    pass
            async with events.observer():
                pass
        assert events._observers == set()

    run(store, go, most=2)


def test_those_who_follow_all_jobs_end_when_the_process_stops(store: JobStore) -> None:
    async def go(events: Events) -> None:
        async with events.observer() as observer:
            events.stop()
            assert [change async for change in events.observe(observer)] == []

    run(store, go)


def test_those_who_follow_all_jobs_end_when_redis_is_lost_and_nobody_begins_before_it_is_back(
    settings: Settings, own_redis: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.05)
    settings = settings.model_copy(update={"redis_url": own_redis.url})

    async def go() -> None:
        async with listening(settings) as events, asyncio.timeout(60):
            while not events._listening.is_set():
                await asyncio.sleep(0.01)
            async with events.observer() as observer:
                await asyncio.to_thread(own_redis.stop)
                assert [change async for change in events.observe(observer)] == []
            with pytest.raises(redis.ConnectionError, match="no connection listens"):
                async with events.observer():
                    pass
            await asyncio.to_thread(own_redis.start)
            while not events._listening.is_set():
                await asyncio.sleep(0.01)
            async with events.observer():
                pass

    asyncio.run(go())


def test_followers_of_a_job_that_is_purged_end_at_once(
    store: JobStore, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "QUIET_SECONDS", 3600.0)
    job, _ = store.submit(REQUEST, "key")
    redis_client.hset(f"tailprune:job:{job.id}", "status", "damaged")

    async def go(events: Events) -> list[Event]:
        following = asyncio.create_task(heard(events, job.id))
        while not events._listening.is_set() or not events._followers:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(store.purge, job.id)
        return await following

    run(store, go)


def test_of_the_scores_of_a_study_only_the_latest_are_told_again(store: JobStore, leases: LeaseStore) -> None:
    held = claimed(store, leases)
    for done in (1, 2, 3):
        leases.publish(held, {"so far": done}, {"samples": {"done": done, "total": 3}})
    leases.succeed(held, {}, {})
    found = told(store, held.job.id)
    assert names(found) == [*ALL[:2], ("result", None), ALL[-1]]
    assert found[2].data == {"samples": {"done": 3, "total": 3}}
