"""Traces by OpenTelemetry: the spans of a request, of the wait of a job, of its attempts and of its shards.

They are off by default, and then nothing here does anything. Where they are sent is said by the variables of
OpenTelemetry itself, such as `OTEL_EXPORTER_OTLP_ENDPOINT`. The trace of a job is that of the request that made it:
its record has the W3C `traceparent`, so that it holds for a worker that takes the job over, too.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from tailprune.spec import InputError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Tracer

__all__ = ["HEADER", "Span", "configure_tracing", "current_traceparent", "span"]

HEADER = "traceparent"
"""The name of the header of a request, of the field of a record and of the header of a message."""

Kind = Literal["SERVER", "CONSUMER", "INTERNAL"]
Attribute = str | int | float | bool

_tracer: Tracer | None = None


def configure_tracing(enabled: bool, process: str, exporter: SpanExporter | None = None) -> None:
    """Send the spans of this process from now on.

    enabled: the setting; nothing is done where it is false.
    process: its name in a trace, such as `tailprune-worker`, unless `OTEL_SERVICE_NAME` is set.
    exporter: receives each span as it ends; None, the default, for OTLP over HTTP, in batches.
    Raises InputError where the packages are not installed.
    """
    global _tracer
    if not enabled:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
    except ImportError as error:
        raise InputError(
            f"TAILPRUNE_TRACES=true needs the package {error.name}: pip install 'tailprune[otel]', or set it to false"
        ) from error
    resource = {"service.instance.id": f"{socket.gethostname()}-{os.getpid()}"}
    if "OTEL_SERVICE_NAME" not in os.environ:
        resource["service.name"] = process
    provider = TracerProvider(resource=Resource.create(resource))
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter()) if exporter is None else SimpleSpanProcessor(exporter)
    )
    _tracer = provider.get_tracer("tailprune")


class Span:
    """A span, which begins with it; nothing while traces are off.

    name: what is done.
    traceparent: the W3C trace context of its parent; empty, the default, for the current span.
    kind: `SERVER` for a request, `CONSUMER` for what comes from a queue, `INTERNAL`, the default, for a part of either.
    start: when it began; now, by default.
    """

    def __init__(
        self, name: str, traceparent: str = "", kind: Kind = "INTERNAL", start: datetime | None = None
    ) -> None:
        self._span = None
        if _tracer is not None:
            from opentelemetry.trace import SpanKind

            begun = None if start is None else _nanoseconds(start)
            self._span = _tracer.start_span(name, _context(traceparent), SpanKind[kind], start_time=begun)

    def rename(self, name: str) -> None:
        """Give it the name that only its end tells."""
        if self._span is not None:
            self._span.update_name(name)

    def note(self, **attributes: Attribute) -> None:
        """Add attributes; `__` in a name is a dot, as in `http__route`."""
        if self._span is not None:
            self._span.set_attributes({name.replace("__", "."): value for name, value in attributes.items()})

    def fail(self, reason: str) -> None:
        """Mark it as one that failed."""
        if self._span is not None:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_status(Status(StatusCode.ERROR, reason))

    def end(self, at: datetime | None = None) -> None:
        """End it. at: when it ended; now, by default."""
        if self._span is not None:
            self._span.end(None if at is None else _nanoseconds(at))

    @contextmanager
    def current(self) -> Iterator[None]:
        """Have spans that begin meanwhile be its children."""
        if self._span is None:
            yield
            return
        from opentelemetry.trace import use_span

        with use_span(self._span, record_exception=False, set_status_on_exception=False):
            yield


@contextmanager
def span(name: str, traceparent: str = "", **attributes: Attribute) -> Iterator[Span]:
    """A span around a block, which is the parent of those that begin in it; an error is its status."""
    around = Span(name, traceparent)
    around.note(**attributes)
    try:
        with around.current():
            yield around
    except BaseException as error:
        around.fail(type(error).__name__)
        raise
    finally:
        around.end()


def current_traceparent() -> str:
    """The W3C trace context of the current span; empty where there is none."""
    if _tracer is None:
        return ""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(HEADER, "")


def _context(traceparent: str) -> Context | None:
    """The context with this parent; None, for the current one, where it is empty or malformed."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({HEADER: traceparent}) if traceparent else None


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1e9)
