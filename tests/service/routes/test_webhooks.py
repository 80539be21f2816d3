"""The webhook of a request: checked at once, no part of the job, and shown in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from jobs.records import Job
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from tests.service.conftest import application
from tests.service.keys import bearer, make_keys

REQUEST: dict[str, Any] = {"model": "shapes-sit", "threshold": 0.1}
HOOK = {"webhook": "https://hooks.example.com/tailprune?token=hidden"}


@pytest.fixture
def keys(settings: Settings) -> dict[str, dict[str, str]]:
    """Keys are in use: their headers by name."""
    made = make_keys(settings, ana="submit", bob="submit", eve="read", boss="admin")
    return {name: bearer(key) for name, key in made.items()}


@pytest.fixture
def client(settings: Settings, store: JobStore) -> Iterator[TestClient]:
    """A client of a service that may call one host. Keys are in use where a test has them before."""
    with TestClient(application(settings.model_copy(update={"webhook_hosts": "hooks.example.com"}))) as client:
        yield client


def faults(client: TestClient, body: dict[str, Any]) -> dict[str, str]:
    answer = client.post("/prune-sample", json=body)
    assert answer.status_code == 422, answer.text
    return {fault["location"]: fault["message"] for fault in answer.json()["errors"]}


def test_a_webhook_is_no_part_of_the_job(client: TestClient, done: Callable[[str], Job]) -> None:
    first = client.post("/prune-sample", json=REQUEST | HOOK, headers={"Idempotency-Key": "mine"}).json()
    again = client.post("/prune-sample", json=REQUEST, headers={"Idempotency-Key": "mine"}).json()
    other = client.post("/prune-sample", json=REQUEST | {"webhook": "https://hooks.example.com/other"}).json()
    assert first["id"] == again["id"] == other["id"]
    assert not {"webhook", "webhook_events"} & first["request"].keys()
    assert done(first["id"]).status == "succeeded"
    found = client.get(f"/jobs/{first['id']}").json()["webhooks"]
    assert [(each["url"], each["event"], each["state"]) for each in found] == [
        ("https://hooks.example.com/tailprune", "succeeded", "pending"),
        ("https://hooks.example.com/other", "succeeded", "pending"),
    ]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/prune-sample", REQUEST),
        ("/studies", {"model": "shapes-sit", "prunes": [{"threshold": 0.1}], "measures": ["drift"]}),
        ("/compact", {"model": "shapes-sit", "keep": 24}),
        ("/extract", {"model": "shapes-sit"}),
    ],
)
def test_every_request_that_starts_a_job_takes_one(client: TestClient, path: str, body: dict[str, Any]) -> None:
    events = {"webhook_events": ["started", "failed"]}
    answer = client.post(path, json=body | HOOK | events)
    assert answer.status_code == 202, answer.text
    assert [each["event"] for each in answer.json()["webhooks"]] == ["started", "failed"]
    assert "hidden" not in answer.text


def test_a_url_that_may_not_be_called_is_refused_before_anything_else(client: TestClient, store: JobStore) -> None:
    (message,) = faults(client, REQUEST | {"webhook": "https://169.254.169.254/?token=hidden"}).values()
    assert "not among the hosts that may be called" in message
    assert "hidden" not in message
    assert store.page().jobs == []


@pytest.mark.parametrize(
    ("fields", "location"),
    [
        ({"webhook_events": ["failed"]}, "body"),
        (HOOK | {"webhook_events": []}, "body.webhook_events"),
        (HOOK | {"webhook_events": ["queued"]}, "body.webhook_events.0"),
        ({"webhook": ""}, "body.webhook"),
        ({"webhook": 7}, "body.webhook"),
        ({"webhook": "https://hooks.example.com/" + "a" * 2000}, "body.webhook"),
    ],
)
def test_fields_that_make_no_webhook_are_refused(client: TestClient, fields: dict[str, Any], location: str) -> None:
    assert faults(client, REQUEST | fields).keys() == {location}


def test_a_key_sees_its_own_webhooks_and_an_admin_all(keys: dict[str, dict[str, str]], client: TestClient) -> None:
    def seen(answer: Response) -> set[str]:
        assert answer.is_success, answer.text
        return {each["url"].rpartition("/")[2] for each in answer.json()["webhooks"]}

    urls = {name: f"https://hooks.example.com/{name}" for name in ("ana", "bob")}
    for name, url in urls.items():
        answer = client.post("/prune-sample", json=REQUEST | {"webhook": url}, headers=keys[name])
        assert seen(answer) == {name}, "nor does the answer to a request that joins a job show more"
    path = f"/jobs/{answer.json()['id']}"
    asked = {name: seen(client.get(path, headers=header)) for name, header in keys.items()}
    assert asked == {"ana": {"ana"}, "bob": {"bob"}, "eve": set(), "boss": {"ana", "bob"}}
    assert seen(client.delete(path, headers=keys["ana"])) == set(), "it goes on without her, and her webhook is gone"
    assert seen(client.get(path, headers=keys["boss"])) == {"bob"}


def test_neither_lists_nor_events_show_webhooks(
    keys: dict[str, dict[str, str]], client: TestClient, done: Callable[[str], Job]
) -> None:
    job_id = client.post("/prune-sample", json=REQUEST | HOOK, headers=keys["ana"]).json()["id"]
    done(job_id)
    for path in ("/jobs", f"/jobs/{job_id}/events"):
        answer = client.get(path, headers=keys["boss"])
        assert answer.is_success
        assert "succeeded" in answer.text
        assert "hooks.example.com" not in answer.text
