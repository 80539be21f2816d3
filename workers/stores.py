"""Where a job's files come from and go to."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.artifacts import ArtifactStore
from jobs.conditions import ConditionStore
from jobs.shards import ShardStore

__all__ = ["Stores"]


@dataclass(frozen=True)
class Stores:
    """The stores that a worker has."""

    artifacts: ArtifactStore
    shards: ShardStore
    conditions: ConditionStore
