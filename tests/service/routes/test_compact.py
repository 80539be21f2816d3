"""`POST /compact`, the models it makes, and `DELETE /models/{model}`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from jobs.records import Job, JobView
from jobs.registry.compacted import KEY, CompactedStore
from jobs.results import CompactResult
from jobs.settings import Settings
from jobs.storage.artifacts import ArtifactsUnavailable
from jobs.storage.files import LocalFiles
from jobs.store.jobs import JobStore
from jobs.store.leases import Claim, LeaseStore
from service.app import create_app
from tests.service.results import finish

REQUEST = {"model": "shapes-sit", "keep": 3, "fill": "zero"}
WITH_MEAN = {"model": "shapes-sit", "keep": 3, "fill": "mean"}


@pytest.fixture
def made(client: TestClient, done: Callable[[str], Job]) -> Callable[..., str]:
    """Makes a compacted model; its name."""

    def made(**body: Any) -> str:
        job = done(client.post("/compact", json=body or REQUEST).json()["id"])
        assert job.result is not None
        name: str = job.result["compacted"]["name"]
        return name

    return made


def test_a_new_job_is_accepted_with_its_defaults_filled_in(client: TestClient, store: JobStore) -> None:
    answer = client.post("/compact", json={"model": "shapes-sit", "keep": 3})
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/jobs/{job['id']}"
    assert (job["kind"], job["request"]["by"], job["request"]["steps"]) == ("compact", "variance", 50)
    assert job["request"]["labels"] is None
    assert (store._queue.depth("metrics"), store._queue.depth("sampling")) == (0, 1)


def test_the_same_request_is_the_same_job_and_the_same_model(client: TestClient, done: Callable[[str], Job]) -> None:
    first = client.post("/compact", json=REQUEST).json()
    assert client.post("/compact", json=REQUEST | {"by": "variance"}).json()["id"] == first["id"]
    done(first["id"])
    again = client.post("/compact", json=REQUEST)
    assert (again.status_code, again.json()["id"]) == (200, first["id"])
    assert len(client.get("/models").json()["models"]) == 3


def test_a_finished_job_names_its_model_and_its_files(client: TestClient, done: Callable[[str], Job]) -> None:
    job = done(client.post("/compact", json=REQUEST).json()["id"])
    view = JobView.model_validate_json(client.get(f"/jobs/{job.id}").content)
    assert isinstance(view.result, CompactResult)
    assert view.result.compacted.name == f"shapes-sit-compact-{job.key[:16]}"
    assert client.get(view.links.artifacts[view.result.checkpoint]).content == b"smaller weights"
    card = client.get(view.links.artifacts[view.result.card])
    assert card.headers["Content-Type"] == "text/markdown; charset=utf-8"


def test_the_model_is_listed_and_says_what_it_was_made_of(client: TestClient, made: Callable[..., str]) -> None:
    name = made()
    listed = client.get("/models").json()["models"]
    assert [(model["name"], model["compacted"] is not None) for model in listed] == [
        ("shapes-sit", False),
        ("absent-dit", False),
        (name, True),
    ]
    model = client.get(f"/models/{name}").json()
    assert (model["ready"], model["parameters"], model["classes"]) == (True, 700, 100)
    assert model["compacted"].pop("created").endswith("Z")
    assert model["compacted"] == {
        "model": "shapes-sit",
        "model_digest": "d",
        "by": "variance",
        "fill": "zero",
        "components": 128,
        "kept": 3,
        "time_columns": 0,
    }


def test_the_model_is_sampled_without_a_prune_and_pruned_with_one(client: TestClient, made: Callable[..., str]) -> None:
    name = made()
    for prune in ({}, {"threshold": 0.1}):
        answer = client.post("/prune-sample", json={"model": name, **prune})
        assert (answer.status_code, answer.json()["request"]["model"]) == (202, name)
    assert client.get(f"/metrics/{name}", headers={"Prefer": "wait=0"}).status_code == 202
    assert client.post("/extract", json={"model": name}).status_code == 202


def test_a_model_with_a_mean_refuses_prunes_and_names_the_one_to_prune(
    client: TestClient, made: Callable[..., str]
) -> None:
    name = made(**WITH_MEAN)
    answers = {
        "body.threshold": client.post("/prune-sample", json={"model": name, "threshold": 0.1}),
        "body.search": client.post("/studies", json={"model": name, "search": {"measure": "drift", "budget": 0.1}}),
        "path.figure": client.get(f"/metrics/{name}/figures/removal"),
    }
    for location, answer in answers.items():
        (fault,) = answer.json()["errors"]
        assert (answer.status_code, fault["location"]) == (422, location)
        assert fault["message"].endswith("prune shapes-sit, from which it was made")
    assert client.post("/prune-sample", json={"model": name}).status_code == 202


def test_another_model_is_not_sampled_without_a_prune(client: TestClient) -> None:
    answer = client.post("/prune-sample", json={"model": "shapes-sit"})
    assert answer.status_code == 422
    message = "give exactly one of threshold, threshold_by_step, remove_fraction, keep, keep_fraction"
    assert answer.json()["errors"] == [{"location": "body", "message": message}]


def test_what_it_samples_is_another_job_than_what_its_own_model_samples(
    client: TestClient, made: Callable[..., str], store: JobStore
) -> None:
    jobs = [
        client.post("/prune-sample", json={"model": name, "threshold": 0.1}).json()["id"]
        for name in ("shapes-sit", made())
    ]
    assert len({store.get(job).key for job in jobs}) == 2


@pytest.mark.parametrize(
    ("body", "location"),
    [
        ({"keep": 129}, "body.keep"),
        ({"keep": 3, "threshold": 0.1}, "body"),
        ({"keep": 3, "by": "directions", "fill": "zero"}, "body"),
        ({"threshold": 0}, "body.threshold"),
        ({"keep": 3, "timesteps": [2.0]}, "body.timesteps.0"),
        ({"keep": 3, "sampler": "dopri5"}, "body.sampler"),
        ({"keep": 3, "labels": [100]}, "body.labels.0"),
    ],
)
def test_what_is_wrong_is_reported_at_the_request(
    client: TestClient, store: JobStore, body: dict[str, Any], location: str
) -> None:
    answer = client.post("/compact", json={"model": "shapes-sit", **body})
    assert answer.status_code == 422
    assert [fault["location"] for fault in answer.json()["errors"]] == [location]
    assert store.page().jobs == []


def test_a_compacted_model_is_not_compacted_again(client: TestClient, made: Callable[..., str]) -> None:
    answer = client.post("/compact", json={"model": made(), "keep": 2})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["message"].endswith("is compacted already; compact shapes-sit")


@pytest.mark.parametrize(
    ("model", "status", "slug"), [("nobody", 404, "unknown-model"), ("absent-dit", 409, "model-not-ready")]
)
def test_a_model_that_is_not_there_cannot_be_compacted(client: TestClient, model: str, status: int, slug: str) -> None:
    answer = client.post("/compact", json={"model": model, "keep": 3})
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:tailprune:problem:{slug}")


def test_a_model_whose_checkpoint_was_deleted_is_not_ready_until_it_is_made_anew(
    client: TestClient, made: Callable[..., str], settings: Settings, done: Callable[[str], Job], store: JobStore
) -> None:
    name = made()
    (found,) = store.page(kind="compact").jobs
    digest = store.get(found.id).artifacts["model.safetensors"].digest
    next(Path(settings.artifacts).rglob(digest)).unlink()
    answer = client.post("/prune-sample", json={"model": name})
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:tailprune:problem:model-not-ready")
    assert "repeat the POST /compact" in answer.json()["detail"]
    assert made() == name
    assert client.post("/prune-sample", json={"model": name}).status_code == 202


def test_models_are_listed_while_the_store_of_artifacts_is_away(
    client: TestClient, made: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = made()

    def away(*_: Any) -> None:
        raise ArtifactsUnavailable("the store is away")

    monkeypatch.setattr(LocalFiles, "state", away)
    answer = client.get("/models")
    assert answer.status_code == 200
    assert {model["name"]: model["ready"] for model in answer.json()["models"]}[name] is False


def test_statistics_of_a_compacted_model_are_not_kept_in_memory(
    client: TestClient, made: Callable[..., str], done: Callable[[str], Job], store: JobStore
) -> None:
    name = made()
    done(client.get(f"/metrics/{name}", headers={"Prefer": "wait=0"}).json()["id"])
    assert client.get(f"/metrics/{name}").status_code == 200
    store._redis.hdel(KEY, name)
    assert client.get(f"/metrics/{name}").status_code == 404


def test_a_model_whose_own_model_left_the_registry_is_unknown_and_says_why(
    made: Callable[..., str], settings: Settings
) -> None:
    name = made()
    text = settings.registry.read_text()
    settings.registry.write_text(re.sub(r"models\.shapes-sit\b", "models.renamed", text))
    with TestClient(create_app(settings)) as client:
        answer = client.post("/prune-sample", json={"model": name})
        assert name not in [model["name"] for model in client.get("/models").json()["models"]]
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:tailprune:problem:unknown-model")
    assert "that model is no longer registered" in answer.json()["detail"]


def test_a_deleted_model_is_listed_and_served_no_more_by_any_process(
    client: TestClient, made: Callable[..., str], settings: Settings, done: Callable[[str], Job]
) -> None:
    name = made()
    with TestClient(create_app(settings)) as other:
        done(client.get(f"/metrics/{name}", headers={"Prefer": "wait=0"}).json()["id"])
        for each in (client, other):
            assert each.get(f"/metrics/{name}").status_code == 200
        answer = client.delete(f"/models/{name}")
        assert (answer.status_code, answer.content) == (204, b"")
        for each in (client, other):
            assert name not in [model["name"] for model in each.get("/models").json()["models"]]
            for refused in (
                each.get(f"/models/{name}"),
                each.get(f"/metrics/{name}"),
                each.post("/prune-sample", json={"model": name}),
                each.delete(f"/models/{name}"),
            ):
                assert (refused.status_code, refused.json()["type"]) == (404, "urn:tailprune:problem:unknown-model")


def test_the_artifacts_of_a_deleted_models_job_stay_and_other_models_of_the_same_bytes_too(
    client: TestClient, made: Callable[..., str], store: JobStore
) -> None:
    name, other = made(), made(**WITH_MEAN)
    job = store.get(store.page(kind="compact").jobs[-1].id)
    client.delete(f"/models/{name}")
    assert name.endswith(job.key[:16])
    assert client.get(f"/jobs/{job.id}/artifacts/model.safetensors").content == b"smaller weights"
    assert client.get(f"/models/{other}").json()["ready"]


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "once"}], ids=str)
def test_the_same_request_after_a_deletion_makes_the_model_again(
    client: TestClient, done: Callable[[str], Job], headers: dict[str, str]
) -> None:
    def ask() -> tuple[int, str]:
        answer = client.post("/compact", json=REQUEST, headers=headers)
        return answer.status_code, answer.json()["id"]

    _, first = ask()
    name = JobView.model_validate(done(first).public()).result.compacted.name  # type: ignore[union-attr]
    client.delete(f"/models/{name}")
    status, second = ask()
    assert (status, second != first) == (202, True)
    assert ask() == (202, second)
    assert client.get(f"/models/{name}").status_code == 404
    done(second)
    assert client.get(f"/models/{name}").json()["ready"]
    assert ask() == (200, second)


def test_a_job_whose_model_was_deleted_before_it_had_finished_answers_no_later_request(
    client: TestClient,
    store: JobStore,
    leases: LeaseStore,
    claim: Callable[[str], Claim],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = claim(client.post("/compact", json=REQUEST).json()["id"])
    made, succeed = CompactedStore(store._redis), leases.succeed

    def meanwhile(*result: Any) -> bool:
        (name,) = made.all()
        assert client.delete(f"/models/{name}").status_code == 204
        assert client.post("/compact", json=REQUEST).json()["id"] == held.job.id  # which is under way
        return succeed(*result)

    monkeypatch.setattr(leases, "succeed", meanwhile)
    finish(store, leases, held)
    assert client.get(f"/jobs/{held.job.id}").json()["status"] == "succeeded"
    answer = client.post("/compact", json=REQUEST)
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert answer.json()["id"] != held.job.id


def test_a_registered_model_is_not_deleted_and_the_answer_says_where_it_is_taken_out(client: TestClient) -> None:
    for model in ("shapes-sit", "absent-dit"):
        answer = client.delete(f"/models/{model}")
        assert (answer.status_code, answer.json()["type"]) == (409, "urn:tailprune:problem:model-registered")
        assert "remove its entry from the registry's file" in answer.json()["detail"]
        assert client.get(f"/models/{model}").status_code == 200


def test_what_is_no_model_cannot_be_deleted(client: TestClient) -> None:
    answer = client.delete("/models/nobody")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:tailprune:problem:unknown-model")
    assert "known models: shapes-sit, absent-dit" in answer.json()["detail"]


def test_a_model_whose_own_model_left_the_registry_can_be_deleted(made: Callable[..., str], settings: Settings) -> None:
    name = made()
    text = settings.registry.read_text()
    settings.registry.write_text(re.sub(r"models\.shapes-sit\b", "models.renamed", text))
    with TestClient(create_app(settings)) as client:
        assert [client.delete(f"/models/{name}").status_code for _ in range(2)] == [204, 404]
