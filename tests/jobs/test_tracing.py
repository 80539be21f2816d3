"""Spans: none while traces are off, and a trace of W3C contexts where they are on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from jobs import tracing
from jobs.tracing import Span, configure_tracing, current_traceparent, span
from tailprune.spec import InputError

pytest.importorskip("opentelemetry.sdk", reason="OpenTelemetry is not here: pip install -c constraints.txt '.[otel]'")
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

PARENT = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Where all spans of this process go."""
    monkeypatch.setattr(tracing, "_tracer", None)
    exporter = InMemorySpanExporter()
    configure_tracing(True, "tailprune-test", exporter)
    return exporter


def test_while_traces_are_off_nothing_is_traced_and_no_package_is_needed() -> None:
    with span("outer") as outer, Span("inner").current():
        outer.note(http__route="/")
        assert current_traceparent() == ""
    assert tracing._tracer is None


def test_traces_without_their_packages_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(InputError, match=r"needs the package opentelemetry.*tailprune\[otel\]"):
        configure_tracing(True, "tailprune-test")


def test_a_span_belongs_to_the_trace_that_it_is_given(exporter: InMemorySpanExporter) -> None:
    with span("outer", PARENT), span("inner", tailprune__samples=3):
        assert current_traceparent().split("-")[1] == PARENT.split("-")[1]
    inner, outer = exporter.get_finished_spans()
    assert _hex(outer) == (PARENT.split("-")[1], PARENT.split("-")[2])
    assert inner.parent is not None
    assert inner.parent.span_id == outer.context.span_id
    assert dict(inner.attributes or {}) == {"tailprune.samples": 3}
    assert outer.resource.attributes["service.name"] == "tailprune-test"


@pytest.mark.parametrize("parent", ["", "nonsense", "00-0-0-01"])
def test_without_a_context_a_span_begins_a_trace(exporter: InMemorySpanExporter, parent: str) -> None:
    Span("alone", parent).end()
    (alone,) = exporter.get_finished_spans()
    assert alone.parent is None


def test_an_error_is_the_status_of_its_span(exporter: InMemorySpanExporter) -> None:
    with pytest.raises(KeyError), span("broken"):
        raise KeyError("x")
    (broken,) = exporter.get_finished_spans()
    assert (broken.status.status_code, broken.status.description) == (StatusCode.ERROR, "KeyError")


def test_a_span_may_have_begun_before(exporter: InMemorySpanExporter) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    Span("queue", PARENT, "CONSUMER", start=start).end(at=start + timedelta(seconds=2))
    (queue,) = exporter.get_finished_spans()
    assert queue.start_time is not None
    assert queue.end_time is not None
    assert queue.end_time - queue.start_time == 2_000_000_000


def _hex(span: ReadableSpan) -> tuple[str, str]:
    assert span.parent is not None
    return f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}"
