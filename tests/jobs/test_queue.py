"""The broker: what is put comes out, and a broker that is gone is noticed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
import redis

from jobs.queue import SHARD_TASK, BrokerUnavailable, JobQueue, make_celery
from jobs.requests.base import QUEUES
from jobs.settings import Settings


@pytest.mark.usefixtures("redis_client")
def test_jobs_wait_in_the_queue_they_were_put_in(settings: Settings) -> None:
    queue = JobQueue(make_celery(settings))
    queue.put("a", "metrics")
    queue.put("b", "sampling")
    queue.put("c", "sampling")
    assert {name: queue.depth(name) for name in QUEUES} == {
        "returned": 0, "metrics": 1, "sampling": 2, "shards": 0
    }  # fmt: skip


def test_messages_do_not_expire(settings: Settings, redis_client: redis.Redis) -> None:
    JobQueue(make_celery(settings)).put("a", "metrics")
    assert [redis_client.ttl(key) for key in redis_client.scan_iter("metrics*")] == [-1]


def test_a_broker_that_is_gone_is_noticed_within_seconds(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        assert sum(waits) < 10, "it is waited for, and not noticed"

    for retries in ("kombu.utils.functional", "redis.retry"):
        monkeypatch.setattr(f"{retries}.sleep", wait)
    queue = JobQueue(make_celery(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})))
    with pytest.raises(BrokerUnavailable, match="cannot be reached"):
        queue.put("a", "metrics")
    with pytest.raises(BrokerUnavailable, match="cannot be reached"):
        queue.depth("metrics")
    with pytest.raises(BrokerUnavailable, match="cannot be reached"):
        queue.offer("a", [{"block": 0}])


def test_jobs_that_come_back_go_first_then_short_ones_and_parts_of_a_study_last() -> None:
    assert list(make_celery(Settings()).amqp.queues) == ["returned", "metrics", "sampling", "shards"]


def test_parts_of_a_study_are_offered_as_one_group_on_a_queue_of_their_own(
    settings: Settings, redis_client: redis.Redis
) -> None:
    queue = JobQueue(make_celery(settings))
    offers: list[dict[str, Any]] = [{"block": 1}, {"block": 2}, {"block": 3}]
    queue.offer("a", offers)
    assert {name: queue.depth(name) for name in QUEUES} == {
        "returned": 0, "metrics": 0, "sampling": 0, "shards": 3
    }  # fmt: skip
    messages = [json.loads(text) for text in redis_client.lrange("shards", 0, -1)]
    heads = [message["headers"] for message in messages]
    assert {head["task"] for head in heads} == {SHARD_TASK}
    assert len({head["group"] for head in heads}) == 1
    asked = [json.loads(base64.b64decode(message["body"]))[0] for message in messages]
    assert sorted(asked, key=str) == [["a", offer] for offer in offers]


@pytest.mark.usefixtures("redis_client")
def test_no_parts_are_no_messages(settings: Settings) -> None:
    queue = JobQueue(make_celery(settings))
    queue.offer("a", [])
    assert queue.depth("shards") == 0


def test_importing_the_contract_makes_no_application_of_celery_and_starts_no_thread(
    run_python: Callable[[str], str],
) -> None:
    code = """
import importlib, pkgutil, threading
import jobs
for module in pkgutil.walk_packages(jobs.__path__, "jobs."):
    importlib.import_module(module.name)
from celery._state import _get_active_apps
print([*_get_active_apps()], threading.active_count())
"""
    assert run_python(code) == "[] 1\n"
