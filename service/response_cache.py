"""Answers kept in memory by their question, so that a repeated one is answered without asking Redis.

An answer is the result of a job, and a job's key names everything the result depends on: the request, and the files of
the model. A kept answer is valid while those files are unchanged, whatever has become of the job. Each process of the
service has a cache of its own.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from cachetools import LRUCache

from jobs.registry.models import ModelEntry

__all__ = ["CachedResponse", "ResponseCache"]

MOST_BYTES = 32 * 2**20
"""Per process, which is little beside the rest of it; room for thousands of answers of `GET /metrics/{model}`."""
OVERHEAD_BYTES = 2048
"""Roughly the memory that an answer takes besides its body and its question."""


@dataclass(frozen=True)
class CachedResponse:
    """The result of a job as it is sent, and what of its model it depends on."""

    question: bytes
    """The request as it was sent, without its headers."""
    body: bytes
    job_id: str
    key: str
    entry: ModelEntry
    """A model of the registry's file, which does not change while the service runs."""
    files: tuple[tuple[int, ...], ...]
    """The state of its files when the key was computed (`jobs.registry.digests.file_states`)."""


class ResponseCache(LRUCache[bytes, CachedResponse]):
    """Answers by question, at most `most_bytes` of them: the least recently used are dropped. Not thread-safe."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        super().__init__(most_bytes, getsizeof=_size)

    def keep(self, answer: CachedResponse) -> None:
        """Keep an answer under its question, unless it is larger than the whole cache."""
        with suppress(ValueError):  # cachetools: too large
            self[answer.question] = answer


def _size(answer: CachedResponse) -> int:
    return len(answer.question) + len(answer.body) + OVERHEAD_BYTES
