"""`POST /studies`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from jobs.records import Job, JobView
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from jobs.store.leases import Claim, LeaseStore
from jobs.study_results import StudyResult
from service.app import create_app
from service.routes.figures import rule_of
from tailprune.spec.prune import EVERY, PruneSpec, Schedule
from tests.registry import write_evaluated_registry
from tests.service.results import STUDY

GRID = {"thresholds": [0.1, 0.2], "schedules": [{"when": "every"}, {"when": "last", "count": 10}]}
REQUEST: dict[str, Any] = {"model": "scored", "grid": GRID}


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """Settings with a registry that has something to measure with."""
    return settings.model_copy(update={"registry": write_evaluated_registry(tmp_path / "measured" / "models")})


def faults(client: TestClient, **said: Any) -> dict[str, str]:
    """Location and message of each fault of a request that is refused."""
    answer = client.post("/studies", json=REQUEST | said)
    assert answer.status_code == 422, answer.text
    return {fault["location"]: fault["message"] for fault in answer.json()["errors"]}


def test_a_new_study_is_accepted_with_its_grid_as_prunes(client: TestClient) -> None:
    answer = client.post("/studies", json=REQUEST)
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/jobs/{job['id']}"
    request = job["request"]
    assert (job["kind"], job["status"], request["grid"]) == ("study", "queued", None)
    assert [(prune["threshold"], prune["schedule"]["count"]) for prune in request["prunes"]] == [
        (0.1, None), (0.2, None), (0.1, 10), (0.2, 10),
    ]  # fmt: skip
    assert (request["extractor"], request["reference"], len(request["labels"])) == ("shapes-classifier", "shapes", 100)
    assert "psnr" in request["measures"]
    assert client.get(answer.headers["Location"]).json() == job


def test_a_search_alone_is_a_study(client: TestClient) -> None:
    search = {"measure": "accuracy", "budget": 0.02}
    job = JobView.model_validate_json(client.post("/studies", json={"model": "scored", "search": search}).content)
    assert job.request.model_dump(include={"prunes", "search"}) == {
        "prunes": None,
        "search": {"schedule": asdict(EVERY), "of": "c", "fill": "zero", "trials": 7, **search},
    }


def test_a_study_waits_among_the_jobs_that_sample(client: TestClient, store: JobStore) -> None:
    client.post("/studies", json=REQUEST)
    assert (store._queue.depth("sampling"), store._queue.depth("shards")) == (1, 0)
    assert [job["id"] for job in client.get("/jobs", params={"kind": "study"}).json()["jobs"]] != []


def test_a_finished_study_names_its_files_which_can_be_fetched(client: TestClient, done: Callable[[str], Job]) -> None:
    done(client.post("/studies", json=REQUEST).json()["id"])
    again = client.post("/studies", json=REQUEST)
    assert again.status_code == 200
    view = JobView.model_validate_json(again.content)
    assert isinstance(view.result, StudyResult)
    assert view.result.exports is not None
    answer = client.get(view.links.artifacts[view.result.exports.table])
    assert (answer.content, answer.headers["Content-Type"].split(";")[0]) == (b"variant", "text/csv")


def test_the_same_study_in_other_words_is_the_same_job(client: TestClient) -> None:
    first = client.post("/studies", json=REQUEST).json()["id"]
    spelt = {"grid": [GRID], "extractor": "shapes-classifier", "labels": list(range(100)), "samples_per_label": 1}
    assert client.post("/studies", json={"model": "scored"} | spelt).json()["id"] == first
    assert client.post("/studies", json=REQUEST | {"measures": ["drift"]}).json()["id"] != first


def test_what_a_study_is_measured_with_is_part_of_its_key(
    client: TestClient, done: Callable[[str], Job], settings: Settings
) -> None:
    job = done(client.post("/studies", json=REQUEST).json()["id"])
    by_drift = done(client.post("/studies", json=REQUEST | {"measures": ["drift"]}).json()["id"])
    (settings.registry.parent / "shapes-classifier" / "model.safetensors").write_bytes(b"trained anew")
    assert client.post("/studies", json=REQUEST).json()["id"] != job.id
    assert client.post("/studies", json=REQUEST | {"measures": ["drift"]}).json()["id"] == by_drift.id


@pytest.mark.usefixtures("worker")
def test_a_preferred_wait_is_answered_with_the_finished_study(client: TestClient) -> None:
    answer = client.post("/studies", json=REQUEST, headers={"Prefer": "wait=30"})
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")


def test_a_study_under_way_shows_what_is_known_so_far(
    client: TestClient, leases: LeaseStore, claim: Callable[[str], Claim]
) -> None:
    job = client.post("/studies", json=REQUEST).json()
    partial = STUDY | {"complete": False, "exports": None}
    leases.publish(claim(job["id"]), StudyResult.model_validate(partial).model_dump(mode="json"), {})
    view = JobView.model_validate_json(client.get(f"/jobs/{job['id']}").content)
    assert isinstance(view.result, StudyResult)
    assert (view.status, view.result.complete, len(view.result.variants)) == ("running", False, 2)


def test_an_idempotency_key_is_of_one_study(client: TestClient) -> None:
    headers = {"Idempotency-Key": "mine"}
    first = client.post("/studies", json=REQUEST, headers=headers).json()
    assert client.post("/studies", json=REQUEST, headers=headers).json()["id"] == first["id"]
    other = client.post("/studies", json=REQUEST | {"seed": 1}, headers=headers)
    assert other.json()["type"] == "urn:tailprune:problem:idempotency-key-reused"


@pytest.mark.parametrize(
    ("said", "location", "message"),
    [
        ({"grid": None}, "body", "there is nothing to try; give prunes, a grid of them, or a search"),
        ({"grid": {"thresholds": [0.1, -1]}}, "body.grid.thresholds.1", "greater than or equal to 0; given -1"),
        ({"grid": [GRID, {"thresholds": []}]}, "body.grid.1.thresholds", "at least 1 item"),
        ({"grid": 3}, "body.grid", "Input should be an object"),
        (
            {"grid": [GRID | {"schedules": [{"when": "last"}]}]},
            "body.grid.0.schedules.0",
            "'last' needs count, the number of last steps",
        ),
        (
            {"prunes": [{"threshold": 1, "keep": 2}]},
            "body.prunes.0",
            "exactly one of threshold, threshold_by_step",
        ),
        ({"prunes": [{"threshold_by_step": [0.1, "x"]}]}, "body.prunes.0.threshold_by_step.1", "a valid number; given"),
        ({"prunes": [{"threshold_by_step": 0.1}]}, "body.prunes.0.threshold_by_step", "Input should be a valid list"),
        (
            {"prunes": [{"threshold_by_step": [0.1, 0.2]}]},
            "body.prunes.0.threshold_by_step",
            "there are 2 thresholds for 50 steps; give one for each step, pruned or not",
        ),
        (
            {"prunes": [{"threshold": 1, "schedule": {"when": "at", "steps": [3, 50]}}]},
            "body.prunes.0.schedule.steps",
            "step 50 is outside 0 to 49, the 50 steps of the run",
        ),
        ({"prunes": [{"keep": 2, "blocks": [0, "x"]}]}, "body.prunes.0.blocks.1", "the number of a block, counted"),
        ({"grid": GRID | {"blocks": [0]}}, "body.grid", "a grid has no blocks: give such a prune in prunes"),
        (
            {"grid": GRID | {"threshold_by_step": [0.1, 0.2]}},
            "body.grid",
            "a grid has no threshold_by_step: give such a prune in prunes",
        ),
        (
            {"search": {"measure": "drift", "budget": 0.1, "blocks": [0]}},
            "body.search",
            "a search has no blocks: it is of one threshold for all steps and blocks",
        ),
        (
            {"search": {"measure": "drift", "budget": 0.1, "schedule": {"when": "at", "steps": [60]}}},
            "body.search.schedule.steps",
            "step 60 is outside 0 to 49",
        ),
        ({"prunes": [{"keep": 2, "surprise": 1}]}, "body.prunes.0.surprise", "Extra inputs are not permitted; given 1"),
        (
            {"prunes": [{"keep": 2, "schedule": {"when": "every", "surprise": 1}}]},
            "body.prunes.0.schedule.surprise",
            "Extra inputs are not permitted; given 1",
        ),
        ({"grid": GRID | {"surprise": 1}}, "body.grid.surprise", "Extra inputs are not permitted; given 1"),
        ({"prunes": [3]}, "body.prunes.0", "Input should be an object; given 3"),
        ({"prunes": [{"keep": 2, "schedule": 3}]}, "body.prunes.0.schedule", "Input should be an object; given 3"),
        ({"prunes": [{"keep": 129}]}, "body.prunes.0.keep", "more than the 128 components of scored"),
        (
            {"grid": GRID | {"schedules": [{"when": "last", "count": 60}]}},
            "body.grid.schedules.0.count",
            "count 60 is more than the 50 steps",
        ),
        (
            {"grid": GRID | {"thresholds": [n / 100 for n in range(64)]}},
            "body.grid",
            "128 prunes is more than the 64 of one study; use several",
        ),
        (
            {"samples_per_label": 1001},
            "body.samples_per_label",
            "100 labels x 1001 samples is 100100 samples; a job makes at most 100000: ask for fewer",
        ),
        ({"search": {"measure": "drift"}}, "body.search.budget", "Field required"),
        ({"measures": ["beauty"]}, "body.measures.0", "'fid', 'kid'"),
        (
            {"measures": ["drift", "lpips"]},
            "body.measures.1",
            "the extractor 'lpips' is missing; it is not registered: under [extractors]",
        ),
        (
            {"extractor": "inception"},
            "body.extractor",
            "published/inception.pt does not exist: put the TorchScript file inception-2015-12-05.pt",
        ),
        ({"extractor": "vgg"}, "body.extractor", "'shapes-classifier', 'inception'"),
        ({"reference": "moon"}, "body.reference", "no reference 'moon' is registered; known references: shapes"),
        ({"reference": "photos"}, "body.reference", "the images of reference 'photos' are missing: photos"),
        ({"targets": "moon"}, "body.targets", "known references: shapes, photos"),
        (
            {"model": "shapes-sit", "search": {"measure": "accuracy", "budget": 0.1}},
            "body.search.measure",
            "no classifier is registered for shapes-sit; name one in its entry (`classifier`)",
        ),
        (
            {"model": "shapes-sit", "measures": ["fid"]},
            "body.measures.0",
            "measure 'fid': the extractor 'inception' is missing; published/inception.pt does not exist",
        ),
    ],
    ids=str,
)
def test_a_study_that_is_not_valid_is_refused_where_it_is_wrong(
    client: TestClient, store: JobStore, said: dict[str, Any], location: str, message: str
) -> None:
    found = faults(client, **said)
    assert list(found) == [location]
    assert message in found[location]
    assert store.page().jobs == []


def test_everything_wrong_is_named_at_once(client: TestClient) -> None:
    found = faults(client, measures=["lpips"], labels=[100], targets="moon", steps=1001)
    assert list(found) == ["body.labels.0", "body.steps", "body.targets", "body.measures.0"]


def test_the_limits_of_studies_are_the_services_own(settings: Settings, store: JobStore) -> None:
    few = settings.model_copy(update={"max_study_samples": 99, "max_study_variants": 3})
    with TestClient(create_app(few)) as client:
        assert list(faults(client)) == ["body.grid", "body.samples_per_label"]


def test_a_model_without_its_files_is_not_ready(client: TestClient) -> None:
    answer = client.post("/studies", json={"model": "absent-dit", "grid": {"thresholds": [0.1]}})
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:tailprune:problem:model-not-ready")


def test_a_model_that_is_not_there_is_unknown(client: TestClient) -> None:
    answer = client.post("/studies", json=REQUEST | {"model": "nothing"})
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:tailprune:problem:unknown-model")


def test_a_model_says_what_it_is_measured_with_and_what_of_that_is_there(client: TestClient) -> None:
    for path in ("/models/scored", "/models/shapes-sit"):
        (listed,) = [model for model in client.get("/models").json()["models"] if model["links"]["self"] == path]
        assert listed["measured_with"] == client.get(path).json()["measured_with"]
    ready = {"ready": True, "missing": None}
    assert client.get("/models/scored").json()["measured_with"] == {
        "extractor": {"name": "shapes-classifier", **ready},
        "classifier": {"name": "shapes-classifier", **ready},
        "reference": {"name": "shapes", **ready},
    }
    found = client.get("/models/shapes-sit").json()["measured_with"]
    assert (found["extractor"]["name"], found["extractor"]["ready"]) == ("inception", False)
    assert found["extractor"]["missing"].startswith("published/inception.pt does not exist: put")
    assert found.keys() == {"extractor"}
    assert client.get("/models/absent-dit").json()["measured_with"] == {}


def test_a_reference_that_the_service_may_not_read_is_told_with_its_file(
    client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def identify(*_: object) -> None:
        raise PermissionError(13, "Permission denied", f"{settings.registry.parent}/images/0.png")

    monkeypatch.setattr("service.submission.identify", identify)
    answer = client.post("/studies", json=REQUEST)
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:tailprune:problem:model-not-ready")
    assert "cannot be read (images/0.png: Permission denied): replace or remove it" in answer.json()["detail"]


ERROR = "/metrics/scored/figures/error"


def test_the_drifts_of_a_study_are_marked_in_the_figure_of_errors(
    client: TestClient, done: Callable[[str], Job]
) -> None:
    study = client.post("/studies", json=REQUEST).json()["id"]
    refused = client.get(f"{ERROR}?study={study}", headers={"Prefer": "wait=0"})
    assert refused.status_code == 422
    assert "is no finished study of scored" in refused.json()["errors"][0]["message"]
    done(study)
    request = client.get(f"{ERROR}?study={study}", headers={"Prefer": "wait=0"}).json()["request"]
    assert request["measured"] == [{"rule": "|c|, zero", "removed": 0.5, "drift": 0.125}]


def test_what_is_no_study_of_the_model_has_no_drifts_to_mark(client: TestClient, done: Callable[[str], Job]) -> None:
    study = client.post("/studies", json=REQUEST).json()["id"]
    done(study)
    other = client.get(f"/metrics/shapes-sit/figures/error?study={study}")
    assert (other.status_code, other.json()["errors"][0]["location"]) == (422, "query.study")
    assert client.get(f"{ERROR}?study={'0' * 26}").status_code == 404
    assert "not an option" in client.get(f"/metrics/scored/figures/cosine?study={study}").json()["errors"][0]["message"]


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        ({"threshold": 0.1}, "|c|, zero"),
        ({"remove_fraction": 0.1, "of": "read"}, "|SiLU(c)|, zero"),
        ({"keep": 3}, "variance, mean"),
        ({"keep_fraction": 0.3, "by": "deviation"}, "deviation, mean"),
        ({"keep": 3, "by": "magnitude"}, None),
        ({"keep": 3, "fill": "zero"}, None),
        ({"threshold": 0.1, "side": "head"}, None),
        ({"threshold": 0.1, "fill": "mean"}, None),
        ({"threshold": 0.1, "schedule": Schedule("first")}, None),
        ({"threshold_by_step": (0.1, None)}, None),
        ({"threshold": 0.1, "blocks": (0,)}, None),
        ({"keep": 3, "blocks": ("final",)}, None),
    ],
)
def test_prunes_of_a_study_follow_a_rule_of_the_figure_or_none(spec: dict[str, Any], rule: str | None) -> None:
    assert rule_of(PruneSpec(**spec).resolved()) == rule
