"""The trace of a study over real processes: the service, Celery and two workers send their spans by OTLP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.stack import eventually, running
from tests.tiny_model import NAME

pb2 = pytest.importorskip(
    "opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="OpenTelemetry is not here: '.[otel]'"
)

TRACE = "0123456789abcdef0123456789abcdef"


class Collector(ThreadingHTTPServer):
    """Receives spans by OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        """The name of the process that sent it, and the span."""
        spans = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = pb2.ExportTraceServiceRequest()
                sent.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
                for resource in sent.resource_spans:
                    (name,) = (a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
                    spans.extend((name, span) for scope in resource.scope_spans for span in scope.spans)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:
                """Say nothing."""

        super().__init__(("127.0.0.1", 0), Handler)

    def tree(self) -> str:
        """The spans of the trace as text: each under its parent, with its process, its begin and its length in ms."""
        spans = [(process, span) for process, span in self.spans if span.trace_id.hex() == TRACE]
        first = min(span.start_time_unix_nano for _, span in spans)
        known = {span.span_id for _, span in spans}

        def lines(parent: bytes | None, depth: int) -> Iterator[str]:
            for process, span in sorted(spans, key=lambda each: each[1].start_time_unix_nano):
                if span.parent_span_id == parent or (parent is None and span.parent_span_id not in known):
                    begun, ended = (
                        (moment - first) / 1e6 for moment in (span.start_time_unix_nano, span.end_time_unix_nano)
                    )
                    name = "  " * depth + span.name
                    yield f"{name:<28} {process:<18} {begun:8.0f} {ended - begun:8.0f}"
                    yield from lines(span.span_id, depth + 1)

        return "\n".join(lines(None, 0))


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_trace_goes_from_a_request_to_the_shards_of_both_workers(collector: Collector, tmp_path: Path) -> None:
    tracing = {
        "TAILPRUNE_TRACES": "true",
        "TAILPRUNE_SHARD_SAMPLES": "2",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    with running(tmp_path / "stack", workers=2, **tracing) as stack:
        body = {"model": NAME, "prunes": [{"threshold": 0.5}], "measures": ["drift"], "samples_per_label": 4}
        body |= {"steps": 100, "labels": [0, 1]}
        posted = stack.http.post("/studies", json=body, headers={"traceparent": f"00-{TRACE}-0123456789abcdef-01"})
        assert posted.is_success, posted.text
        assert stack.finished(posted.json()["id"])["status"] == "succeeded"

        def is_whole() -> bool:
            names = {span.name for _, span in collector.spans if span.trace_id.hex() == TRACE}
            return names >= {"POST /studies", "queue", "job study", "shard", "help"}

        eventually(is_whole, "every kind of span has come")
        for child in (stack.service, *stack.workers):
            assert child is not None
            child.stop()  # and sends what it has
    print(collector.tree())
    spans = {span.span_id: span for _, span in collector.spans if span.trace_id.hex() == TRACE}

    def parent_of(span: Any) -> str:
        parent = spans.get(span.parent_span_id)
        return parent.name if parent is not None else "client"

    seen = {(span.name, parent_of(span)) for span in spans.values()}
    assert seen == {
        ("POST /studies", "client"),
        ("queue", "POST /studies"),
        ("job study", "POST /studies"),
        ("shard", "job study"),
        ("help", "job study"),
        ("shard", "help"),
    }
    assert {name for name, _ in collector.spans} == {"tailprune-service", "tailprune-worker"}
