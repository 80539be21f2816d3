"""Models that are added over HTTP, and used by processes that were running before."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import load_file, save_file

from tailprune_client import Client, ModelExists
from tests.end_to_end.stack import Stack, eventually, running
from tests.hub import FakeHub
from tests.tiny_model import CLASSES, NAME

SIT: dict[str, Any] = {"family": "sit", "num_heads": 2}
WAIT = {"Prefer": "wait=60"}


class Code:
    """A pickle of it runs code."""

    def __reduce__(self) -> Any:
        return os.system, ("true",)


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    hub = FakeHub({})
    yield hub
    hub.stop()


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory, hub: FakeHub) -> Iterator[Stack]:
    """A stack whose folder of checkpoints has copies of the small model."""
    folder = tmp_path_factory.mktemp("added")
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir()
    settings = {
        "TAILPRUNE_MODEL_FOLDERS": str(checkpoints),
        "TAILPRUNE_HUB_CACHE": str(folder / "hub"),
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "home"),
    }
    with running(folder, **settings) as stack:
        tiny = stack.registry.parent / f"{NAME}.safetensors"
        shutil.copy(tiny, checkpoints / "good.safetensors")
        (checkpoints / "cut.safetensors").write_bytes(tiny.read_bytes()[:-1000])
        torch.save({"model": load_file(tiny), "code": Code()}, checkpoints / "code.pt")
        tensors = load_file(tiny)
        tensors["final_layer.linear.bias"][0] = float("nan")
        save_file(tensors, checkpoints / "nan.safetensors")
        hub.repositories = {"owner/repo": {"sit.safetensors": tiny.read_bytes()}}
        yield stack


def add(stack: Stack, name: str, source: str, **fields: Any) -> httpx.Response:
    return stack.http.post("/models", json={"name": name, "source": source, **SIT, **fields}, headers=WAIT)


def names(stack: Stack, url: str = "") -> list[str]:
    return [model["name"] for model in stack.http.get(f"{url}/models").json()["models"]]


def test_an_added_model_is_used_by_processes_that_ran_before(added: Stack) -> None:
    with added.another_service() as other:
        answer = add(added, "mine", "good.safetensors", class_names=CLASSES, decoder="pixels", display_scale=4)
        assert answer.status_code == 200, answer.text
        job = answer.json()
        assert job["status"] == "succeeded", job["problem"]
        assert job["result"]["model"]["name"] == "mine"
        assert "mine" in names(added, other)
        run = {"sampler": "euler", "steps": 4, "guidance_scale": 2, "guided_channels": "all"}
        body = {"model": "mine", "threshold": 0.5, "labels": ["star"], **run}
        sampled = added.http.post(f"{other}/prune-sample", json=body, headers=WAIT).json()
        assert sampled["status"] == "succeeded", sampled["problem"]
        assert sampled["result"]["model"]["digest"] == job["result"]["model"]["digest"]
        same = added.http.post("/prune-sample", json=body | {"model": NAME}, headers=WAIT).json()
        assert added.artifact(same, "grid.png") == added.artifact(sampled, "grid.png")


@pytest.mark.parametrize(
    ("source", "fields", "why"),
    [
        ("cut.safetensors", {}, "cut.safetensors"),
        ("code.pt", {}, "posix.system"),
        ("nan.safetensors", {}, "holds NaN or infinity"),
        ("good.safetensors", {"family": "x-mdpt", "decode_layer": 1}, "does not fit x-mdpt"),
        ("good.safetensors", {"class_names": ["one"]}, "there are 1 names, and the model has 4 classes"),
        ("good.safetensors", {"decoder": "sd-vae", "decoder_source": "hf://owner/vae"}, "hf://owner/vae cannot be"),
    ],
)
def test_what_cannot_be_used_is_refused_before_it_is_a_model(
    added: Stack, source: str, fields: dict[str, Any], why: str
) -> None:
    job = add(added, "broken", source, **fields).json()
    assert job["status"] == "failed"
    assert why in job["problem"]["detail"]
    assert "broken" not in names(added)
    assert added.http.get("/models/broken").status_code == httpx.codes.NOT_FOUND


def test_a_checkpoint_of_the_hub_is_fetched(added: Stack) -> None:
    job = add(added, "from-hub", "hf://owner/repo/sit.safetensors").json()
    assert job["status"] == "succeeded", job["problem"]
    assert added.http.get("/models/from-hub").json()["ready"]
    measured = added.http.get("/metrics/from-hub", headers=WAIT)
    assert measured.status_code == 200, measured.text


def test_of_two_who_add_a_model_of_one_name_one_does(added: Stack) -> None:
    answers: list[httpx.Response] = []

    def ask(title: str) -> None:
        answers.append(add(added, "wanted", "good.safetensors", title=title))

    threads = [threading.Thread(target=ask, args=(title,)) for title in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bodies = [answer.json() for answer in answers]
    won = [body for body in bodies if body["status"] == "succeeded"]
    assert len(won) == 1
    assert added.http.get("/models/wanted").json()["title"] == won[0]["request"]["title"]
    assert all("there is a model 'wanted' already" in str(body) for body in bodies if body not in won)


def test_a_client_adds_and_deletes_models_and_what_was_compacted_from_them_is_then_gone(added: Stack) -> None:
    with Client(added.url) as client:
        result = client.add_model("whole", "good.safetensors", family="sit", num_heads=2).wait().result
        assert result is not None
        assert (result.model.name, result.family, result.classes) == ("whole", "sit", 4)
        with pytest.raises(ModelExists):
            client.add_model("whole", "nan.safetensors")
        smaller = client.compact("whole", keep=8, sampler="euler", steps=4).wait().result
        assert smaller is not None
        assert client.model(smaller.compacted.name).ready
        client.delete_model("whole")
    gone = added.http.get(f"/models/{smaller.compacted.name}")
    assert gone.status_code == httpx.codes.NOT_FOUND
    assert "was compacted from 'whole'" in gone.json()["detail"]
    assert "whole" not in names(added)


def test_an_added_model_outlives_redis(added: Stack) -> None:
    assert add(added, "kept", "good.safetensors").json()["status"] == "succeeded"
    added.redis.stop()
    added.redis.start()
    eventually(lambda: "kept" in names(added), "the model is listed again")
    assert added.http.get("/models/kept").json()["ready"]


def test_a_worker_without_the_file_fails_the_job_alone(added: Stack, tmp_path: Path) -> None:
    lost = Path(added.environment["TAILPRUNE_MODEL_FOLDERS"]) / "lost.safetensors"
    shutil.copy(lost.with_name("good.safetensors"), lost)
    for worker in added.workers:
        worker.stop()
    answer = added.http.post("/models", json={"name": "lost", "source": "lost.safetensors", **SIT})
    lost.unlink()
    other = added.post(seed=77).json()
    added.start_worker()
    job = added.finished(answer.json()["id"])
    assert f"source: {lost} is not on this worker's machine" in job["problem"]["detail"]
    assert added.finished(other["id"])["status"] == "succeeded"
