"""`GET /metrics/{model}/vectors` and `/cosine`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from safetensors.numpy import load

from jobs.records import Job
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from service.routes import vectors
from tests.service.results import MATRIX, VECTORS
from tests.service.routes.test_metrics import NOW

PATH = "/metrics/shapes-sit/vectors"
COSINE = "/metrics/shapes-sit/cosine"
JSON = {"Accept": "application/json"}


@pytest.fixture
def extracted(client: TestClient, done: Callable[[str], Job]) -> TestClient:
    """A client of a service whose vectors are extracted."""
    done(client.get(PATH, headers=NOW).json()["id"])
    return client


@pytest.mark.usefixtures("worker")
def test_vectors_are_waited_for_and_are_a_file_by_default(client: TestClient) -> None:
    answer = client.get(PATH)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/octet-stream")
    assert (answer.content, answer.headers["Content-Length"]) == (VECTORS, str(len(VECTORS)))
    assert answer.headers["Vary"] == "Accept"


def test_vectors_that_are_not_there_yet_are_the_job_of_the_same_extraction(client: TestClient) -> None:
    query = "part=y&part=c&timestep=0.5&timestep=0&label=17&label=class%202"
    answer = client.get(f"{PATH}?{query}", headers=NOW)
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/jobs/{answer.json()['id']}")
    body = {"model": "shapes-sit", "parts": ["c", "y"], "timesteps": [0.5, 0], "labels": [17, "class 2"]}
    posted = client.post("/extract", json=body).json()
    assert (posted["id"], posted["request"]["labels"]) == (answer.json()["id"], [17, 2])


def test_vectors_as_json_have_the_numbers_of_the_file(extracted: TestClient) -> None:
    view = extracted.get(PATH, headers=JSON).json()
    assert (np.array(view.pop("c"), np.float32) == load(VECTORS)["c"]).all()
    assert view == {
        "model": {
            "name": "shapes-sit",
            "digest": "d",
            "condition_digest": None,
            "modulation_digest": None,
            "training_digest": None,
        },
        "dim": 3,
        "timesteps": [0.0],
        "labels": [0, 1],
        "conditions": None,
        "names": ["class 0", "class 1"],
    }


def test_too_many_vectors_for_json_are_refused_with_the_way_out(
    extracted: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "MOST_IN_JSON", 5)
    answer = extracted.get(PATH, headers=JSON)
    assert (answer.status_code, answer.json()["type"]) == (406, "urn:tailprune:problem:not-acceptable")
    assert "6 numbers, and JSON has at most 5: accept application/octet-stream" in answer.json()["detail"]
    assert extracted.get(PATH).status_code == 200


def test_what_the_client_has_is_not_sent_again_in_the_same_format(extracted: TestClient, settings: Settings) -> None:
    file, view = extracted.get(PATH), extracted.get(PATH, headers=JSON)
    assert file.headers["ETag"] != view.headers["ETag"]
    for headers, answer in (({}, file), (JSON, view)):
        again = extracted.get(PATH, headers=headers | {"If-None-Match": answer.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
    (settings.registry.parent / "shapes-sit" / "classes.txt").write_text("another\n")
    renamed = extracted.get(PATH, headers=JSON | {"If-None-Match": view.headers["ETag"]})
    assert renamed.status_code == 200
    assert renamed.json()["names"] == ["another", "1"]


@pytest.mark.parametrize(
    ("query", "location"),
    [
        ("part=x", "query.part.0"),
        ("part=t&label=0", "query.label"),
        ("part=y&timestep=0", "query.timestep"),
        ("timestep=0&timestep=2", "query.timestep.1"),
        ("label=0&label=100", "query.label.1"),
        ("label=class 0&label=nothing", "query.label.1"),
        ("label=1&label=01", "query.label"),
        ("nonsense=1", "query.nonsense"),
    ],
)
def test_what_is_wrong_is_said_of_the_parameter(client: TestClient, query: str, location: str) -> None:
    answer = client.get(f"{PATH}?{query}", headers=NOW)
    assert (answer.status_code, [fault["location"] for fault in answer.json()["errors"]]) == (422, [location])


@pytest.mark.usefixtures("worker")
def test_cosines_are_json_by_default_and_a_file_if_that_is_asked_for(client: TestClient) -> None:
    answer = client.get(COSINE)
    assert (answer.status_code, answer.json()) == (200, MATRIX)
    file = client.get(COSINE, headers={"Accept": "application/octet-stream"})
    assert (file.headers["Content-Type"], file.content) == ("application/octet-stream", b"cosines")
    assert file.headers["ETag"] != answer.headers["ETag"]


@pytest.mark.usefixtures("worker")
def test_cosines_of_many_vectors_are_a_file_by_default(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "MOST_COSINES_IN_JSON", 99)  # of 100 classes
    assert client.get(COSINE).content == b"cosines"
    assert client.get(f"{COSINE}?part=t").content == b"cosines"


def test_cosines_that_are_too_many_for_json_are_refused_with_the_way_out(
    client: TestClient, done: Callable[[str], Job], store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = done(client.get(COSINE, headers=NOW | JSON).json()["id"])
    made: dict[str, Any] = dict(job.result or {}) | {"matrix": None, "count": 1000}
    monkeypatch.setattr("service.routes.vectors.CosineResult.model_validate", lambda _: Many(made))
    answer = client.get(COSINE, headers=JSON)
    assert answer.status_code == 406
    assert "of 1000 vectors are too many for JSON" in answer.json()["detail"]
    assert "accept application/octet-stream" in answer.json()["detail"]


class Many:
    """A result of many vectors."""

    def __init__(self, made: dict[str, Any]) -> None:
        self.matrix, self.count = made["matrix"], made["count"]


@pytest.mark.parametrize("path", [PATH, COSINE])
def test_formats_that_there_are_not_are_refused(client: TestClient, store: JobStore, path: str) -> None:
    answer = client.get(path, headers={"Accept": "image/png"})
    assert (answer.status_code, answer.json()["type"]) == (406, "urn:tailprune:problem:not-acceptable")
    assert store.page().jobs == []


def test_the_order_of_cosines_is_one_of_three(client: TestClient) -> None:
    assert client.get(f"{COSINE}?order=likeness", headers=NOW).json()["request"]["order"] == "likeness"
    answer = client.get(f"{COSINE}?order=size")
    assert [fault["location"] for fault in answer.json()["errors"]] == ["query.order"]
