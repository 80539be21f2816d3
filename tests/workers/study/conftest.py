from __future__ import annotations

import pytest
import redis

from jobs.settings import Settings
from workers.worker import Worker


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Blocks of two labels: two for each sample number of the four."""
    return settings.model_copy(update={"shard_samples": 2, "batch_size": 8})


@pytest.fixture
def worker(settings: Settings, redis_client: redis.Redis) -> Worker:
    return Worker(settings, "worker")
