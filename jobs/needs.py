"""What a job needs of a worker: the queue it waits in, and what it reads of its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from jobs.records import Kind

__all__ = ["QUEUES", "Needs", "Queue", "Reads", "needs_of"]

Queue = Literal["metrics", "sampling", "shards"]
Reads = Literal["condition", "named condition", "model", "training"]

QUEUES: tuple[Queue, ...] = ("metrics", "sampling", "shards")
"""Workers take from them in this order: what is short goes first, and parts of a study that another holds last."""


@dataclass(frozen=True)
class Needs:
    """The queue of a job, and what of its model makes its result.

    reads: the tensors of the condition, alone or with the names of the classes; the whole model with its decoder; or
    the record of its training.
    """

    queue: Queue
    reads: Reads


def needs_of(kind: Kind, request: Mapping[str, Any]) -> Needs:
    """What a job of this kind and resolved request needs."""
    match kind, request.get("figure"):
        case ("prune-sample" | "study" | "compact", _) | ("figure", "removal"):
            return Needs("sampling", "model")
        case "figure", "training":
            return Needs("metrics", "training")
        case "figure", _:
            return Needs("metrics", "named condition")
    return Needs("metrics", "condition")
