"""`/events`: all jobs over one connection."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from jobs.records import JobSummary
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from jobs.store.leases import Claim, LeaseStore
from service.app import create_app
from tests.redis_process import RedisProcess
from tests.registry import write_registry
from tests.service.conftest import REQUEST
from tests.service.results import finish
from tests.service.server import Server, running_service

Told = tuple[str, dict[str, Any]]


@pytest.fixture(scope="module")
def settings(redis_server: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings that the tests share."""
    redis_server.empty()
    folder = tmp_path_factory.mktemp("events")
    return Settings(
        redis_url=redis_server.url,
        data_dir=folder / "data",
        registry=write_registry(folder / "models"),
        allowed_hosts="testserver",
    )


@pytest.fixture(scope="module")
def service(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service in a process of its own: a stream that does not end cannot be read through a TestClient.

    The last test that requests it stops it.
    """
    with running_service(settings, tmp_path_factory.mktemp("service")) as server:
        yield server


def told(lines: Iterator[str]) -> Iterator[Told]:
    """Name and data of each event of a stream."""
    name = ""
    for line in lines:
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)
        assert field != "id"


def test_a_job_is_told_from_its_making_to_its_deletion(
    service: Server, store: JobStore, leases: LeaseStore, claim: Callable[[str], Claim]
) -> None:
    with (
        httpx.Client(base_url=service.url, trust_env=False, timeout=60) as http,
        http.stream("GET", "/events") as stream,
    ):
        events = told(stream.iter_lines())
        assert next(events) == ("open", {})
        assert http.get("/jobs").json()["jobs"] == []
        job_id = http.post("/prune-sample", json=REQUEST).json()["id"]
        (listed,) = http.get("/jobs").json()["jobs"]
        assert next(events) == ("job", listed)
        JobSummary.model_validate(listed)
        assert (listed["status"], listed["queue_position"], listed["thresholds"]) == ("queued", 1, [0.1])
        held = claim(job_id)
        (listed,) = http.get("/jobs").json()["jobs"]
        assert next(events) == ("job", listed)
        finish(store, leases, held)
        (listed,) = http.get("/jobs").json()["jobs"]
        rest = [next(events) for _ in range(3)]
        assert [(name, data["progress"]["done"]) for name, data in rest[:2]] == [("progress", 1), ("progress", 2)]
        assert rest[0][1]["id"] == job_id
        assert rest[2] == ("job", listed)
        assert http.delete(f"/jobs/{job_id}?purge=true").status_code == 204
        assert next(events) == ("deleted", {"id": job_id})


def test_head_of_the_stream_does_not_hold_it(service: Server) -> None:
    with httpx.Client(trust_env=False) as http:
        for _ in range(3):  # on one connection, which each answer leaves usable
            head = http.head(f"{service.url}/events")
            assert (head.status_code, head.content) == (200, b"")
    assert "Traceback" not in service.log.read_text()


def test_the_stream_ends_when_the_service_stops(service: Server) -> None:
    with httpx.stream("GET", f"{service.url}/events", timeout=90, trust_env=False) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: open"
        service.stop()
        assert [line for line in lines if line][:1] == ["data: {}"]  # and ends as it should: no error


def test_the_stream_ends_after_the_seconds_that_are_asked_for(client: TestClient) -> None:
    answer = client.get("/events?seconds=0.1")
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert list(told(iter(answer.text.splitlines()))) == [("open", {})]


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan", "inf", "86401"])
def test_seconds_are_a_number_above_0(client: TestClient, seconds: str) -> None:
    answer = client.get("/events", params={"seconds": seconds})
    assert (answer.status_code, answer.json()["errors"][0]["location"]) == (422, "query.seconds")


def test_who_follows_all_jobs_counts_toward_the_most_who_follow(settings: Settings, store: JobStore) -> None:
    with TestClient(create_app(settings.model_copy(update={"max_followers": 0}))) as client:
        answer = client.get("/events")
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:tailprune:problem:unavailable")
        assert int(answer.headers["Retry-After"]) > 0


def test_links_begin_with_the_prefix_of_a_proxy(settings: Settings, store: JobStore) -> None:
    with TestClient(create_app(settings.model_copy(update={"root_path": "/tailprune"}))) as client:
        posted = threading.Timer(0.3, lambda: client.post("/tailprune/prune-sample", json=REQUEST))
        posted.start()
        answer = client.get("/tailprune/events?seconds=2")
        posted.join()
        _, (_, job), *_ = told(iter(answer.text.splitlines()))
        assert job["links"]["self"] == f"/tailprune/jobs/{job['id']}"
