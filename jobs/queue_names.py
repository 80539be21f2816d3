"""The queues in which jobs wait, and the histories in which finished ones are kept."""

from __future__ import annotations

from typing import Literal

__all__ = ["HISTORIES", "QUEUES", "History", "Queue"]

Queue = Literal["returned", "metrics", "sampling", "shards"]
QUEUES: tuple[Queue, ...] = ("returned", "metrics", "sampling", "shards")
"""Workers take from them in this order: first jobs whose worker was lost or stopped, which had their turn already; then
short jobs; and last the parts of studies that other workers hold."""

History = Literal["jobs", "statistics"]
HISTORIES: tuple[History, ...] = ("jobs", "statistics")
"""Which finished jobs are counted together when the oldest are deleted: those that GETs make are cheap and many, and
must not push out what was made by hours of sampling."""
