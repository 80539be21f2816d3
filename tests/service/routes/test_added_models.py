"""`POST /models`: what is refused at once, and what an added model is to the other routes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from fastapi.testclient import TestClient

from jobs.records import Job
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from service.app import create_app
from tests.registry import extend

REQUEST = {"name": "mine", "source": "a.pt"}


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """A folder of checkpoints, a folder without weights in it, and a decoder."""
    home = tmp_path / "checkpoints"
    for name in ("a.pt", "b.pt", "empty/readme.md", "vae/config.json", "vae/diffusion_pytorch_model.safetensors"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(b"{}")
    (tmp_path / "secret.pt").write_bytes(b"secret")
    (home / "out.pt").symlink_to(tmp_path / "secret.pt")
    extend(settings.registry, {"references": {"shapes": {"dataset": "shapes"}}})
    return settings.model_copy(update={"model_folders": str(home)})


@pytest.fixture
def add(client: TestClient, done: Callable[[str], Job]) -> Callable[..., dict[str, Any]]:
    """Adds a model, with a worker's help; the finished job."""

    def add(**body: Any) -> dict[str, Any]:
        answer = client.post("/models", json=REQUEST | body)
        assert answer.status_code == 202, answer.text
        done(answer.json()["id"])
        return dict(client.get(answer.headers["Location"]).json())

    return add


@pytest.mark.parametrize(
    ("body", "location", "why"),
    [
        ({"name": "A"}, "name", "should match pattern"),
        ({"name": "a/b"}, "name", "should match pattern"),
        ({"name": ""}, "name", "at least 1 character"),
        ({"name": "a" * 101}, "name", "at most 100 characters"),
        ({"name": "mine\n"}, "name", "should match pattern"),
        ({"name": "a-compact-0123456789abcdef"}, "name", "those of compacted models"),
        ({"source": "../secret.pt"}, "source", "must not have '..'"),
        ({"source": "/etc/passwd"}, "source", "is in none of the folders that TAILPRUNE_MODEL_FOLDERS names"),
        ({"source": "out.pt"}, "source", "leads out of the folders"),
        ({"source": "none.pt"}, "source", "none.pt does not exist"),
        ({"source": "empty"}, "source", "empty lacks model.safetensors"),
        ({"source": "a\0b"}, "source", "should match pattern"),
        ({"source": "."}, "source", ". lacks model.safetensors"),
        ({"source": "x" * 5000}, "source", "at most 4096 characters"),
        ({"source": "/" + "x/" * 2000}, "source", "is in none of the folders"),
        ({"source": "x/" * 2000}, "source", "does not exist in the folders"),
        ({"source": "hf://owner"}, "source", "does not have the form hf://owner/repo/file"),
        ({"source": 7}, "source", "valid string"),
        ({"family": "unet"}, "family", "'dit', 'sit'"),
        ({"family": "x-mdpt", "classes": 3}, "classes", "x-mdpt takes pose, image, latents, not labels"),
        ({"classes": 2, "class_names": ["one"]}, "class_names", "there are 1 names for 2 classes"),
        ({"class_names": ["one\ntwo"]}, "class_names.0", "should match pattern"),
        ({"decoder_source": "vae"}, "decoder_source", "decoder 'latents' needs no files"),
        ({"decoder": "sd-vae"}, "decoder_source", "decoder 'sd-vae' needs its file or folder"),
        ({"decoder": "sd-vae", "decoder_source": "empty"}, "decoder_source", "empty lacks config.json"),
        ({"decoder": "sd-vae", "decoder_source": "../vae"}, "decoder_source", "must not have '..'"),
        ({"decoder": "va-vae", "decoder_source": "b.pt"}, "decoder_statistics", "needs the file with mean"),
        (
            {"decoder": "va-vae", "decoder_source": "b.pt", "decoder_statistics": "vae"},
            "decoder_statistics",
            "it is a folder",
        ),
        (
            {"decoder": "sd-vae", "decoder_source": "vae", "decoder_statistics": "b.pt"},
            "decoder_statistics",
            "takes no statistics",
        ),
        (
            {"decoder": "audioldm", "decoder_source": "b.pt", "family": "dit"},
            "decoder",
            "decodes the latents of mdsgen",
        ),
        ({"reference": "photos"}, "reference", "no reference 'photos' is registered; known references: shapes"),
        ({"prompt": "no braces"}, "prompt", "should match pattern"),
        ({"key": "ema\0"}, "key", "should match pattern"),
        ({"novelty": 1}, "novelty", "Extra inputs are not permitted"),
    ],
)
def test_what_can_be_refused_without_the_checkpoint_is_refused_at_once(
    client: TestClient, store: JobStore, body: dict[str, Any], location: str, why: str
) -> None:
    answer = client.post("/models", json=REQUEST | body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["type"] == "urn:tailprune:problem:invalid-request"
    found = {fault["location"]: fault["message"] for fault in answer.json()["errors"]}
    assert why in found[f"body.{location}"], found
    assert store.page().jobs == []


def test_without_a_folder_only_the_hub_remains_and_the_setting_is_named(
    settings: Settings, redis_client: redis.Redis
) -> None:
    with TestClient(create_app(settings.model_copy(update={"model_folders": ""}))) as client:
        refused = client.post("/models", json=REQUEST)
        assert (refused.status_code, refused.json()["errors"][0]["location"]) == (422, "body.source")
        assert "set TAILPRUNE_MODEL_FOLDERS" in refused.json()["errors"][0]["message"]
        assert client.post("/models", json=REQUEST | {"source": "hf://owner/repo/a.pt"}).status_code == 202


def test_the_request_has_the_absolute_paths_and_relative_ones_are_the_same_job(
    client: TestClient, settings: Settings
) -> None:
    path = f"{settings.model_folders}/a.pt"
    first = client.post("/models", json=REQUEST).json()
    assert (first["kind"], first["title"], first["request"]["source"]) == ("register", "register mine", path)
    assert client.post("/models", json=REQUEST | {"source": path}).json()["id"] == first["id"]


@pytest.mark.parametrize("name", ["shapes-sit", "absent-dit"])
def test_a_name_of_the_registrys_file_is_taken(client: TestClient, name: str) -> None:
    answer = client.post("/models", json=REQUEST | {"name": name})
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:tailprune:problem:model-exists")
    assert f"there is a model '{name}' already" in answer.json()["detail"]


def test_an_added_model_is_listed_and_described_and_its_name_is_taken(
    client: TestClient, add: Callable[..., dict[str, Any]]
) -> None:
    job = add()
    assert job["result"]["model"]["name"] == "mine"
    summary = client.get("/models").json()["models"][-1]
    assert (summary["name"], summary["ready"], summary["compacted"]) == ("mine", True, None)
    page = client.get("/models/mine").json()
    assert summary.items() <= page.items()
    assert page["added"] is not None
    assert page["source"] == "added by POST /models"
    assert client.get("/models/shapes-sit").json()["added"] is None
    assert client.post("/models", json=REQUEST | {"source": "b.pt"}).status_code == 409


def test_the_same_request_again_is_the_same_job_until_the_model_is_deleted(
    client: TestClient, add: Callable[..., dict[str, Any]]
) -> None:
    first = add()
    again = client.post("/models", json=REQUEST)
    assert (again.status_code, again.json()["id"]) == (200, first["id"])
    assert client.delete("/models/mine").status_code == 204
    assert client.delete("/models/mine").status_code == 404
    anew = client.post("/models", json=REQUEST)
    assert (anew.status_code, anew.json()["status"]) == (202, "queued")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/prune-sample", {"threshold": 0.1}),
        ("/compact", {"keep": 4}),
        ("/extract", {}),
        ("/studies", {"grid": {"thresholds": [0.1]}, "measures": ["drift"]}),
    ],
)
def test_every_kind_of_job_takes_an_added_model(
    client: TestClient, add: Callable[..., dict[str, Any]], path: str, body: dict[str, Any]
) -> None:
    add()
    answer = client.post(path, json={"model": "mine", **body})
    assert answer.status_code == 202, answer.text


def test_answers_about_an_added_model_are_not_kept_beyond_it(
    client: TestClient, add: Callable[..., dict[str, Any]], done: Callable[[str], Job]
) -> None:
    add()
    asked = client.get("/metrics/mine", headers={"Prefer": "wait=0"})
    done(asked.json()["id"])
    assert client.get("/metrics/mine").status_code == 200
    client.delete("/models/mine")
    assert client.get("/metrics/mine").status_code == 404


def test_a_deleted_file_is_named_and_other_requests_go_on(
    client: TestClient, add: Callable[..., dict[str, Any]], settings: Settings
) -> None:
    add()
    Path(settings.model_folders, "a.pt").unlink()
    page = client.get("/models/mine").json()
    assert (page["ready"], page["missing"]) == (False, ["a.pt"])
    answer = client.post("/prune-sample", json={"model": "mine", "threshold": 0.1})
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:tailprune:problem:model-not-ready")
    assert "model 'mine' lacks a.pt: put it back under" in answer.json()["detail"]
    assert client.get("/models").status_code == 200


def test_an_idempotency_key_finds_the_job_again(client: TestClient, add: Callable[..., dict[str, Any]]) -> None:
    headers = {"Idempotency-Key": "one"}
    first = client.post("/models", json=REQUEST, headers=headers).json()
    assert client.post("/models", json=REQUEST, headers=headers).json()["id"] == first["id"]
    other = client.post("/models", json=REQUEST | {"title": "Mine"}, headers=headers)
    assert other.json()["type"].endswith("idempotency-key-reused")
