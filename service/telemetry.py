"""What the service measures: its own requests, and the fleet's numbers out of Redis, for Prometheus."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator

import redis
import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Counter as RequestCounter
from prometheus_client import Histogram as RequestHistogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.store.heartbeats import WorkerRegistry
from jobs.store.jobs import JobStore
from jobs.store.telemetry import ALL, Counter, Histogram, Values

__all__ = ["FleetCollector", "RequestTelemetry", "ServiceMetrics"]

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
OTHER = "other"  # a client may make up methods and paths; each must not be a new time series
UNMATCHED = "unmatched"
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

log = structlog.get_logger(__name__)


class ServiceMetrics:
    """The metrics of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self.requests = RequestCounter("tailprune_http_requests", "Requests answered.", labels, registry=self.registry)
        self.seconds = RequestHistogram(
            "tailprune_http_request_seconds",
            "From a request to the end of its answer.",
            ("method", "route"),
            registry=self.registry,
        )

    def render(self) -> bytes:
        """All metrics in Prometheus' text form."""
        return generate_latest(self.registry)


class RequestTelemetry:
    """ASGI middleware: counts and times requests, logs each, and names it in `X-Request-ID`."""

    def __init__(self, app: ASGIApp, metrics: ServiceMetrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        status = 500

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        began = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_named)
            finally:
                seconds = time.perf_counter() - began
                method = scope["method"] if scope["method"] in METHODS else OTHER
                route = getattr(scope.get("route"), "path", UNMATCHED)
                self.metrics.requests.labels(method, route, str(status)).inc()
                self.metrics.seconds.labels(method, route).observe(seconds)
                log.info("request", method=method, path=scope["path"], status=status, seconds=round(seconds, 4))


def _request_id(scope: Scope) -> str:
    """The client's own id for its request where it sent a plain one, else a new one."""
    given: str = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


class FleetCollector(Collector):
    """The numbers that all processes keep in Redis together; only `tailprune_redis_up 0` while it is gone."""

    def __init__(self, store: JobStore, roll: WorkerRegistry) -> None:
        self._store = store
        self._roll = roll

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment."""
        try:
            reading = self._store.telemetry.read()
            jobs = self._store.under_way()
            workers = len(self._roll.alive())
        except redis.RedisError:
            yield GaugeMetricFamily("tailprune_redis_up", "Whether Redis answers.", value=0)
            return
        yield GaugeMetricFamily("tailprune_redis_up", "Whether Redis answers.", value=1)
        yield GaugeMetricFamily("tailprune_workers", "Workers alive.", value=workers)
        under_way = GaugeMetricFamily("tailprune_jobs_under_way", "Jobs now.", labels=("status",))
        for status, count in jobs._asdict().items():
            under_way.add_metric((status,), count)
        yield under_way
        for metric in ALL:
            match metric:
                case Counter():
                    yield _counter(metric, reading)
                case Histogram():
                    yield _histogram(metric, reading)


def _counter(metric: Counter, reading: Values) -> CounterMetricFamily:
    family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    for (name, *labels), value in reading.items():
        if name == metric.name:
            family.add_metric(labels, value)
    return family


def _histogram(metric: Histogram, reading: Values) -> HistogramMetricFamily:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    bounds = [*(f"{bound:g}" for bound in metric.buckets), "+Inf"]
    for labels in sorted({parts[1:-1] for parts in reading if parts[0] == metric.name}):
        at, cumulated = 0.0, []
        for bound in bounds:
            at += reading.get((metric.name, *labels, bound), 0.0)
            cumulated.append((bound, at))
        family.add_metric(labels, cumulated, reading.get((metric.name, *labels, "sum"), 0.0))
    return family
