"""A real Redis server for the tests, started once on a free loopback port, and a store on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from jobs.settings import Settings
from jobs.store.jobs import JobStore
from jobs.store.leases import LeaseStore
from tests.redis_process import RedisProcess
from tests.registry import write_registry


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server that lives as long as the test session."""
    server = RedisProcess(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server.url
    server.stop()


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of the server, emptied before the test."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        yield client


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    """Settings on the test server, with a registry and a data folder of the test's own."""
    return Settings(
        redis_url=redis_url,
        broker_url=None,
        data_dir=tmp_path / "data",
        registry=write_registry(tmp_path / "models"),
        lease_seconds=5.0,
    )


@pytest.fixture
def store(settings: Settings, redis_client: redis.Redis) -> JobStore:
    """The store on the emptied test server."""
    return JobStore(redis_client, settings)


@pytest.fixture
def leases(settings: Settings, redis_client: redis.Redis) -> LeaseStore:
    """The same jobs, for whoever does them."""
    return LeaseStore(redis_client, settings)
