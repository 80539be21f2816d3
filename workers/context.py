"""What a worker gives each job: its models, its stores and its settings; and a timer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from jobs.registry.compacted import CompactedStore
from jobs.settings import Settings
from jobs.storage.artifacts import ArtifactStore
from jobs.storage.shards import ShardStore
from jobs.storage.uploads import ConditionStore
from jobs.store.telemetry import SAMPLES, Telemetry
from workers.evaluators import Evaluators
from workers.model_pool import ModelPool

__all__ = ["Context", "Timer"]


@dataclass(frozen=True)
class Context:
    """All that a handler works with, besides its job."""

    settings: Settings
    models: ModelPool
    evaluators: Evaluators
    artifacts: ArtifactStore
    shards: ShardStore
    conditions: ConditionStore
    compacted: CompactedStore
    telemetry: Telemetry

    def count_samples(self, model: str, samples: int) -> None:
        """Count samples that were made of a model."""
        if samples:
            self.telemetry.count(SAMPLES, model, by=samples)


class Timer:
    """Seconds spent, by what they were spent on."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def running(self, part: str) -> Iterator[None]:
        """Count the time within as spent on a part."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - begun
