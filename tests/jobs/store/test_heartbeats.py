"""What is done every few seconds, and the workers that are alive by it."""

from __future__ import annotations

import threading
import time

import redis
from structlog.testing import capture_logs

from jobs.store.heartbeats import PeriodicThread, WorkerInfo, WorkerRegistry

WORKER = WorkerInfo(name="worker", device="cpu")


def test_a_worker_that_beats_is_alive_until_it_leaves(redis_client: redis.Redis) -> None:
    workers = WorkerRegistry(redis_client)
    workers.beat(WORKER)
    workers.beat(WORKER)
    assert workers.alive() == [WORKER]
    workers.leave(WORKER)
    assert workers.alive() == []


def test_a_worker_that_went_silent_is_not_alive(redis_client: redis.Redis) -> None:
    workers = WorkerRegistry(redis_client)
    workers.beat(WORKER)
    redis_client.zadd("tailprune:workers", {WORKER.model_dump_json(): redis_client.time()[0] - 60})
    assert workers.alive() == []


def test_calls_go_on_after_one_that_failed() -> None:
    third, calls = threading.Event(), []

    def call() -> None:
        calls.append(time.monotonic())
        if len(calls) == 3:
            third.set()
        raise ZeroDivisionError

    with capture_logs() as logs, PeriodicThread(call, 0.01, "failing"):
        assert third.wait(10)
    assert len(calls) >= 3
    assert {(line["event"], line["thread"]) for line in logs} == {("upkeep failed", "failing")}


def test_it_ends_promptly_and_calls_no_more() -> None:
    calls: list[int] = []
    begun = time.monotonic()
    with PeriodicThread(lambda: calls.append(1), 60, "slow"):
        pass
    assert time.monotonic() - begun < 10
    assert calls == []


def test_the_first_call_may_come_at_once() -> None:
    called = threading.Event()
    with PeriodicThread(called.set, 60, "at once", at_once=True):
        assert called.wait(10)
