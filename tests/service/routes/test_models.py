"""`GET /models` and `GET /models/{model}`: what may be asked of a model, and what it lacks."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from jobs.registry.digests import identify
from jobs.registry.models import Registry
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from service.app import create_app
from tailprune.spec.families import FAMILIES
from tests.hub import write_cached
from tests.registry import extend

MODELS: dict[str, Any] = {
    "person": {
        "family": "x-mdpt",
        "checkpoint": "person.pt",
        "condition_dim": 384,
        "decoder": "sd-vae",
        "decoder_source": "hf://owner/vae",
        "obtain": "ask the authors for person.pt",
    },
    "sound": {
        "family": "mdsgen",
        "checkpoint": "hf://owner/sound/sound.pt",
        "condition_dim": 768,
        "decoder": "audioldm",
        "decoder_source": "audioldm",
    },
}


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """Settings with two models more, which take conditions; nothing is in the cache of the hub."""
    extend(settings.registry, {"models": MODELS})
    return settings.model_copy(update={"hub_cache": tmp_path / "hub"})


def listed(client: TestClient, name: str) -> dict[str, Any]:
    """A model as the list has it, once it is sure that the model's own page says the same of it."""
    (summary,) = [model for model in client.get("/models").json()["models"] if model["name"] == name]
    page = client.get(summary["links"]["self"]).json()
    assert summary.items() <= page.items()
    return summary


def test_a_model_whose_files_are_there_is_ready(client: TestClient) -> None:
    model = listed(client, "shapes-sit")
    assert (model["ready"], model["missing"], model["obtain"]) == (True, [], None)


def test_a_model_whose_files_are_missing_says_which_and_how_to_have_them(client: TestClient) -> None:
    model = listed(client, "person")
    assert (model["ready"], model["missing"]) == (False, ["person.pt"])
    assert model["obtain"] == "ask the authors for person.pt"


def test_a_model_says_what_one_job_of_it_may_ask_for(client: TestClient, settings: Settings) -> None:
    limits = client.get("/models/shapes-sit").json()["limits"]
    assert limits == {
        "samples": settings.max_samples, "variants": settings.max_variants, "steps": settings.max_steps,
        "study_samples": settings.max_study_samples, "study_variants": settings.max_study_variants,
    }  # fmt: skip


def test_a_model_that_takes_conditions_names_them_in_the_list(client: TestClient) -> None:
    assert listed(client, "shapes-sit")["conditions"] == {}
    assert listed(client, "person")["conditions"]


def test_a_model_on_the_hub_is_ready_once_it_was_fetched(client: TestClient, tmp_path: Path) -> None:
    before = listed(client, "sound")
    assert (before["ready"], before["missing"]) == (False, ["hf://owner/sound/sound.pt"])
    write_cached(tmp_path / "hub", "owner/sound", {"sound.pt": b"weights"})
    after = listed(client, "sound")
    assert (after["ready"], after["missing"]) == (True, [])


@pytest.mark.parametrize(
    ("name", "decoder"),
    [
        ("shapes-sit", {"name": "pixels", "ready": True, "missing": []}),
        ("person", {"name": "sd-vae", "ready": False, "missing": ["hf://owner/vae"]}),
        ("sound", {"name": "audioldm", "ready": False, "missing": ["audioldm"]}),
    ],
)
def test_a_model_says_what_shows_its_samples_and_what_that_lacks(
    client: TestClient, name: str, decoder: dict[str, Any]
) -> None:
    assert listed(client, name)["decoder"] == decoder


def test_a_decoder_is_ready_once_its_files_are_there(client: TestClient, settings: Settings, tmp_path: Path) -> None:
    weights = "diffusion_pytorch_model.safetensors"
    write_cached(tmp_path / "hub", "owner/vae", {"config.json": b"{}", weights: b"weights"})
    for name in ("vae/config.json", f"vae/{weights}", "vocoder/config.json", "vocoder/model.safetensors"):
        file = settings.registry.parent / "audioldm" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"{}")
    for name in ("person", "sound"):
        assert listed(client, name)["decoder"]["ready"]


def test_a_model_whose_files_are_missing_has_no_digest(client: TestClient) -> None:
    model = client.get("/models/person").json()
    assert (model["digest"], model["condition_digest"]) == (None, None)


def test_a_model_on_the_hub_has_the_digest_of_its_file(client: TestClient, tmp_path: Path) -> None:
    write_cached(tmp_path / "hub", "owner/sound", {"sound.pt": b"weights"})
    model = client.get("/models/sound").json()
    assert model["digest"] == model["condition_digest"] == hashlib.sha256(b"weights").hexdigest()


@pytest.mark.parametrize(
    ("layout", "tells_apart"), [("model.safetensors", True), ("diffusion_pytorch_model.safetensors", False)]
)
def test_a_model_in_a_folder_has_the_digests_that_its_results_have(
    client: TestClient, settings: Settings, layout: str, tells_apart: bool
) -> None:
    folder = settings.registry.parent / "absent-dit" / "model.safetensors"
    folder.mkdir(parents=True)
    header = b'{"y_embedder.table":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    content = len(header).to_bytes(8, "little") + header + b"\0\0\0\0"
    (folder / layout).write_bytes(content)
    (folder / "config.json").write_text("{}")
    entry = Registry.read(settings.registry).get("absent-dit")
    model = client.get("/models/absent-dit").json()
    assert model["digest"] == identify("model", entry, settings.data_dir).weights
    assert model["condition_digest"] == identify("condition", entry, settings.data_dir).weights
    assert (model["condition_digest"] != model["digest"]) is tells_apart


def test_a_model_whose_file_was_replaced_has_another_digest(client: TestClient, settings: Settings) -> None:
    before = client.get("/models/shapes-sit").json()
    (settings.registry.parent / "shapes-sit" / "model.safetensors").write_bytes(b"trained anew")
    after = client.get("/models/shapes-sit").json()
    assert before["digest"] == hashlib.sha256(b"weights").hexdigest()
    assert after["digest"] == hashlib.sha256(b"trained anew").hexdigest()


def test_no_path_of_this_machine_is_reported(client: TestClient, tmp_path: Path) -> None:
    for model in client.get("/models").json()["models"]:
        assert str(tmp_path) not in client.get(model["links"]["self"]).text


@pytest.mark.parametrize(("name", "family"), [("person", "x-mdpt"), ("sound", "mdsgen")])
def test_a_model_that_takes_conditions_says_their_shapes_and_has_no_labels(
    client: TestClient, name: str, family: str
) -> None:
    model = client.get(f"/models/{name}").json()
    assert model["conditions"] == {key: list(shape) for key, shape in FAMILIES[family].features.items()}
    assert (model["classes"], model["class_names"], model["defaults"]["labels"]) == (None, [], None)
    assert model["latent_shape"] == list(FAMILIES[family].latents or ())


def test_a_model_that_has_labels_takes_no_conditions(client: TestClient) -> None:
    model = client.get("/models/absent-dit").json()
    assert (model["classes"], model["conditions"]) == (10, {})


def test_a_model_says_what_a_request_that_does_not_say_otherwise_gets(client: TestClient) -> None:
    defaults = client.get("/models/person").json()["defaults"]
    assert defaults.items() >= FAMILIES["x-mdpt"].published.items()


def test_a_model_without_a_record_of_its_training_says_so(client: TestClient) -> None:
    lacking = client.get("/models/shapes-sit/training")
    assert (lacking.status_code, lacking.json()["type"]) == (409, "urn:tailprune:problem:model-not-ready")
    assert "names no card" in lacking.json()["detail"]


def test_the_record_of_a_training_is_sent_again_only_after_it_changed(settings: Settings, store: JobStore) -> None:
    text = settings.registry.read_text().replace('source = "made', 'card = "absent-dit/README.md"\nsource = "made')
    settings.registry.write_text(text)
    path, record = "/models/absent-dit/training", settings.registry.parent / "absent-dit" / "training.json"
    with TestClient(create_app(settings)) as client:
        assert "lacks absent-dit/training.json" in client.get(path).json()["detail"]
        assert "training" not in listed(client, "absent-dit")["links"]
        record.parent.mkdir(exist_ok=True)
        content = b'{"curve": [{"step": 1, "npr": 0.5}]}'
        record.write_bytes(content)
        answer = client.get(path)
        assert (answer.status_code, answer.content) == (200, content)
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["ETag"] == f'"{hashlib.sha256(content).hexdigest()}"'
        known = {"If-None-Match": answer.headers["ETag"]}
        assert client.get(path, headers=known).status_code == 304
        assert listed(client, "absent-dit")["links"]["training"] == path
        for damaged in (b"{", b"[]", b'{"curve": NaN}'):
            record.write_bytes(damaged)
            refused = client.get(path, headers=known)
            assert (refused.status_code, refused.json()["type"]) == (409, "urn:tailprune:problem:model-not-ready")
