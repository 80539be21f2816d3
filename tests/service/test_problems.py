"""Every error is a problem document that names the value, the limit and the way out."""

from __future__ import annotations

import gzip
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast, get_args

import httpx
import pytest
import redis
from fastapi.testclient import TestClient

from jobs.problems import PREFIX, TYPES, Slug
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from service.app import create_app
from service.deps import AppState
from tests.redis_process import RedisProcess
from tests.service.conftest import REQUEST
from tests.service.server import eventually

UNKNOWN_JOB = "0" * 26
HUGE_INTEGER = b"1" * 5000
DEEP = b"[" * 40_000


def problem(answer: httpx.Response, slug: str) -> dict[str, Any]:
    """The problem document of an answer, which must be of this type."""
    document: dict[str, Any] = answer.json()
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert document["type"] == PREFIX + slug, document
    assert document["status"] == answer.status_code
    assert document["title"]
    assert document["detail"]
    return document


def faults(answer: httpx.Response) -> dict[str, str]:
    """Location and message of each fault."""
    return {fault["location"]: fault["message"] for fault in problem(answer, "invalid-request")["errors"]}


def body(**fields: Any) -> bytes:
    return json.dumps(REQUEST | fields).encode()


def post(client: TestClient, content: bytes) -> httpx.Response:
    return client.post("/prune-sample", content=content, headers={"Content-Type": "application/json"})


def test_an_unknown_model(client: TestClient) -> None:
    for answer in (
        post(client, body(model="nothing")),
        client.get("/metrics/nothing"),
        client.get("/models/nothing"),
    ):
        assert answer.status_code == 404
        assert "known models: shapes-sit, absent-dit" in problem(answer, "unknown-model")["detail"]


def test_a_model_whose_checkpoint_is_not_there(client: TestClient) -> None:
    for answer in (post(client, body(model="absent-dit")), client.get("/metrics/absent-dit")):
        assert answer.status_code == 409
        assert "lacks absent-dit/model.safetensors" in problem(answer, "model-not-ready")["detail"]


@pytest.mark.parametrize(
    ("fields", "location", "message"),
    [
        ({"labels": [0, 100]}, "body.labels.1", "label 100 is outside 0 to 99"),
        ({"threshold": -1}, "body.threshold", "greater than or equal to 0"),
        ({"threshold": float("nan")}, "body.threshold", "given nan"),
        ({"threshold": float("inf")}, "body.threshold", "given inf"),
        ({"threshold": [0.1, -1]}, "body.threshold.1", "greater than or equal to 0"),
        ({"threshold": []}, "body.threshold", "at least 1 item"),
        ({"guided_channels": "some"}, "body.guided_channels", "'all'"),
        ({"samples_per_label": 200}, "body.samples_per_label", "400 samples; a job makes at most 256"),
        ({"samples_per_label": 10**400}, "body.samples_per_label", "at most 256"),
        ({"seed": 2**63}, "body.seed", "less than or equal to 9223372036854775807"),
        ({"steps": 1001}, "body.steps", "1001 steps is more than the 1000"),
        ({"surprise": 1}, "body.surprise", "Extra inputs are not permitted"),
        ({"keep": 3}, "body", "exactly one of threshold, threshold_by_step, remove_fraction, keep and"),
    ],
    ids=str,
)
def test_a_request_that_is_not_valid(client: TestClient, fields: dict[str, Any], location: str, message: str) -> None:
    answer = post(client, body(**fields))
    assert answer.status_code == 422
    said = faults(answer)
    assert list(said) == [location]
    assert message in said[location]


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b'"text"', b"1", b"NaN", b'{"\\ud800": 1}', b'{"model": "\\ud800", "threshold": 1}'],
)
def test_a_body_of_another_shape(client: TestClient, content: bytes) -> None:
    assert post(client, content).status_code == 422


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "the body is not JSON: Expecting property name"),
        (b"\xff\xfe", "the body is not JSON: Expecting value"),
        (b'{"labels": ["caf\xe9"]}', "byte 16 is not utf-8; send text in UTF-8, not compressed"),
        (gzip.compress(b"{}", mtime=0), "byte 1 is not utf-8; send text in UTF-8, not compressed"),
        (DEEP, "its arrays or objects are nested too deeply"),
        (b'{"seed": ' + HUGE_INTEGER + b"}", "a number has too many digits"),
        (b"\x00", "the body is not JSON: "),
    ],
)
def test_a_body_that_cannot_be_read_is_answered_with_the_reason(
    client: TestClient, content: bytes, reason: str
) -> None:
    answer = post(client, content)
    assert answer.status_code == 400
    assert reason in problem(answer, "malformed-request")["detail"]


def test_of_very_many_faults_the_first_are_listed_and_long_names_are_shortened(client: TestClient) -> None:
    labels = [{"x" * 500: 1}] * 200
    document = problem(post(client, body(labels=labels, **{"x" * 500: 1})), "invalid-request")
    assert document["detail"] == "201 things are wrong with the request; errors has the first 100"
    assert len(document["errors"]) == 100
    document = problem(post(client, body(**{"x" * 500: 1})), "invalid-request")
    assert document["errors"][0]["location"] == "body." + "x" * 80


def test_a_body_that_is_too_large(client: TestClient, settings: Settings) -> None:
    large = body(model="x" * settings.max_body_bytes)
    chunks = (large[at : at + 65536] for at in range(0, len(large), 65536))
    for content in (large, chunks):  # the length said before, and not said
        answer = client.post("/prune-sample", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
        assert "at most 1048576 bytes are accepted" in problem(answer, "body-too-large")["detail"]


@pytest.mark.parametrize(
    "path", [f"/jobs/{UNKNOWN_JOB}", f"/jobs/{UNKNOWN_JOB}/events", "/jobs/x", "/jobs/%00", "/jobs/a:b", "/jobs/%FF"]
)
def test_an_unknown_job(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    problem(answer, "unknown-job")


@pytest.mark.parametrize("path", ["/nothing", "/models/a/b", "/%00", "/jobs/", "/static-offline-docs/nothing"])
def test_a_path_with_nothing_there(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert problem(answer, "not-found")["detail"] == "nothing is at this path; /docs lists all paths"


@pytest.mark.parametrize("path", ["/tail/nothing", "/tail/static-offline-docs/nothing"])
def test_where_all_paths_are_listed_is_said_with_the_prefix_of_the_proxy(settings: Settings, path: str) -> None:
    with TestClient(create_app(settings.model_copy(update={"root_path": "/tail"}))) as client:
        assert problem(client.get(path), "not-found")["detail"] == "nothing is at this path; /tail/docs lists all paths"


@pytest.mark.parametrize("model", ["%00", "..%2F..", "%F0%9F%92%A9", "a%0Ab"])
def test_a_model_of_a_strange_name_is_unknown(client: TestClient, model: str) -> None:
    assert client.get(f"/models/{model}").status_code == 404


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/prune-sample", "POST"),
        (f"/jobs/{UNKNOWN_JOB}", "GET, HEAD, DELETE"),
        ("/models/shapes-sit", "GET, HEAD, DELETE"),
        (f"/jobs/{UNKNOWN_JOB}/artifacts/grid.png", "GET, HEAD"),
        ("/static-offline-docs/swagger-ui.css", "GET, HEAD"),
    ],
)
def test_a_method_that_does_not_apply_is_answered_with_those_that_do(
    client: TestClient, path: str, allowed: str
) -> None:
    answer = client.put(path, json=REQUEST)
    assert answer.status_code == 405
    assert answer.headers["Allow"] == allowed
    assert allowed in problem(answer, "method-not-allowed")["detail"]


@pytest.mark.parametrize(
    ("query", "location"),
    [
        ("cursor=x", "query.cursor"),
        ("cursor=%00", "query.cursor"),
        ("limit=0", "query.limit"),
        ("limit=201", "query.limit"),
        ("limit=" + "9" * 400, "query.limit"),
        ("status=done", "query.status"),
        ("kind=other", "query.kind.0"),
    ],
)
def test_a_list_that_cannot_be_made(client: TestClient, query: str, location: str) -> None:
    assert location in faults(client.get(f"/jobs?{query}"))


@pytest.mark.parametrize(
    ("query", "location"),
    [
        ("threshold=-1", "query.threshold.0"),
        ("threshold=nan", "query.threshold.0"),
        ("threshold=0.1&threshold=0.1", "query.threshold"),
        ("timestep=nan", "query.timestep"),
        ("timestep=2", "query.timestep"),
        ("part=y&timestep=0.5", "query.timestep"),
        ("part=z", "query.part"),
    ],
)
def test_metrics_that_cannot_be_measured(client: TestClient, query: str, location: str) -> None:
    assert location in faults(client.get(f"/metrics/shapes-sit?{query}"))


@pytest.mark.parametrize("last", ["x", "1", "-", "1-1-1", "9" * 30 + "-0"])
def test_an_event_id_that_is_none(client: TestClient, last: str) -> None:
    job = client.post("/prune-sample", json=REQUEST).json()
    answer = client.get(job["links"]["events"], headers={"Last-Event-ID": last})
    assert "header.Last-Event-ID" in faults(answer)


def test_redis_gone_is_reported_at_once_with_when_to_come_back_and_the_service_recovers(
    settings: Settings, own_redis: RedisProcess
) -> None:
    with TestClient(create_app(settings.model_copy(update={"redis_url": own_redis.url}))) as client:
        job = client.post("/prune-sample", json=REQUEST).json()
        own_redis.stop()
        calls = [
            ("POST", "/prune-sample"),
            ("GET", "/metrics/shapes-sit"),
            ("GET", "/jobs"),
            ("GET", f"/jobs/{job['id']}"),
            ("GET", f"/jobs/{job['id']}/events"),
            ("GET", f"/jobs/{job['id']}/artifacts/grid.png"),
            ("DELETE", f"/jobs/{job['id']}"),
            ("DELETE", "/models/shapes-sit-compact-0123456789abcdef"),
            ("GET", "/health/ready"),
        ]
        for method, path in calls:
            began = time.monotonic()
            answer = client.request(method, path, json=REQUEST if method == "POST" else None)
            assert answer.status_code == 503, path
            assert int(answer.headers["Retry-After"]) > 0
            problem(answer, "unavailable")
            assert time.monotonic() - began < 30
        assert client.get("/health/live").status_code == 200
        assert client.get("/models").status_code == 200
        assert "tailprune_redis_up 0.0" in client.get("/metrics").text
        own_redis.start()
        eventually(lambda: client.get("/health/ready").status_code == 200, "the service recovers")
        assert client.get(f"/jobs/{job['id']}").json()["status"] == "queued"


def test_while_redis_hangs_probes_are_answered_and_no_call_waits_once_one_was_not_answered(
    settings: Settings, own_redis: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.app.ANSWER_SECONDS", 3600.0)  # a call that waits does so beyond the end of the test
    monkeypatch.setattr("service.app.GLANCE_SECONDS", 0.2)
    with TestClient(create_app(settings.model_copy(update={"redis_url": own_redis.url}))) as client:
        job = client.post("/prune-sample", json=REQUEST).json()
        own_redis.pause()
        try:
            with ThreadPoolExecutor() as clients:
                waiting = [clients.submit(client.get, f"/jobs/{job['id']}") for _ in range(3)]
                assert client.get("/health/ready").status_code == 503
                assert "tailprune_redis_up 0.0" in client.get("/metrics").text
                for method, path in (("GET", "/jobs"), ("POST", "/prune-sample"), ("GET", f"/jobs/{job['id']}/events")):
                    answer = client.request(method, path, json=REQUEST if method == "POST" else None)
                    assert answer.status_code == 503, path
                    assert int(answer.headers["Retry-After"]) > 0
                assert client.get("/health/live").status_code == 200
                assert client.get("/models").status_code == 200
                own_redis.resume()
                assert {each.result().status_code for each in waiting} <= {200, 503}
        finally:
            own_redis.resume()
        eventually(lambda: client.get("/health/ready").status_code == 200, "the service recovers")
        assert client.get(f"/jobs/{job['id']}").status_code == 200


def test_a_follower_beyond_the_limit_is_refused_before_its_stream_and_a_waiter_gets_its_job(
    settings: Settings, store: JobStore
) -> None:
    with TestClient(create_app(settings.model_copy(update={"max_followers": 0}))) as client:
        answer = client.post("/prune-sample", json=REQUEST, headers={"Prefer": "wait=60"})
        assert answer.status_code == 202
        answer = client.get(answer.json()["links"]["events"])
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert "0 clients already follow" in problem(answer, "unavailable")["detail"]


def test_a_job_whose_store_is_lost_while_it_is_waited_for_is_answered_as_it_was(
    settings: Settings, own_redis: RedisProcess
) -> None:
    with TestClient(create_app(settings.model_copy(update={"redis_url": own_redis.url}))) as client:
        state: AppState = cast(Any, client.app).state.app
        with ThreadPoolExecutor() as clients:
            waiting = clients.submit(lambda: client.post("/prune-sample", json=REQUEST, headers={"Prefer": "wait=60"}))
            eventually(lambda: len(state.events._all()) == 1, "the client waits")
            own_redis.stop()
            answer = waiting.result()
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")


def test_a_full_redis_is_reported_with_when_to_come_back(client: TestClient, redis_client: redis.Redis) -> None:
    job = client.post("/prune-sample", json=REQUEST).json()
    redis_client.config_set("maxmemory", 1)
    try:
        assert client.get(f"/jobs/{job['id']}").status_code == 200
        for answer in (client.post("/prune-sample", json=REQUEST | {"seed": 1}), client.delete(f"/jobs/{job['id']}")):
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) > 0
            assert "is full" in problem(answer, "unavailable")["detail"]
    finally:
        redis_client.config_set("maxmemory", 0)
    assert client.post("/prune-sample", json=REQUEST | {"seed": 1}).status_code == 202


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (redis.ReadOnlyError("You can't write against a read only replica."), 503),
        (redis.ResponseError("MISCONF Errors writing to the AOF file"), 503),
        (redis.ResponseError("NOREPLICAS Not enough good replicas to write."), 503),
        (redis.BusyLoadingError("Redis is loading the dataset in memory"), 503),
        (redis.ResponseError("WRONGTYPE Operation against a key"), 500),
    ],
    ids=str,
)
def test_a_redis_that_refuses_for_now_is_told_from_a_fault(
    settings: Settings, store: JobStore, monkeypatch: pytest.MonkeyPatch, error: redis.RedisError, status: int
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(JobStore, "page", refuse)
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        answer = client.get("/jobs")
    assert answer.status_code == status
    problem(answer, "unavailable" if status == 503 else "internal")


def test_a_broker_gone_is_reported_and_the_job_is_kept(settings: Settings, store: JobStore) -> None:
    without = settings.model_copy(update={"broker_url": "redis://127.0.0.1:1/0"})
    with TestClient(create_app(without)) as client:
        answer = client.post("/prune-sample", json=REQUEST)
        assert answer.status_code == 503
        problem(answer, "unavailable")
    assert [job.status for job in store.page().jobs] == ["queued"]


def test_an_unexpected_error_tells_nothing_of_the_inside(
    settings: Settings, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the inside")

    monkeypatch.setattr(JobStore, "page", broken)
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        answer = client.get("/jobs")
    assert answer.status_code == 500
    assert "the inside" not in str(problem(answer, "internal"))
    assert answer.headers["X-Request-ID"]


def test_every_type_of_problem_is_described_for_users() -> None:
    text = (Path(__file__).parents[2] / "docs" / "problems.md").read_text()
    described = set(re.findall(r"^## `([a-z-]+)`", text, re.MULTILINE))
    assert described == set(get_args(Slug)) == set(TYPES)
