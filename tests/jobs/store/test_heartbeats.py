"""What is done every few seconds, and the workers that are alive by it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
import redis
from structlog.testing import capture_logs

from jobs.store.heartbeats import PeriodicThread, WorkerRegistry
from jobs.views import WorkerInfo

WORKER = WorkerInfo(name="worker", device="cpu")


def test_a_worker_that_beats_is_alive_until_it_leaves(redis_client: redis.Redis) -> None:
    workers = WorkerRegistry(redis_client, 2)
    workers.beat(WORKER)
    workers.beat(WORKER)
    assert workers.alive() == [WORKER]
    workers.leave(WORKER)
    assert workers.alive() == []


def test_a_worker_that_went_silent_is_not_alive(redis_client: redis.Redis) -> None:
    workers = WorkerRegistry(redis_client, 2)
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


def test_the_pause_between_heartbeats_decides_how_long_a_worker_counts_as_alive(redis_client: redis.Redis) -> None:
    WorkerRegistry(redis_client, 60).beat(WORKER)
    redis_client.zadd("tailprune:workers", {WORKER.model_dump_json(): redis_client.time()[0] - 150})
    assert WorkerRegistry(redis_client, 60).alive() == [WORKER]
    assert WorkerRegistry(redis_client, 2).alive() == []


DIES = {
    "by an exit": "def call(): raise SystemExit",
    "where an error is logged": """
def call(): raise ValueError
def no_memory(*_, **__): raise MemoryError
heartbeats.log.exception = no_memory
""",
    "before it starts": """
import threading
def call(): pass
def start(self): raise RuntimeError("can't start new thread")
threading.Thread.start = start
""",
}


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("how", DIES.values(), ids=DIES)
def test_a_process_ends_where_a_thread_dies_that_it_cannot_do_without(how: str) -> None:
    code = f"""
import time
from jobs.store import heartbeats
heartbeats.log = heartbeats.log.bind()
{how}
heartbeats.PeriodicThread(call, 0.01, "leases", vital=True).start()
time.sleep(60)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert done.returncode == 1, done.stderr
    assert "the process ends" in done.stdout + done.stderr
    assert "leases" in done.stdout + done.stderr
