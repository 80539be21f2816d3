from __future__ import annotations

import pytest
import redis

from jobs.settings import Settings
from tailprune.figures.style import Rendered
from workers.worker import Worker


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Blocks of two labels: two for each sample number of the four."""
    return settings.model_copy(update={"shard_samples": 2, "batch_size": 8})


@pytest.fixture
def worker(settings: Settings, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A worker whose figures are not rendered: that takes longer than all else of a study as small as these."""
    monkeypatch.setattr("workers.study.exports.render", lambda figure: Rendered(b"of a PNG", b"of an SVG"))
    return Worker(settings, "worker")
