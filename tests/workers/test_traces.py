"""The trace of a job, from the request that made it to its shards, in one process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from jobs import tracing
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from jobs.tracing import configure_tracing
from service.app import create_app
from tests.tiny_model import NAME
from tests.workers.conftest import Silent, Submit
from workers.worker import Worker

pytest.importorskip("opentelemetry.sdk", reason="OpenTelemetry is not here: pip install -c constraints.txt '.[otel]'")
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

CLIENT = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Where all spans of this process go."""
    monkeypatch.setattr(tracing, "_tracer", None)
    exporter = InMemorySpanExporter()
    configure_tracing(True, "tailprune-test", exporter)
    return exporter


def parents(spans: tuple[ReadableSpan, ...]) -> list[tuple[str, str]]:
    """The names of spans, each with that of its parent, in the order in which they began."""
    names = {span.context.span_id: span.name for span in spans}
    begun = sorted(spans, key=lambda span: span.start_time or 0)
    return [(span.name, names.get(span.parent.span_id, "client") if span.parent else "") for span in begun]


def test_a_trace_has_the_request_the_wait_the_job_and_its_shards(
    exporter: InMemorySpanExporter, settings: Settings, store: JobStore
) -> None:
    settings = settings.model_copy(update={"batch_size": 4})
    with TestClient(create_app(settings)) as http:
        body = {"model": NAME, "threshold": 0.5, "labels": [0, 1, 2], "steps": 2, "samples_per_label": 2}
        job_id = http.post("/prune-sample", json=body, headers={"traceparent": CLIENT}).json()["id"]
    Worker(settings, "worker").run(job_id)
    assert store.get(job_id).status == "succeeded"
    spans = exporter.get_finished_spans()
    assert {f"{span.context.trace_id:032x}" for span in spans} == {CLIENT.split("-")[1]}
    request = "POST /prune-sample"
    assert sorted(parents(spans)) == [
        (request, "client"),
        ("job prune-sample", request),
        ("queue", request),
        *[("shard", "job prune-sample")] * 3,
    ]
    (job,) = [span for span in spans if span.name.startswith("job")]
    assert job.attributes is not None
    assert (job.attributes["tailprune.job_id"], job.attributes["tailprune.outcome"]) == (job_id, "succeeded")


def test_a_study_offers_its_parts_with_its_trace_and_has_a_span_for_each_that_it_does(
    exporter: InMemorySpanExporter, settings: Settings, submit: Submit, store: JobStore
) -> None:
    job = submit("study", prunes=[{"threshold": 0.5}], measures=["drift"], labels=[0, 1])
    Worker(settings, "worker").run(job.id)
    assert store.get(job.id).status == "succeeded", store.get(job.id).problem
    seen = parents(exporter.get_finished_spans())
    assert ("job study", "") in seen
    assert ("shard", "job study") in seen


def test_jobs_that_share_a_batch_have_a_span_each(
    exporter: InMemorySpanExporter, settings: Settings, submit: Submit, queue: Silent
) -> None:
    first, second = (submit(seed=seed, labels=[0], steps=2) for seed in (1, 2))
    Worker(settings, "worker").run(first.id)
    done = {
        span.attributes["tailprune.job_id"]
        for span in exporter.get_finished_spans()
        if span.name == "job prune-sample" and span.attributes
    }
    assert done == {first.id, second.id}
