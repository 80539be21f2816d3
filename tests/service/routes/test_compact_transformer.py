"""`POST /compact` of a large transformer: the registry's kind of the model says which fields there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from jobs.records import Job
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from tests.condition_files import VIDEO, arrays, npz
from tests.jobs.requests.test_compact_transformer import FLUX, model
from tests.registry import extend
from tests.service.results import COMPACT_TRANSFORMER, COMPACT_TRANSFORMER_FILES

REQUEST: dict[str, Any] = {"model": "flux", "steps": 4, "scheduler": "plain", "pooled": "zero"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with two large transformers, of which one is there."""
    model(settings.registry.parent, FLUX)
    entries = {name: {"kind": "transformer", "checkpoint": name} for name in ("flux", "absent")}
    extend(settings.registry, {"models": entries})
    return settings


def faults(client: TestClient, **body: Any) -> dict[str, str]:
    answer = client.post("/compact", json=body)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:tailprune:problem:invalid-request")
    return {fault["location"]: fault["message"] for fault in answer.json()["errors"]}


def test_it_is_a_job_of_its_own_kind_with_its_defaults_filled_in(client: TestClient, store: JobStore) -> None:
    answer = client.post("/compact", json=REQUEST)
    job = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/jobs/{job['id']}")
    assert (job["kind"], job["title"]) == ("compact-transformer", "compact-transformer of flux for 4 steps")
    assert (job["request"]["steps"], job["request"]["scheduler"]) == ([4], "plain")
    assert store._queue.depth("sampling") == 1


def test_equal_requests_are_one_job_whose_files_are_downloaded(client: TestClient, done: Callable[[str], Job]) -> None:
    first = client.post("/compact", json=REQUEST).json()
    assert client.post("/compact", json=REQUEST | {"guidance": None}).json()["id"] == first["id"]
    done(first["id"])
    again = client.post("/compact", json=REQUEST | {"steps": [4]})
    job = again.json()
    assert (again.status_code, job["id"], job["result"]) == (200, first["id"], COMPACT_TRANSFORMER)
    for name, (content, media_type) in COMPACT_TRANSFORMER_FILES.items():
        file = client.get(job["links"]["artifacts"][name])
        assert (file.content, file.headers["Content-Type"]) == (content, media_type)


def test_an_uploaded_population_is_a_part_of_the_request_and_stays_while_its_job_needs_it(client: TestClient) -> None:
    first, other = (
        client.post("/conditions", content=npz(arrays({"pooled": (1,)}, count))).json()["id"] for count in (2, 3)
    )
    asked = {name: value for name, value in REQUEST.items() if name != "pooled"}
    jobs = [
        client.post("/compact", json=asked | more).json()
        for more in (
            {"population": first},
            {"population": other},
            {"population": first, "pooled": "mean"},
            {"population": first, "pooled": None},
        )
    ]
    assert [job["request"]["population"] for job in jobs] == [first, other, first, first]
    assert len({job["id"] for job in jobs}) == 3
    assert jobs[3]["id"] == jobs[0]["id"]
    refused = client.delete(f"/conditions/{other}")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:tailprune:problem:conditions-in-use")
    assert client.delete(f"/jobs/{jobs[1]['id']}").status_code == 200
    assert client.delete(f"/conditions/{other}").status_code == 204
    unknown = client.post("/compact", json=asked | {"population": other})
    assert (unknown.status_code, unknown.json()["type"]) == (404, "urn:tailprune:problem:unknown-conditions")


def test_a_population_that_does_not_fit_is_refused_by_its_field(client: TestClient) -> None:
    wide, video = (
        client.post("/conditions", content=npz(arrays(shapes, 2))).json()["id"] for shapes in ({"pooled": (2,)}, VIDEO)
    )
    asked = {name: value for name, value in REQUEST.items() if name != "pooled"}
    assert "are 2 wide, and those of flux are 1" in faults(client, **asked, population=wide)["body.population"]
    assert "these are conditions of video" in faults(client, **asked, population=video)["body.population"]
    assert "needs texts" in faults(client, **asked, pooled="mean")["body.population"]
    found = faults(client, model="shapes-sit", keep=3, population=wide)
    assert found["body.population"].startswith("this field is for large transformers alone; leave it out")


def test_fields_of_the_other_kind_are_refused_by_what_the_model_is(client: TestClient) -> None:
    found = faults(client, **REQUEST, keep=3, by="directions", nonsense=1)
    of_systems = "this field is for systems, and this is a large transformer; leave it out"
    assert found["body.keep"].startswith(of_systems)
    assert found["body.by"].startswith(of_systems)
    assert "nonsense" in "".join(found)
    assert of_systems not in found["body.nonsense"]
    found = faults(client, model="shapes-sit", keep=3, rank=4, pooled="zero")
    of_transformers = "this field is for large transformers alone; leave it out"
    assert all(found[f"body.{field}"].startswith(of_transformers) for field in ("rank", "pooled"))


def test_faults_are_named_by_their_fields(client: TestClient) -> None:
    assert list(faults(client, model="flux", steps=[4, 0])) == ["body.steps.1"]
    assert list(faults(client, model="flux")) == ["body"]
    assert list(faults(client, model="flux", rank=4)) == ["body.pooled"]
    assert "takes no class" in faults(client, **REQUEST, classes=[1])["body.classes"]
    assert "leave qkv out" in faults(client, **REQUEST, qkv="stacked")["body.qkv"]
    assert list(faults(client, **REQUEST, qkv="stackd")) == ["body.qkv"]
    assert list(faults(client, **REQUEST, populaton="5" * 64)) == ["body.populaton"]


def test_what_is_no_object_or_names_no_model_is_refused(client: TestClient) -> None:
    for body in ([1], "x", 3, None):
        answer = client.post("/compact", json=body)
        assert answer.status_code == 422
        assert [fault["location"] for fault in answer.json()["errors"]] == ["body"]
    assert client.post("/compact", content=b"{", headers={"Content-Type": "application/json"}).status_code == 400
    assert "body.model" in faults(client, rank=4)
    for fields in ({"keep": 4}, {"steps": 4, "resolutions": [[64, 64]]}):
        answer = client.post("/compact", json={"model": "nothing"} | fields)
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:tailprune:problem:unknown-model")
    assert "body.rank" in faults(client, model=["flux"], rank=4)


def test_a_damaged_file_is_a_fault_of_the_model(client: TestClient, settings: Settings) -> None:
    weights = settings.registry.parent / "flux" / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(b"\x08" + bytes(7) + b"{not json")
    assert "download it again" in faults(client, **REQUEST)["body.model"]


def test_a_model_whose_files_are_missing_is_not_ready(client: TestClient) -> None:
    answer = client.post("/compact", json=REQUEST | {"model": "absent"})
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:tailprune:problem:model-not-ready")


def test_a_webhook_that_may_not_be_called_is_refused(client: TestClient) -> None:
    assert list(faults(client, **REQUEST, webhook="http://127.0.0.1/told")) == ["body.webhook"]
