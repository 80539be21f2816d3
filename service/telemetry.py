"""Telemetry for Prometheus: the counts of all processes of the service and of all workers, from Redis."""

from __future__ import annotations

from collections.abc import Iterator

import redis
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from jobs.store.heartbeats import WorkerRegistry
from jobs.store.jobs import JobStore
from jobs.store.telemetry import ALL, Counter, Histogram, Values

__all__ = ["REQUESTS", "REQUEST_SECONDS", "FleetCollector"]


REQUESTS = Counter("tailprune_http_requests", "Requests answered.", ("method", "route", "status"))
REQUEST_SECONDS = Histogram(
    "tailprune_http_request_seconds",
    "Seconds from a request to the end of its response.",
    ("method", "route"),
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)


class FleetCollector(Collector):
    """The counts of all processes, from Redis; only `tailprune_redis_up 0` while it does not answer."""

    def __init__(self, store: JobStore, workers: WorkerRegistry, callers: WorkerRegistry) -> None:
        self._store = store
        self._workers = workers
        self._callers = callers

    def collect(self) -> Iterator[Metric]:
        """The series with their current values."""
        try:
            values = self._store.telemetry.read()
            jobs = self._store.under_way()
            workers = len(self._workers.alive())
            callers = len(self._callers.alive())
            calls = self._store.pending_webhooks()
        except redis.RedisError:
            yield GaugeMetricFamily("tailprune_redis_up", "Whether Redis answers.", value=0)
            return
        yield GaugeMetricFamily("tailprune_redis_up", "Whether Redis answers.", value=1)
        yield GaugeMetricFamily("tailprune_workers", "Workers alive.", value=workers)
        under_way = GaugeMetricFamily("tailprune_jobs_under_way", "Jobs queued or running.", labels=("status",))
        for status, count in jobs._asdict().items():
            under_way.add_metric((status,), count)
        yield under_way
        yield GaugeMetricFamily("tailprune_webhook_callers", "Processes alive that call webhooks.", value=callers)
        yield GaugeMetricFamily("tailprune_webhooks_pending", "Calls of webhooks that are yet to succeed.", value=calls)
        for metric in (*ALL, REQUESTS, REQUEST_SECONDS):
            match metric:
                case Counter():
                    yield _counter(metric, values)
                case Histogram():
                    yield _histogram(metric, values)


def _counter(metric: Counter, values: Values) -> CounterMetricFamily:
    family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    for (name, *labels), value in values.items():
        if name == metric.name:
            family.add_metric(labels, value)
    return family


def _histogram(metric: Histogram, values: Values) -> HistogramMetricFamily:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    bounds = [*(f"{bound:g}" for bound in metric.buckets), "+Inf"]
    for labels in sorted({parts[1:-1] for parts in values if parts[0] == metric.name}):
        at, cumulated = 0.0, []
        for bound in bounds:
            at += values.get((metric.name, *labels, bound), 0.0)
            cumulated.append((bound, at))
        family.add_metric(labels, cumulated, values.get((metric.name, *labels, "sum"), 0.0))
    return family
