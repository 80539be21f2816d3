"""`POST /edit`, and `GET /metrics/{model}/attribution`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from jobs.edit_results import EditResult
from jobs.records import Job
from tests.service.results import ATTRIBUTION, EDITED
from tests.service.routes.test_metrics import NOW

EDIT: dict[str, Any] = {"model": "shapes-sit", "source": ["class 3"], "target": [7]}
HALVES = "half=" + ",".join(["low"] * 50 + ["high"] * 50)
PATH = "/metrics/shapes-sit/attribution"


def test_an_edit_is_a_job_that_equal_requests_share(client: TestClient, done: Callable[[str], Job]) -> None:
    answer = client.post("/edit", json=EDIT)
    assert answer.status_code == 202
    job = answer.json()
    assert (job["kind"], job["status"]) == ("edit", "queued")
    assert job["request"]["labels"] == job["request"]["source"] == [3]
    again = client.post("/edit", json=EDIT | {"source": [3], "labels": [3], "strength": [0, 0.25, 0.5, 0.75, 1]})
    assert again.json()["id"] == job["id"]
    done(job["id"])
    finished = client.get(f"/jobs/{job['id']}").json()
    assert finished["result"] == EditResult.model_validate(EDITED).model_dump(mode="json")
    assert finished["links"]["artifacts"]["grid.png"]


def test_a_request_that_cannot_be_done_is_refused_at_once(client: TestClient) -> None:
    answer = client.post("/edit", json=EDIT | {"target": ["class 3"], "components": 999})
    assert answer.status_code == 422
    assert [fault["location"] for fault in answer.json()["errors"]] == ["body.target", "body.components"]
    both = client.post("/edit", json=EDIT | {"components": 3, "directions": 3})
    assert "not both" in both.json()["errors"][0]["message"]


def test_modulation_guidance_is_a_field_of_what_samples(client: TestClient) -> None:
    moved = {"weight": 0.5, "minus": "class 9"}
    for path, body in (("/edit", EDIT), ("/prune-sample", {"model": "shapes-sit", "threshold": 0.1})):
        answer = client.post(path, json=body | {"modulation": moved})
        assert answer.json()["request"]["modulation"] == {"weight": 0.5, "plus": None, "minus": 9}


@pytest.mark.usefixtures("worker")
def test_attribution_is_waited_for_and_not_sent_again(client: TestClient) -> None:
    answer = client.get(PATH, params={"attribute": HALVES})
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-cache")
    assert answer.json()["shares"] == ATTRIBUTION["shares"]
    again = client.get(PATH, params={"attribute": HALVES}, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_attributes_that_do_not_fit_are_refused(client: TestClient) -> None:
    answer = client.get(PATH, params={"attribute": ["half=low", "colour"]}, headers=NOW)
    assert [fault["location"] for fault in answer.json()["errors"]] == ["query.attribute"]
    figure = client.get("/metrics/shapes-sit/figures/attribution", params={"attribute": HALVES}, headers=NOW)
    assert figure.json()["request"]["attributes"] == [HALVES]
