"""`GET /models/{model}/anatomy` and its figure, and large transformers among the models."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from jobs.records import Job
from jobs.settings import Settings
from tests.registry import extend
from tests.service.results import ANATOMY, PICTURE, RANK_NUMBERS, SVG
from tests.service.routes.test_metrics import NOW

PATH = "/models/flux/anatomy"
RANK = "/metrics/flux/figures/rank"
MODELS: dict[str, Any] = {
    "flux": {"kind": "transformer", "checkpoint": "flux.safetensors", "title": "FLUX", "licence": "own"},
    "absent": {"kind": "transformer", "checkpoint": "hf://owner/absent", "obtain": "fetch it"},
}
HEADER = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """Settings with two large transformers, of which one is there; nothing is in the cache of the hub."""
    extend(settings.registry, {"models": MODELS})
    file_of(settings).write_bytes(len(HEADER).to_bytes(8, "little") + HEADER + bytes(4))
    return settings.model_copy(update={"hub_cache": tmp_path / "hub"})


def file_of(settings: Settings) -> Path:
    return settings.registry.parent / "flux.safetensors"


@pytest.mark.usefixtures("worker")
def test_it_is_waited_for_by_itself(client: TestClient) -> None:
    assert client.get(PATH).json() == ANATOMY


def test_it_is_a_job_until_it_is_there_and_is_not_sent_again(client: TestClient, done: Callable[[str], Job]) -> None:
    first = client.get(PATH, headers=NOW)
    assert first.status_code == 202
    job = first.json()
    assert (job["kind"], job["title"], job["request"]) == ("anatomy", "anatomy of flux", {"model": "flux"})
    assert client.get(PATH, headers=NOW).json()["id"] == job["id"]
    done(job["id"])
    answer = client.get(PATH)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-cache")
    again = client.get(PATH, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(f"/jobs/{job['id']}").json()["result"] == ANATOMY


def test_files_that_changed_are_another_question(client: TestClient, settings: Settings) -> None:
    before = client.get(PATH, headers=NOW).json()["id"]
    state = file_of(settings).stat()
    os.utime(file_of(settings), ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert client.get(PATH, headers=NOW).json()["id"] != before


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("shapes-sit", "'shapes-sit' is a system, which GET /models/shapes-sit describes, and no large transformer"),
        ("nothing", "no large transformer is named 'nothing'; known large transformers: flux, absent"),
    ],
)
def test_what_is_no_large_transformer_is_unknown_here(client: TestClient, name: str, detail: str) -> None:
    answer = client.get(f"/models/{name}/anatomy")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:tailprune:problem:unknown-model")
    assert detail in answer.json()["detail"]


def test_what_is_missing_is_said_with_how_to_have_it(client: TestClient) -> None:
    answer = client.get("/models/absent/anatomy")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:tailprune:problem:model-not-ready")
    assert answer.json()["detail"] == "model 'absent' lacks hf://owner/absent: fetch it"


def test_a_file_that_cannot_be_read_is_named_as_in_the_registry(
    client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: Any) -> None:
        raise PermissionError(13, "Permission denied", str(file_of(settings)))

    monkeypatch.setattr("jobs.registry.transformers.header_text", unreadable)  # root reads any file
    answer = client.get(PATH)
    assert answer.status_code == 409
    assert "(flux.safetensors: Permission denied)" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/models/flux", None),
        ("GET", "/models/flux/training", None),
        ("GET", "/metrics/flux/removal?threshold=1", None),
        ("GET", "/metrics/flux/attribution", None),
        ("GET", "/metrics/flux/vectors", None),
        ("GET", "/metrics/flux/cosine", None),
        ("POST", "/prune-sample", {"model": "flux", "threshold": 0.1}),
        ("POST", "/extract", {"model": "flux"}),
    ],
)
def test_calls_for_systems_say_which_call_takes_it(client: TestClient, method: str, path: str, body: Any) -> None:
    answer = client.request(method, path, json=body)
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:tailprune:problem:unknown-model")
    assert "'flux' is a large transformer" in answer.json()["detail"]
    assert "GET /models/flux/anatomy" in answer.json()["detail"]


def test_its_figure_is_one_job_for_all_formats(client: TestClient, done: Callable[[str], Job]) -> None:
    first = client.get(RANK, headers=NOW)
    assert first.status_code == 202
    job = first.json()
    assert (job["kind"], job["title"]) == ("figure-transformer", "rank figure of flux")
    assert job["request"] == {"model": "flux", "figure": "rank"}
    done(job["id"])
    answers = {accept: client.get(RANK, headers={"Accept": accept}) for accept in ("image/png", "image/svg+xml")}
    assert [answer.content for answer in answers.values()] == [PICTURE, SVG]
    assert [answer.headers["Content-Type"] for answer in answers.values()] == list(answers)
    numbers = client.get(RANK, headers={"Accept": "application/json"})
    assert numbers.json() == RANK_NUMBERS
    assert len({numbers.headers["ETag"], *(answer.headers["ETag"] for answer in answers.values())}) == 3
    again = client.get(RANK, headers={"If-None-Match": numbers.headers["ETag"], "Accept": "application/json"})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(RANK, headers={"Accept": "text/html"}).status_code == 406


@pytest.mark.parametrize(
    ("path", "location", "message"),
    [
        (
            "/metrics/flux/figures/cosine",
            "path.figure",
            "'cosine' is a figure of systems, and 'flux' is a large transformer; its figures are rank",
        ),
        (
            "/metrics/shapes-sit/figures/rank",
            "path.figure",
            "'rank' is a figure of large transformers, and 'shapes-sit' is none; its figures are cosine, histogram",
        ),
        (f"{RANK}?seed=0", "query.seed", "seed is not an option of the figure 'rank'; it has no options"),
        (f"{RANK}?threshold=1", "query.threshold", "threshold is not an option of the figure 'rank'"),
    ],
)
def test_figures_are_of_systems_or_of_large_transformers(
    client: TestClient, path: str, location: str, message: str
) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:tailprune:problem:invalid-request")
    (fault,) = answer.json()["errors"]
    assert fault["location"] == location
    assert fault["message"].startswith(message)


def test_a_figure_of_no_model_is_of_an_unknown_one(client: TestClient) -> None:
    answer = client.get("/metrics/nothing/figures/rank")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:tailprune:problem:unknown-model")


def test_one_of_the_registry_cannot_be_deleted(client: TestClient) -> None:
    answer = client.delete("/models/flux")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:tailprune:problem:model-registered")


def test_they_are_listed_apart_from_the_systems(client: TestClient) -> None:
    listed = client.get("/models").json()
    assert [model["name"] for model in listed["models"]] == ["shapes-sit", "absent-dit"]
    assert listed["transformers"] == [
        {
            "name": "flux",
            "title": "FLUX",
            "ready": True,
            "missing": [],
            "obtain": None,
            "licence": "own",
            "source": "not stated",
            "links": {"anatomy": PATH, "metrics": "/metrics/flux", "rank": RANK},
        },
        {
            "name": "absent",
            "title": "absent",
            "ready": False,
            "missing": ["hf://owner/absent"],
            "obtain": "fetch it",
            "licence": "not stated",
            "source": "not stated",
            "links": {
                "anatomy": "/models/absent/anatomy",
                "metrics": "/metrics/absent",
                "rank": "/metrics/absent/figures/rank",
            },
        },
    ]
