"""Telemetry for Prometheus: the requests of this process, and the counts of all processes from Redis."""

from __future__ import annotations

from collections.abc import Iterator

import redis
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Counter as RequestCounter
from prometheus_client import Histogram as RequestHistogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from jobs.store.heartbeats import WorkerRegistry
from jobs.store.jobs import JobStore
from jobs.store.telemetry import ALL, Counter, Histogram, Values

__all__ = ["FleetCollector", "ServiceTelemetry"]


class ServiceTelemetry:
    """The series of one application, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self.requests = RequestCounter("tailprune_http_requests", "Requests answered.", labels, registry=self.registry)
        self.seconds = RequestHistogram(
            "tailprune_http_request_seconds",
            "Seconds from a request to the end of its response.",
            ("method", "route"),
            registry=self.registry,
        )

    def render(self) -> bytes:
        """All series in the text format of Prometheus."""
        return generate_latest(self.registry)


class FleetCollector(Collector):
    """The counts of all processes, from Redis; only `tailprune_redis_up 0` while it does not answer."""

    def __init__(self, store: JobStore, workers: WorkerRegistry) -> None:
        self._store = store
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        """The series with their current values."""
        try:
            values = self._store.telemetry.read()
            jobs = self._store.under_way()
            workers = len(self._workers.alive())
        except redis.RedisError:
            yield GaugeMetricFamily("tailprune_redis_up", "Whether Redis answers.", value=0)
            return
        yield GaugeMetricFamily("tailprune_redis_up", "Whether Redis answers.", value=1)
        yield GaugeMetricFamily("tailprune_workers", "Workers alive.", value=workers)
        under_way = GaugeMetricFamily("tailprune_jobs_under_way", "Jobs queued or running.", labels=("status",))
        for status, count in jobs._asdict().items():
            under_way.add_metric((status,), count)
        yield under_way
        for metric in ALL:
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
