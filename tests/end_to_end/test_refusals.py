"""Workers live through a Redis that refuses writes, hangs, or is a replica for a while, and no job is lost by it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import redis

from tests.end_to_end.stack import Stack, eventually, running
from tests.end_to_end.test_fleet import at_work, record

LEASE_SECONDS = 2


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two workers that make one sample at a time, whose leases are short."""
    settings = {"TAILPRUNE_BATCH_SIZE": "1", "TAILPRUNE_LEASE_SECONDS": str(LEASE_SECONDS)}
    with running(tmp_path_factory.mktemp("pair"), workers=2, **settings) as pair:
        yield pair


@contextmanager
def refusing(stack: Stack) -> Iterator[None]:
    """Redis refuses all writes, as it does with MISCONF while its disk is full."""
    with redis.Redis.from_url(stack.redis.url) as client:
        client.config_set("min-replicas-to-write", 1)
        yield
        client.config_set("min-replicas-to-write", 0)


@contextmanager
def replica(stack: Stack) -> Iterator[None]:
    """Redis is the replica of a server that is gone, which also ends all waits for messages."""
    with redis.Redis.from_url(stack.redis.url) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        yield
        client.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def hanging(stack: Stack) -> Iterator[None]:
    """Redis does not answer."""
    process: Any = stack.redis._process
    os.kill(process.pid, signal.SIGSTOP)
    yield
    os.kill(process.pid, signal.SIGCONT)
    eventually(lambda: stack.http.get("/health/ready").is_success, "the service has seen that Redis answers")


FAULTS: list[Callable[[Stack], AbstractContextManager[None]]] = [refusing, replica, hanging]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_worker_keeps_its_job_and_an_idle_one_takes_the_next(
    pair: Stack, fault: Callable[[Stack], AbstractContextManager[None]]
) -> None:
    seed = 100 + FAULTS.index(fault)
    job_id = pair.post(seed=seed, steps=1000, labels=[0, 1, 2, 3], samples_per_label=3).json()["id"]
    pair.await_progress(job_id)
    worker = at_work(pair, job_id)
    with fault(pair):
        time.sleep(2 * LEASE_SECONDS)
    following = pair.post(seed=FAULTS.index(fault)).json()["id"]
    assert pair.finished(following)["status"] == "succeeded"
    assert pair.job(job_id)["status"] == "running", "the job was too short for this test"
    assert pair.finished(job_id, 120)["status"] == "succeeded"
    assert record(pair, job_id)["attempts"] == "1"
    assert at_work(pair, job_id) is worker
    assert [each.process.poll() for each in pair.workers] == [None, None]
    eventually(lambda: len(pair.worker_names()) == 2, "both workers are alive")


def test_a_lost_job_goes_before_all_that_wait(pair: Stack) -> None:
    other = pair.post(seed=201, steps=1000, labels=[0, 1, 2, 3], samples_per_label=2).json()["id"]
    pair.await_progress(other)
    lost = pair.post(seed=200, steps=1000, labels=[0, 1]).json()["id"]
    waiting = [pair.post(seed=202 + n).json()["id"] for n in range(3)]
    pair.await_progress(lost)
    at_work(pair, lost).kill()
    eventually(lambda: pair.job(lost)["status"] == "queued", "the worker is found lost")
    assert pair.job(other)["status"] == "running", "the jobs were too short for this test"
    done = [pair.finished(job_id, 300) for job_id in (lost, *waiting)]
    assert [job["status"] for job in done] == ["succeeded"] * 4
    assert done[0]["started"] < min(job["started"] for job in done[1:])
