"""Counters and histograms of all processes together, kept in Redis: any process writes, the service reads."""

from __future__ import annotations

import contextlib
import json
import threading
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache

import redis

from jobs.store.connection import text
from jobs.store.scripts import PREFIX

__all__ = [
    "ALL",
    "JOBS",
    "QUEUE_WAIT",
    "REQUESTED",
    "SAMPLES",
    "SAMPLING",
    "WEBHOOK_SECONDS",
    "Counter",
    "Histogram",
    "Telemetry",
    "Values",
]

KEY = PREFIX + "telemetry"


@dataclass(frozen=True)
class Counter:
    """A number that only grows, one for each combination of labels."""

    name: str
    help: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Histogram:
    """A distribution, one for each combination of labels; `buckets` are upper bounds."""

    name: str
    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...]


JOBS = Counter("tailprune_jobs", "Finished jobs, by final status.", ("kind", "status"))
"""Counted in `lua/common.lua`, in the same step that finishes the job."""

REQUESTED = Counter(
    "tailprune_job_requests",
    "Requested jobs: created, joined while queued or running, or answered from the cache.",
    ("kind", "outcome"),
)
SAMPLES = Counter("tailprune_samples", "Samples made, over all variants.", ("model",))
QUEUE_WAIT = Histogram(
    "tailprune_queue_wait_seconds",
    "Seconds from a job's creation to its start.",
    ("kind",),
    (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)
SAMPLING = Histogram(
    "tailprune_sampling_seconds",
    "Seconds of sampling of one job, or of the batch that it shared, without loading and decoding.",
    ("model",),
    (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)

WEBHOOK_CALLS = Counter("tailprune_webhook_calls", "Calls of webhooks that ended, by outcome.", ("event", "outcome"))
"""Counted in `lua/settle.lua`, in the same step that ends the call."""
WEBHOOK_SECONDS = Histogram(
    "tailprune_webhook_seconds",
    "Seconds of one try of a webhook, by the class of its answer (2xx, 3xx, ...) or none.",
    ("answer",),
    (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)

ALL: tuple[Counter | Histogram, ...] = (
    JOBS, REQUESTED, SAMPLES, QUEUE_WAIT, SAMPLING, WEBHOOK_CALLS, WEBHOOK_SECONDS,
)  # fmt: skip

Values = dict[tuple[str, ...], float]
"""Values by (metric name, label values..., and for a histogram `sum` or the bucket's bound)."""


class Telemetry:
    """Counters and histograms by name and labels. Writes never raise: losing a count is better than losing a job."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._noted: defaultdict[str, float] = defaultdict(float)
        self._lock = threading.Lock()

    def count(self, counter: Counter, *labels: str, by: float = 1) -> None:
        """Add to a counter; labels are in the order of its definition."""
        with contextlib.suppress(redis.RedisError):
            self._redis.hincrbyfloat(KEY, _field(counter.name, *labels), by)

    def note(self, metric: Counter | Histogram, *labels: str, value: float = 1) -> None:
        """Count in memory, for events that are too frequent to write each; `write_noted` writes it.

        metric: a counter, to which the value is added, or a histogram, which receives it.
        labels: in the order of the metric's definition.
        value: 1 by default.
        """
        with self._lock:
            for field, by in _changes(metric, labels, value):
                self._noted[field] += by

    def write_noted(self) -> None:
        """Write the counts in memory; while Redis does not answer, they stay there."""
        with self._lock:
            noted, self._noted = self._noted, defaultdict(float)
        if not noted:
            return
        pipeline = self._redis.pipeline()
        for field, by in noted.items():
            pipeline.hincrbyfloat(KEY, field, by)
        try:
            pipeline.execute()
        except redis.RedisError:
            with self._lock:
                for field, by in noted.items():
                    self._noted[field] += by

    def observe(self, histogram: Histogram, *labels: str, value: float) -> None:
        """Add a value to a histogram; labels are in the order of its definition."""
        pipeline = self._redis.pipeline()
        for field, by in _changes(histogram, labels, value):
            pipeline.hincrbyfloat(KEY, field, by)
        with contextlib.suppress(redis.RedisError):
            pipeline.execute()

    def read(self) -> Values:
        """All values, after writing the counts in memory. Raises redis.RedisError."""
        self.write_noted()
        return {tuple(json.loads(text(field))): float(value) for field, value in self._redis.hgetall(KEY).items()}


def _changes(metric: Counter | Histogram, labels: tuple[str, ...], value: float) -> list[tuple[str, float]]:
    """By how much each field of the hash grows."""
    if isinstance(metric, Counter):
        return [(_field(metric.name, *labels), value)]
    bound = next((f"{b:g}" for b in metric.buckets if value <= b), "+Inf")
    return [(_field(metric.name, *labels, bound), 1), (_field(metric.name, *labels, "sum"), value)]


@lru_cache(maxsize=1024)
def _field(*parts: str) -> str:
    return json.dumps(parts, separators=(",", ":"))
