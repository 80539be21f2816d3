"""The roll of workers."""

from __future__ import annotations

import redis

from jobs.store.heartbeats import WorkerInfo, WorkerRegistry

WORKER = WorkerInfo(name="worker", device="cpu")


def test_a_worker_that_beats_is_alive_until_it_leaves(redis_client: redis.Redis) -> None:
    roll = WorkerRegistry(redis_client)
    roll.beat(WORKER)
    roll.beat(WORKER)
    assert roll.alive() == [WORKER]
    roll.leave(WORKER)
    assert roll.alive() == []


def test_a_worker_that_went_silent_is_not_alive(redis_client: redis.Redis) -> None:
    roll = WorkerRegistry(redis_client)
    roll.beat(WORKER)
    redis_client.zadd("tailprune:workers", {WORKER.model_dump_json(): redis_client.time()[0] - 60})
    assert roll.alive() == []
