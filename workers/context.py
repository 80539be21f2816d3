"""What a handler works with: the models, stores and settings of its worker; and a timer."""

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
    """The models, stores and settings of a worker."""

    settings: Settings
    models: ModelPool
    evaluators: Evaluators
    artifacts: ArtifactStore
    shards: ShardStore
    conditions: ConditionStore
    compacted: CompactedStore
    telemetry: Telemetry

    def count_samples(self, model: str, samples: int) -> None:
        """Count samples of a model in the telemetry."""
        if samples:
            self.telemetry.count(SAMPLES, model, by=samples)


class Timer:
    """Measures the seconds that each part of a job takes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Add the time within the context to a part."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - begun
