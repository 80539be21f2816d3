"""`POST /prune-sample`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from jobs.records import Job
from jobs.settings import Settings
from jobs.store.events import Events
from jobs.store.jobs import JobStore
from service.app import create_app
from tests.service.conftest import REQUEST


def test_a_new_job_is_accepted_and_says_where_it_is(client: TestClient) -> None:
    answer = client.post("/prune-sample", json=REQUEST)
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/jobs/{job['id']}"
    assert (job["status"], job["kind"], job["result"]) == ("queued", "prune-sample", None)
    assert job["request"]["threshold"] == [0.1]
    assert client.get(answer.headers["Location"]).json() == job


def test_twenty_posts_at_once_are_one_job(client: TestClient, store: JobStore) -> None:
    together = threading.Barrier(20)

    def post(_: int) -> str:
        together.wait()
        answer: dict[str, Any] = client.post("/prune-sample", json=REQUEST).json()
        return str(answer["id"])

    with ThreadPoolExecutor(20) as pool:
        ids = set(pool.map(post, range(20)))
    assert len(ids) == 1
    assert len(store.page().jobs) == 1


def test_a_finished_job_is_answered_from_cache(client: TestClient, done: Callable[[str], Job]) -> None:
    job = done(client.post("/prune-sample", json=REQUEST).json()["id"])
    again = client.post("/prune-sample", json=REQUEST)
    assert again.status_code == 200
    assert again.json()["id"] == job.id
    assert again.json()["result"]["grid"] == "grid.png"


def test_a_job_whose_artifacts_are_gone_is_made_anew(
    client: TestClient, done: Callable[[str], Job], settings: Settings
) -> None:
    job = done(client.post("/prune-sample", json=REQUEST).json()["id"])
    next(Path(settings.artifacts).rglob(job.artifacts["grid.png"].digest)).unlink()
    again = client.post("/prune-sample", json=REQUEST)
    assert again.status_code == 202
    assert again.json()["id"] != job.id


@pytest.mark.usefixtures("worker")
def test_a_preferred_wait_is_answered_with_the_finished_job(client: TestClient) -> None:
    answer = client.post("/prune-sample", json=REQUEST, headers={"Prefer": "respond-async, wait=30"})
    assert answer.status_code == 200
    assert answer.json()["status"] == "succeeded"
    assert answer.headers["Preference-Applied"] == "wait=30"


def test_a_wait_that_runs_out_is_answered_with_the_job_as_it_is(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    wait_finished = Events.wait_finished

    async def watched(self: Events, job_id: str, seconds: float) -> None:
        await wait_finished(self, job_id, seconds)
        waits.append(seconds)

    monkeypatch.setattr(Events, "wait_finished", watched)
    answer = client.post("/prune-sample", json=REQUEST, headers={"Prefer": "wait=1"})
    assert answer.status_code == 202
    assert (answer.json()["status"], waits) == ("queued", [1])
    assert answer.headers["Preference-Applied"] == "wait=1"


def test_a_long_wait_is_granted_up_to_the_limit(settings: Settings, store: JobStore) -> None:
    patient = settings.model_copy(update={"max_wait_seconds": 1.0})
    with TestClient(create_app(patient)) as client:
        answer = client.post("/prune-sample", json=REQUEST, headers={"Prefer": "wait=999999"})
    assert answer.headers["Preference-Applied"] == "wait=1"


@pytest.mark.parametrize("prefer", ["wait=soon", "wait", "wait=-1", "wait=1.5"])
def test_a_wait_that_is_no_number_of_seconds_is_refused(client: TestClient, prefer: str) -> None:
    answer = client.post("/prune-sample", json=REQUEST, headers={"Prefer": prefer})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["location"] == "header.prefer"


@pytest.mark.parametrize("prefer", ["", ";;,", "handling=strict", "\xff=\xff", "waiting=3"])
def test_preferences_of_other_names_are_left_aside(client: TestClient, prefer: str) -> None:
    headers = {"Prefer": prefer.encode("latin-1")}
    answer = client.post("/prune-sample", json=REQUEST, headers=headers)
    assert answer.status_code == 202
    assert "Preference-Applied" not in answer.headers


def test_an_idempotency_key_sent_again_is_the_same_job(client: TestClient) -> None:
    headers = {"Idempotency-Key": "mine"}
    first = client.post("/prune-sample", json=REQUEST, headers=headers).json()
    client.delete(f"/jobs/{first['id']}")
    again = client.post("/prune-sample", json=REQUEST, headers=headers)
    assert again.status_code == 200
    assert (again.json()["id"], again.json()["status"]) == (first["id"], "cancelled")


@pytest.mark.parametrize(
    "same",
    [
        {"threshold": [0.1]},
        {"fill": "zero", "side": "tail", "schedule": {"when": "every"}},
        {"labels": ["class 0", 11], "steps": 50, "seed": 0, "compare": True},
    ],
)
def test_an_idempotency_key_with_a_body_that_means_the_same_is_the_same_job(
    client: TestClient, same: dict[str, Any]
) -> None:
    headers = {"Idempotency-Key": "mine"}
    first = client.post("/prune-sample", json=REQUEST, headers=headers).json()
    again = client.post("/prune-sample", json=REQUEST | same, headers=headers)
    assert (again.status_code, again.json()["id"]) == (202, first["id"])


def test_an_idempotency_key_with_another_request_is_refused(client: TestClient) -> None:
    headers = {"Idempotency-Key": "mine"}
    client.post("/prune-sample", json=REQUEST, headers=headers)
    answer = client.post("/prune-sample", json=REQUEST | {"seed": 1}, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:tailprune:problem:idempotency-key-reused"


@pytest.mark.parametrize("key", ["", "a b", "x" * 256])
def test_an_idempotency_key_that_cannot_be_kept_is_refused(client: TestClient, key: str) -> None:
    answer = client.post("/prune-sample", json=REQUEST, headers={"Idempotency-Key": key})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["location"] == "header.Idempotency-Key"
