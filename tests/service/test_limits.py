"""How often a key or an address may ask, over all processes of the service, which here are two applications."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import redis
from fastapi.testclient import TestClient

from jobs.settings import Settings
from jobs.store.allowances import Allowances
from jobs.store.jobs import JobStore
from service import limits
from service.app import create_app
from service.limits import Limits
from service.problems import ProblemError
from tests.conftest import NO_REDIS
from tests.service.keys import bearer, make_keys


async def admitted_of(count: int, *processes: Limits, subject: str = "key ana") -> int:
    """How many of so many requests, sent to the processes in turn, are admitted."""
    refused: list[ProblemError] = []
    for n in range(count):
        try:
            async with processes[n % len(processes)].admitted(subject):
                pass
        except ProblemError as error:
            refused.append(error)
    for each in refused:
        assert each.problem.status == 429
        assert 0 < int((each.headers or {})["Retry-After"]) <= 60
    return count - len(refused)


def two(client: redis.Redis, rate: int | None = None, concurrent: int | None = None) -> list[Limits]:
    """Two processes."""
    return [Limits(Allowances(client), rate, concurrent) for _ in range(2)]


@pytest.mark.parametrize("rate", [1, 7, 240, 1000])
def test_processes_together_answer_no_more_than_the_rate_and_hardly_fewer(redis_client: redis.Redis, rate: int) -> None:
    processes = two(redis_client, rate)
    admitted = asyncio.run(admitted_of(3 * rate, *processes))
    assert rate - max(1, rate // limits.BATCHES) + 1 <= admitted <= rate


def test_a_window_that_is_over_is_followed_by_a_new_one(redis_client: redis.Redis) -> None:
    processes = two(redis_client, 5)
    assert asyncio.run(admitted_of(20, *processes)) == 5
    redis_client.delete("tailprune:rate:key ana")  # as it does by itself
    assert asyncio.run(admitted_of(20, *two(redis_client, 5))) == 5


def test_each_key_and_address_has_a_rate_of_its_own(redis_client: redis.Redis) -> None:
    process = Limits(Allowances(redis_client), 5, None)
    assert asyncio.run(admitted_of(9, process, subject="key ana")) == 5
    assert asyncio.run(admitted_of(9, process, subject="address 192.0.2.1")) == 5
    assert 0 < redis_client.ttl("tailprune:rate:key ana") <= 60


def test_many_requests_ask_redis_little(redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    take = Allowances.take

    def counted(self: Allowances, *args: object) -> object:
        nonlocal calls
        calls += 1
        return take(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Allowances, "take", counted)
    assert asyncio.run(admitted_of(6000, Limits(Allowances(redis_client), 12_000, None))) == 6000
    assert calls == 60


def test_no_more_requests_are_under_way_than_may_be_in_all_processes(redis_client: redis.Redis) -> None:
    async def scenario() -> None:
        one, other = two(redis_client, concurrent=20)
        async with AsyncExitStack() as under_way:
            for n in range(20):
                await under_way.enter_async_context((one, other)[n % 2].admitted("key ana"))
            for process in (one, other):
                with pytest.raises(ProblemError) as refused:
                    async with process.admitted("key ana"):
                        pass
                assert (refused.value.problem.status, (refused.value.headers or {})["Retry-After"]) == (429, "1")
                async with process.admitted("key bob"):
                    pass
        async with one.admitted("key ana"), other.admitted("key ana"):
            pass

    asyncio.run(scenario())


@asynccontextmanager
async def running(process: Limits) -> AsyncIterator[None]:
    task = asyncio.create_task(process.run())
    yield
    task.cancel()


def test_what_one_process_no_longer_uses_another_has_soon(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(limits, "FULL_SECONDS", 0.0)

    async def admitted(process: Limits, stack: AsyncExitStack) -> bool:
        try:
            await stack.enter_async_context(process.admitted("key ana"))
        except ProblemError:
            return False
        return True

    async def scenario() -> None:
        one, other = two(redis_client, concurrent=10)
        async with AsyncExitStack() as of_one, AsyncExitStack() as of_other:
            assert [await admitted(one, of_one) for _ in range(11)].count(True) == 10
            assert not await admitted(other, of_other)
            await of_one.aclose()
            async with running(one):
                while not await admitted(other, of_other):
                    await asyncio.sleep(0.01)
            assert [await admitted(other, of_other) for _ in range(10)].count(True) == 9

    asyncio.run(scenario())


def test_what_a_process_held_that_was_killed_is_free_again(redis_client: redis.Redis) -> None:
    allowances = Allowances(redis_client)
    assert allowances.hold("key ana", "killed", 8, 10, 15) == 8
    assert allowances.hold("key ana", "alive", 8, 10, 15) == 2
    redis_client.hset("tailprune:slots:key ana", "killed", "8 1.0")  # as it is once 15 s are over
    assert allowances.hold("key ana", "alive", 8, 10, 15) == 8
    assert allowances.hold("key ana", "alive", 0, 10, 15) == 0
    assert not redis_client.exists("tailprune:slots:key ana")


def test_without_redis_each_process_keeps_to_the_limits_by_itself() -> None:
    with redis.Redis.from_url(NO_REDIS) as client:
        assert asyncio.run(admitted_of(20, Limits(Allowances(client), 5, 3))) == 5


def test_over_http_the_rate_is_told_and_then_kept(settings: Settings, store: JobStore) -> None:
    key = bearer(make_keys(settings, ana="read")["ana"])
    limited = settings.model_copy(update={"rate": 3})
    with TestClient(create_app(limited)) as one, TestClient(create_app(limited)) as other:
        answers = [client.get("/jobs", headers=key) for client in (one, other, one, other)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert answers[0].headers["RateLimit-Policy"] == '"requests";q=3;w=60'
        assert answers[0].headers["RateLimit"].startswith('"requests";r=2;t=')
        assert answers[3].headers["RateLimit"].startswith('"requests";r=0;t=')
        assert answers[3].json()["type"] == "urn:tailprune:problem:too-many-requests"
        assert 0 < int(answers[3].headers["Retry-After"]) <= 60
        assert one.get("/health/ready").status_code == 200, "probes are not counted"


def test_wrong_keys_of_an_address_are_counted_over_all_processes(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SLOW_SECONDS", 0.0)

    async def answered(process: Limits, address: str) -> bool:
        try:
            await process.note_wrong_key(address)
        except ProblemError:
            return False
        return True

    async def scenario() -> None:
        processes = two(redis_client)
        tries = [await answered(processes[n % 2], "192.0.2.1") for n in range(2 * limits.WRONG_KEYS)]
        assert tries == [True] * limits.WRONG_KEYS + [False] * limits.WRONG_KEYS
        assert await answered(processes[0], "192.0.2.2")

    asyncio.run(scenario())
