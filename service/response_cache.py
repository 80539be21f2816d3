"""Answers that are kept in memory, by the question as it was asked: to be given again without a look at Redis.

An answer is the result of a job, which its key says all about: it holds for as long as its question has that key,
whatever became of the job. Every process of the service keeps its own.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from jobs.registry.models import ModelEntry

__all__ = ["CachedResponse", "ResponseCache"]

MOST_BYTES = 32 * 2**20
"""Of a process, a fraction of what it needs to run; some thousands of answers of `GET /metrics/{model}`."""
OVERHEAD_BYTES = 2048
"""About what an answer takes besides its text and its question."""


@dataclass(frozen=True)
class CachedResponse:
    """The result of a job as it is sent, and what its key is found from."""

    body: bytes
    job_id: str
    key: str
    request: dict[str, Any]
    """As it was resolved."""
    entry: ModelEntry
    """Of a registered model: the registry stays as it was read."""


class ResponseCache:
    """At most so many bytes of answers; those asked for least lately go first. For one thread."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._answers: OrderedDict[bytes, CachedResponse] = OrderedDict()

    def get(self, question: bytes) -> CachedResponse | None:
        """The answer that was kept of a question."""
        answer = self._answers.get(question)
        if answer is not None:
            self._answers.move_to_end(question)
        return answer

    def keep(self, question: bytes, answer: CachedResponse) -> None:
        """Keeps an answer in place of any that its question had."""
        self.drop(question)
        self._answers[question] = answer
        self._bytes += _size(question, answer)
        while self._bytes > self._most:
            self.drop(next(iter(self._answers)))

    def drop(self, question: bytes) -> None:
        """Forgets the answer of a question, if there is one."""
        answer = self._answers.pop(question, None)
        if answer is not None:
            self._bytes -= _size(question, answer)


def _size(question: bytes, answer: CachedResponse) -> int:
    return len(question) + len(answer.body) + OVERHEAD_BYTES
