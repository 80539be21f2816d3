"""What a worker gives each job: its stores, and a timer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from jobs.storage.artifacts import ArtifactStore
from jobs.storage.shards import ShardStore
from jobs.storage.uploads import ConditionStore

__all__ = ["Stores", "Timer"]


@dataclass(frozen=True)
class Stores:
    """Where a job's files come from and go to."""

    artifacts: ArtifactStore
    shards: ShardStore
    conditions: ConditionStore


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
