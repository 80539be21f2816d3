"""A real Redis server for the tests, started once, on a free loopback port."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.redis_process import RedisProcess


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
