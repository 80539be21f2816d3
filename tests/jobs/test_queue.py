"""The broker: what is put comes out, and a broker that is gone is noticed."""

from __future__ import annotations

import time

import pytest
import redis

from jobs.needs import QUEUES
from jobs.queue import BrokerUnavailable, JobQueue, make_celery
from jobs.settings import Settings


@pytest.mark.usefixtures("redis_client")
def test_jobs_wait_in_the_queue_they_were_put_in(settings: Settings) -> None:
    queue = JobQueue(make_celery(settings))
    queue.put("a", "metrics")
    queue.put("b", "sampling")
    queue.put("c", "sampling")
    assert {name: queue.depth(name) for name in QUEUES} == {"metrics": 1, "sampling": 2}


def test_messages_do_not_expire(settings: Settings, redis_client: redis.Redis) -> None:
    JobQueue(make_celery(settings)).put("a", "metrics")
    assert [redis_client.ttl(key) for key in redis_client.scan_iter("metrics*")] == [-1]


def test_a_broker_that_is_gone_is_noticed_within_seconds(settings: Settings) -> None:
    queue = JobQueue(make_celery(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})))
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable, match="cannot be reached"):
        queue.put("a", "metrics")
    with pytest.raises(BrokerUnavailable, match="cannot be reached"):
        queue.depth("metrics")
    assert time.monotonic() - began < 10


def test_short_jobs_go_first() -> None:
    assert list(make_celery(Settings()).amqp.queues) == ["metrics", "sampling"]
