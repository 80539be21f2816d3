"""`GET /metrics/{model}` and the numbers for Prometheus."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import redis
from fastapi.testclient import TestClient

from jobs.problems import problem
from jobs.records import Job
from jobs.settings import Settings
from jobs.store.connection import connect
from jobs.store.heartbeats import WorkerRegistry
from jobs.store.jobs import JobStore
from jobs.store.leases import Claim, LeaseStore
from jobs.store.telemetry import SAMPLING
from jobs.views import WorkerInfo
from service.app import create_app
from service.response_cache import ResponseCache
from tests.redis_process import RedisProcess
from tests.service.conftest import REQUEST
from tests.service.results import METRICS, finish

NOW = {"Prefer": "wait=0"}


@pytest.mark.usefixtures("worker")
def test_statistics_are_waited_for_by_themselves(client: TestClient) -> None:
    answer = client.get("/metrics/shapes-sit")
    assert answer.status_code == 200
    assert answer.json() == METRICS


def test_statistics_that_are_not_there_yet_are_a_job(settings: Settings, store: JobStore) -> None:
    with TestClient(create_app(settings.model_copy(update={"metrics_wait_seconds": 0.1}))) as client:
        answer = client.get("/metrics/shapes-sit")
        job = answer.json()
        assert answer.status_code == 202
        assert answer.headers["Location"] == f"/jobs/{job['id']}"
        assert (job["kind"], job["request"]["timestep"]) == ("metrics", 0.0)


def test_statistics_are_measured_once(client: TestClient, done: Callable[[str], Job]) -> None:
    done(client.get("/metrics/shapes-sit", headers=NOW).json()["id"])
    again = client.get("/metrics/shapes-sit", headers=NOW)
    assert again.status_code == 200
    assert again.headers["Preference-Applied"] == "wait=0"


@pytest.mark.parametrize("path", ["/metrics/shapes-sit", "/metrics/shapes-sit/figures/cosine"])
def test_any_copy_of_a_client_is_up_to_date_only_once_there_is_a_result(
    client: TestClient, done: Callable[[str], Job], path: str
) -> None:
    anything = {"If-None-Match": "*"} | NOW
    first = client.get(path, headers=anything)
    assert first.status_code == 202
    done(first.json()["id"])
    again = client.get(path, headers=anything)
    assert (again.status_code, again.content) == (304, b"")


def test_statistics_that_the_client_has_are_not_sent_again(client: TestClient, done: Callable[[str], Job]) -> None:
    done(client.get("/metrics/shapes-sit", headers=NOW).json()["id"])
    etag = client.get("/metrics/shapes-sit").headers["ETag"]
    again = client.get("/metrics/shapes-sit", headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")
    other = client.get("/metrics/shapes-sit?part=y", headers={"If-None-Match": etag} | NOW)
    assert other.status_code == 202


def test_new_weights_are_measured_anew(client: TestClient, done: Callable[[str], Job], settings: Settings) -> None:
    done(client.get("/metrics/shapes-sit", headers=NOW).json()["id"])
    (settings.registry.parent / "shapes-sit" / "model.safetensors").write_bytes(b"retrained")
    assert client.get("/metrics/shapes-sit", headers=NOW).status_code == 202


@pytest.fixture
def forgetful(client: TestClient, redis_client: redis.Redis, done: Callable[[str], Job]) -> TestClient:
    """A client that has the statistics of a model, at a service whose Redis has lost all it knew."""
    done(client.get("/metrics/shapes-sit", headers=NOW).json()["id"])
    assert client.get("/metrics/shapes-sit").status_code == 200
    redis_client.flushall()
    return client


def test_an_answer_that_was_given_once_needs_no_redis(
    settings: Settings, own_redis: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_server = settings.model_copy(update={"redis_url": own_redis.url})
    with connect(of_server) as redis_client, TestClient(create_app(of_server)) as client:
        store, leases = JobStore(redis_client, of_server), LeaseStore(redis_client, of_server)
        claimed = leases.claim(client.get("/metrics/shapes-sit", headers=NOW).json()["id"], "worker")
        assert claimed is not None
        finish(store, leases, claimed)
        first = client.get("/metrics/shapes-sit")
        own_redis.stop()
        again = client.get("/metrics/shapes-sit")
        assert (again.status_code, again.content) == (200, first.content)
        own = ("x-request-id", "date")
        assert [pair for pair in again.headers.items() if pair[0] not in own] == [
            pair for pair in first.headers.items() if pair[0] not in own
        ]
        assert client.get("/metrics/shapes-sit?part=y", headers=NOW).status_code == 503


def test_a_kept_answer_is_of_one_question_alone(forgetful: TestClient) -> None:
    assert forgetful.get("/metrics/shapes-sit", headers=NOW).status_code == 200
    assert forgetful.get("/metrics/shapes-sit?part=y", headers=NOW).status_code == 202
    assert forgetful.get("/metrics/absent-dit", headers=NOW).status_code == 409


def test_a_kept_answer_says_which_wait_was_granted(forgetful: TestClient) -> None:
    assert forgetful.get("/metrics/shapes-sit", headers={"Prefer": "wait=7"}).headers["Preference-Applied"] == "wait=7"
    assert "Preference-Applied" not in forgetful.get("/metrics/shapes-sit").headers
    refused = forgetful.get("/metrics/shapes-sit", headers={"Prefer": "wait=soon"})
    assert (refused.status_code, refused.json()["errors"][0]["location"]) == (422, "header.prefer")


def test_a_kept_answer_that_the_client_has_is_not_sent_again(forgetful: TestClient) -> None:
    etag = forgetful.get("/metrics/shapes-sit").headers["ETag"]
    again = forgetful.get("/metrics/shapes-sit", headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
    assert forgetful.get("/metrics/shapes-sit", headers={"If-None-Match": 'W/"other"'}).status_code == 200


def test_a_kept_answer_does_not_outlive_its_weights(forgetful: TestClient, settings: Settings) -> None:
    weights = settings.registry.parent / "shapes-sit" / "model.safetensors"
    before = weights.stat()
    weights.write_bytes(b"WEIGHTS")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert forgetful.get("/metrics/shapes-sit", headers=NOW).status_code == 202
    weights.unlink()
    answer = forgetful.get("/metrics/shapes-sit")
    assert answer.json()["type"] == "urn:tailprune:problem:model-not-ready"


def test_an_answer_goes_when_there_is_no_room_for_it(
    settings: Settings,
    store: JobStore,
    done: Callable[[str], Job],
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.app.ResponseCache", lambda: ResponseCache(most_bytes=1))
    with TestClient(create_app(settings)) as client:
        done(client.get("/metrics/shapes-sit", headers=NOW).json()["id"])
        assert client.get("/metrics/shapes-sit").status_code == 200
        redis_client.flushall()
        assert client.get("/metrics/shapes-sit", headers=NOW).status_code == 202


def test_kept_answers_are_counted_with_the_others(forgetful: TestClient, store: JobStore) -> None:
    for _ in range(3):
        forgetful.get("/metrics/shapes-sit")
    cached = 'tailprune_job_requests_total{kind="metrics",outcome="cached"}'
    assert value(forgetful.get("/metrics").text, cached) == 3
    assert value(forgetful.get("/metrics").text, cached) == 3
    forgetful.get("/metrics/shapes-sit")
    forgetful.__exit__()  # the service stops
    assert store.telemetry.read()["tailprune_job_requests", "metrics", "cached"] == 4


def test_counts_of_kept_answers_are_written_without_being_asked_for(
    settings: Settings, store: JobStore, done: Callable[[str], Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.app.COUNT_SECONDS", 0.01)
    with TestClient(create_app(settings)) as client:
        done(client.get("/metrics/shapes-sit", headers=NOW).json()["id"])
        client.get("/metrics/shapes-sit")
        client.get("/metrics/shapes-sit")
        counter = "tailprune_job_requests", "metrics", "cached"
        deadline = time.monotonic() + 10
        while store.telemetry.read().get(counter) != 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_the_question_is_the_part_the_timestep_and_the_thresholds(client: TestClient) -> None:
    query = "part=c&timestep=0.5&threshold=0.1&threshold=0.2"
    job = client.get(f"/metrics/shapes-sit?{query}", headers=NOW).json()
    assert job["request"] == {
        "model": "shapes-sit",
        "conditions": None,
        "part": "c",
        "timestep": 0.5,
        "thresholds": [0.1, 0.2],
    }


def test_a_measurement_that_failed_is_answered_with_its_problem(
    client: TestClient, store: JobStore, leases: LeaseStore, claim: Callable[[str], Claim]
) -> None:
    answer = meanwhile(client, store, lambda job_id: leases.fail(claim(job_id), problem("failed", "damaged")))
    assert answer.status_code == 422
    assert answer.json()["detail"] == "damaged"


def test_a_measurement_whose_store_was_away_may_be_asked_for_again_after_a_while(
    client: TestClient, store: JobStore, leases: LeaseStore, claim: Callable[[str], Claim]
) -> None:
    answer = meanwhile(client, store, lambda job_id: leases.fail(claim(job_id), problem("unavailable", "away")))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


def test_a_measurement_cancelled_while_it_is_waited_for_is_reported(client: TestClient, store: JobStore) -> None:
    answer = meanwhile(client, store, store.cancel)
    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:tailprune:problem:job-cancelled"


def meanwhile(client: TestClient, store: JobStore, act: Callable[[str], object]) -> httpx.Response:
    """What is answered when something happens to the job that is waited for."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.get, "/metrics/shapes-sit")
        while not (queued := store.page(status="queued").jobs):
            time.sleep(0.01)
        act(queued[0].id)
        return answer.result()


def value(text: str, line: str) -> float:
    match = re.search(rf"^{re.escape(line)} (.+)$", text, re.MULTILINE)
    assert match, text
    return float(match[1])


def test_the_numbers_count_jobs_requests_cache_and_waits(
    client: TestClient, store: JobStore, done: Callable[[str], Job]
) -> None:
    done(client.post("/prune-sample", json=REQUEST).json()["id"])
    client.post("/prune-sample", json=REQUEST)
    client.post("/prune-sample", json=REQUEST | {"seed": 1})
    text = client.get("/metrics").text
    kind = 'kind="prune-sample"'
    assert value(text, f'tailprune_jobs_total{{{kind},status="succeeded"}}') == 1
    assert value(text, f'tailprune_job_requests_total{{{kind},outcome="created"}}') == 2
    assert value(text, f'tailprune_job_requests_total{{{kind},outcome="cached"}}') == 1
    assert value(text, f"tailprune_queue_wait_seconds_count{{{kind}}}") == 1
    assert value(text, 'tailprune_jobs_under_way{status="queued"}') == 1
    post = 'method="POST",route="/prune-sample"'
    assert value(text, f'tailprune_http_requests_total{{{post},status="202"}}') == 2
    assert value(text, f"tailprune_http_request_seconds_count{{{post}}}") == 3


def test_made_up_methods_and_paths_are_counted_together(client: TestClient) -> None:
    for path in ("/a", "/b"):
        client.request("MADEUP", path)
    line = 'tailprune_http_requests_total{method="other",route="unmatched",status="404"}'
    assert value(client.get("/metrics").text, line) == 2


def test_histograms_cumulate(client: TestClient, store: JobStore) -> None:
    for seconds in (0.2, 3.0, 99_999.0):
        store.telemetry.observe(SAMPLING, "shapes-sit", value=seconds)
    text = client.get("/metrics").text
    buckets = [
        value(text, f'tailprune_sampling_seconds_bucket{{le="{le}",model="shapes-sit"}}')
        for le in ("0.1", "0.25", "5", "1800", "+Inf")
    ]
    assert buckets == [0, 1, 2, 2, 3]


def test_readiness_counts_workers_and_does_not_need_them(client: TestClient, store: JobStore) -> None:
    assert client.get("/health/ready").json() == {"status": "ready", "queued": 0, "running": 0, "workers": []}


def test_workers_alive_are_listed(client: TestClient, redis_client: redis.Redis) -> None:
    WorkerRegistry(redis_client, 2).beat(WorkerInfo(name="worker", device="cpu"))
    assert client.get("/health/ready").json()["workers"] == [{"name": "worker", "device": "cpu"}]
    assert "tailprune_workers 1.0" in client.get("/metrics").text


def test_statistics_are_answered_on_a_full_disk(
    client: TestClient, worker: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("jobs.registry.digests._digests", {})
    monkeypatch.setattr("jobs.registry.digests.tempfile.mkstemp", full)
    assert client.get("/metrics/shapes-sit").status_code == 200
    assert not [note for note in (settings.data_dir / "digests").iterdir() if note.suffix != ".lock"]
