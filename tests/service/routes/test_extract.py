"""`POST /extract`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from jobs.records import Job, JobView
from jobs.results import ExtractResult
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from service.app import create_app
from tests.service.results import VECTORS

REQUEST = {"model": "shapes-sit", "labels": [0, 1], "timesteps": [0.0, 0.5]}


def test_a_new_job_is_accepted_with_its_defaults_filled_in(client: TestClient) -> None:
    answer = client.post("/extract", json={"model": "shapes-sit"})
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/jobs/{job['id']}"
    assert (job["kind"], job["request"]["parts"], len(job["request"]["labels"])) == ("extract", ["c", "y", "t"], 100)


def test_a_finished_job_names_its_file_which_can_be_fetched(client: TestClient, done: Callable[[str], Job]) -> None:
    done(client.post("/extract", json=REQUEST).json()["id"])
    again = client.post("/extract", json=REQUEST)
    assert again.status_code == 200
    view = JobView.model_validate_json(again.content)
    assert isinstance(view.result, ExtractResult)
    assert client.get(view.links.artifacts[view.result.artifact]).content == VECTORS


@pytest.mark.usefixtures("worker")
def test_a_preferred_wait_is_answered_with_the_finished_job(client: TestClient) -> None:
    answer = client.post("/extract", json=REQUEST, headers={"Prefer": "wait=30"})
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
    assert answer.headers["Preference-Applied"] == "wait=30"


def test_an_idempotency_key_is_of_one_request_of_one_kind(client: TestClient) -> None:
    headers = {"Idempotency-Key": "mine"}
    first = client.post("/extract", json=REQUEST, headers=headers).json()
    assert client.post("/extract", json=REQUEST, headers=headers).json()["id"] == first["id"]
    other = client.post("/prune-sample", json={"model": "shapes-sit", "threshold": 1}, headers=headers)
    assert other.json()["type"] == "urn:tailprune:problem:idempotency-key-reused"


def test_it_waits_in_the_quick_queue(client: TestClient, store: JobStore) -> None:
    client.post("/extract", json=REQUEST)
    assert (store._queue.depth("metrics"), store._queue.depth("sampling")) == (1, 0)


def test_what_would_be_too_large_is_refused_at_the_request(settings: Settings, store: JobStore) -> None:
    with TestClient(create_app(settings.model_copy(update={"max_extract_bytes": 1000}))) as client:
        answer = client.post("/extract", json=REQUEST)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["location"] == "body.timesteps"
    assert store.page().jobs == []


def test_a_model_without_its_files_is_not_ready(client: TestClient) -> None:
    answer = client.post("/extract", json={"model": "absent-dit"})
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:tailprune:problem:model-not-ready")
