"""`GET /metrics/{model}` and `/over-time` of a large transformer, and which options are whose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from jobs.records import Job
from jobs.settings import Settings
from tests.condition_files import arrays, npz
from tests.jobs.requests.test_compact_transformer import FLUX, model
from tests.registry import extend
from tests.service.results import METRICS_TRANSFORMER, OVER_TIME_TRANSFORMER
from tests.service.routes.test_metrics import NOW

PATH = "/metrics/flux"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with two large transformers, of which one takes guidance and a pooled text."""
    folder = settings.registry.parent
    model(folder, FLUX)
    model(folder / "other", "LongCatImageTransformer2DModel")
    checkpoints = {"flux": "flux", "longcat": "other/flux"}
    entries = {name: {"kind": "transformer", "checkpoint": place} for name, place in checkpoints.items()}
    extend(settings.registry, {"models": entries})
    return settings


@pytest.mark.parametrize(
    ("path", "kind", "request_", "result"),
    [
        (
            f"{PATH}?steps=28&guidance=1&guidance=3.5&part=t&threshold=0.1",
            "metrics-transformer",
            {
                "model": "flux", "part": "t", "steps": 28, "scheduler": "plain", "resolutions": None,
                "guidance": [1.0, 3.5], "classes": None, "population": None, "thresholds": [0.1],
            },
            METRICS_TRANSFORMER,
        ),
        (
            f"{PATH}/over-time?points=5&guidance=2&threshold=0.1",
            "over-time-transformer",
            {
                "model": "flux", "points": 5, "resolutions": None, "guidance": [2.0], "classes": None,
                "population": None, "thresholds": [0.1],
            },
            OVER_TIME_TRANSFORMER,
        ),
    ],
)  # fmt: skip
def test_it_is_a_job_until_it_is_there_and_is_not_sent_again(
    client: TestClient,
    done: Callable[[str], Job],
    path: str,
    kind: str,
    request_: dict[str, Any],
    result: dict[str, Any],
) -> None:
    first = client.get(path, headers=NOW)
    assert first.status_code == 202
    job = first.json()
    assert (job["kind"], job["request"]) == (kind, request_)
    done(job["id"])
    answer = client.get(path)
    assert (answer.status_code, answer.json()) == (200, result)
    again = client.get(path, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


ID = "0" * 64
OF_SYSTEMS = "is an option of systems, and 'flux' is a large transformer; leave it out"
OF_TRANSFORMERS = "is an option of large transformers, and 'shapes-sit' is none; leave it out"


@pytest.mark.parametrize(
    ("path", "faults"),
    [
        (f"{PATH}?timestep=0.5", {"timestep": f"timestep {OF_SYSTEMS}"}),
        (f"{PATH}?conditions={ID}", {"conditions": f"conditions {OF_SYSTEMS}"}),
        (f"{PATH}/over-time?conditions={ID}", {"conditions": f"conditions {OF_SYSTEMS}"}),
        ("/metrics/shapes-sit?steps=4", {"steps": f"steps {OF_TRANSFORMERS}"}),
        (
            f"/metrics/shapes-sit?scheduler=own&resolution=64x64&guidance=1&class=1&population={ID}",
            {
                name: f"{name} {OF_TRANSFORMERS}"
                for name in ("scheduler", "resolution", "guidance", "class", "population")
            },
        ),
        (
            f"/metrics/shapes-sit/over-time?resolution=64x64&guidance=1&class=1&population={ID}",
            {name: f"{name} {OF_TRANSFORMERS}" for name in ("resolution", "guidance", "class", "population")},
        ),
        (
            "/metrics/longcat?resolution=64x64",
            {"resolution": "what is covered of longcat is the same at every resolution; leave them out"},
        ),
        (
            "/metrics/longcat/over-time?guidance=1",
            {"guidance": "longcat takes no guidance scale; leave guidance out"},
        ),
        (
            "/metrics/longcat?class=1",
            {"class": "longcat takes no class; leave classes out"},
        ),
        (
            "/metrics/longcat?part=y",
            {"part": "c of longcat is the time's part alone, so that there is no y; give c or t"},
        ),
    ],
)
def test_an_option_that_cannot_mean_anything_is_refused_by_name(
    client: TestClient, path: str, faults: dict[str, str]
) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:tailprune:problem:invalid-request")
    assert {fault["location"]: fault["message"] for fault in answer.json()["errors"]} == {
        f"query.{name}": message for name, message in faults.items()
    }


@pytest.mark.parametrize("path", [PATH, f"{PATH}/over-time"])
def test_uploaded_texts_are_a_part_of_the_request(client: TestClient, path: str) -> None:
    wide, right = (
        client.post("/conditions", content=npz(arrays({"pooled": (width,)}, 2))).json()["id"] for width in (2, 1)
    )
    answer = client.get(path, params={"population": right}, headers=NOW)
    assert (answer.status_code, answer.json()["request"]["population"]) == (202, right)
    (fault,) = client.get(path, params={"population": wide}).json()["errors"]
    assert fault["location"] == "query.population"
    assert fault["message"].startswith("these pooled texts are 2 wide, and those of flux are 1")
    unknown = client.get(path, params={"population": ID})
    assert (unknown.status_code, unknown.json()["type"]) == (404, "urn:tailprune:problem:unknown-conditions")


@pytest.mark.parametrize(
    "given",
    ["class=-1", "population=texts", "resolution=64", "resolution=ax64", "resolution=8x8", "steps=0", "guidance=nan"],
)
def test_values_that_are_none_are_refused(client: TestClient, given: str) -> None:
    answer = client.get(f"{PATH}?{given}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["location"].startswith(f"query.{given.partition('=')[0]}")


def test_a_model_whose_files_cannot_be_used_is_refused_by_its_name_in_the_path(
    client: TestClient, settings: Settings
) -> None:
    (settings.registry.parent / "flux" / "transformer" / "config.json").write_text('{"_class_name": "Another"}')
    answer = client.get(PATH)
    (fault,) = answer.json()["errors"]
    assert fault["location"] == "path.model"
    assert fault["message"].startswith("flux/transformer/config.json: its class is 'Another'")
