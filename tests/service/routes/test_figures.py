"""`GET /metrics/{model}/figures/{figure}`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from jobs.problems import problem
from jobs.records import Job
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from jobs.store.leases import Claim, LeaseStore
from service.app import create_app
from service.headers import preferred_type
from tests.service.results import FIGURE, NUMBERS, PICTURE, SVG
from tests.service.routes.test_metrics import NOW

COSINE = "/metrics/shapes-sit/figures/cosine"
OFFERED = ["image/png", "image/svg+xml"]


@pytest.fixture
def drawn(client: TestClient, done: Callable[[str], Job]) -> TestClient:
    """A client of a service whose figure is drawn."""
    done(client.get(COSINE, headers=NOW).json()["id"])
    return client


@pytest.mark.usefixtures("worker")
def test_a_figure_is_waited_for_by_itself(client: TestClient) -> None:
    answer = client.get(COSINE)
    assert (answer.status_code, answer.headers["Content-Type"], answer.content) == (200, "image/png", PICTURE)


def test_a_figure_that_is_not_there_yet_is_a_job(settings: Settings, store: JobStore) -> None:
    with TestClient(create_app(settings.model_copy(update={"metrics_wait_seconds": 0.1}))) as client:
        answer = client.get(f"{COSINE}?classes=10&seed=3")
    job = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/jobs/{job['id']}")
    assert (job["kind"], job["request"]["figure"], job["request"]["classes"]) == ("figure", "cosine", 10)


def test_both_formats_are_one_job(drawn: TestClient, store: JobStore) -> None:
    svg = drawn.get(COSINE, headers=NOW | {"Accept": "image/svg+xml"})
    assert (svg.headers["Content-Type"], svg.content, svg.headers["Vary"]) == ("image/svg+xml", SVG, "Accept")
    assert drawn.get(COSINE, headers=NOW).content == PICTURE
    assert len(store.page().jobs) == 1


def test_the_numbers_behind_a_figure_are_of_the_same_job(drawn: TestClient, store: JobStore) -> None:
    answer = drawn.get(COSINE, headers=NOW | {"Accept": "application/json"})
    assert (answer.headers["Content-Type"], answer.json()) == ("application/json", NUMBERS)
    assert answer.headers["ETag"] != drawn.get(COSINE, headers=NOW).headers["ETag"]
    assert len(store.page().jobs) == 1


def test_the_cosines_of_too_many_vectors_are_refused_as_json_with_the_way_out(
    client: TestClient, leases: LeaseStore, claim: Callable[[str], Claim], store: JobStore
) -> None:
    job = client.get(COSINE, headers=NOW).json()
    files = {"cosine.png": store.artifacts.put(PICTURE, "image/png")}
    leases.succeed(claim(job["id"]), FIGURE | {"data": None}, files)
    answer = client.get(COSINE, headers={"Accept": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (406, "urn:tailprune:problem:not-acceptable")
    assert "ask for fewer `classes`" in answer.json()["detail"]


def test_what_the_client_has_is_not_sent_again_in_the_same_format(drawn: TestClient) -> None:
    first = drawn.get(COSINE, headers=NOW)
    assert first.headers["Cache-Control"] == "no-cache"
    known = {"If-None-Match": first.headers["ETag"]} | NOW
    again = drawn.get(COSINE, headers=known)
    assert (again.status_code, again.content) == (304, b"")
    assert drawn.get(COSINE, headers=known | {"Accept": "image/svg+xml"}).status_code == 200
    assert drawn.get(f"{COSINE}?part=y", headers=known).status_code == 202


def test_new_weights_and_new_names_are_drawn_anew(drawn: TestClient, settings: Settings) -> None:
    folder = settings.registry.parent / "shapes-sit"
    for changed in ("classes.txt", "model.safetensors"):
        (folder / changed).write_bytes(b"another")
        answer = drawn.get(COSINE, headers=NOW)
        assert answer.status_code == 202
        drawn.delete(answer.headers["Location"])


def test_formats_that_there_are_not_are_refused(client: TestClient, store: JobStore) -> None:
    answer = client.get(COSINE, headers={"Accept": "application/pdf"})
    assert (answer.status_code, answer.json()["type"]) == (406, "urn:tailprune:problem:not-acceptable")
    assert "image/png or image/svg+xml" in answer.json()["detail"]
    assert store.page().jobs == []


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "image/png"),
        ("*/*", "image/png"),
        ("image/*", "image/png"),
        ("image/svg+xml", "image/svg+xml"),
        ("image/svg+xml, */*", "image/svg+xml"),
        ("image/png, image/svg+xml", "image/png"),
        ("image/png;q=0.5, image/svg+xml;q=0.9", "image/svg+xml"),
        ("image/svg+xml;q=0.2, image/*", "image/png"),
        ("image/*, image/png;q=0", "image/svg+xml"),
        ("IMAGE/SVG+XML", "image/svg+xml"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "image/png"),
        ("image/svg+xml; charset=utf-8", "image/svg+xml"),
        ("nonsense", "image/png"),
        ("", "image/png"),
        ("image/png;q=0", None),
        ("*/*;q=0", None),
        ("text/html", None),
    ],
)
def test_the_format_is_the_one_that_is_liked_best(accept: str | None, expected: str | None) -> None:
    assert preferred_type(accept, OFFERED) == expected


def test_an_option_that_the_figure_does_not_have_is_refused(client: TestClient) -> None:
    answer = client.get("/metrics/shapes-sit/figures/histogram?side=head&threshold=1")
    assert answer.status_code == 422
    assert [fault["location"] for fault in answer.json()["errors"]] == ["query.side", "query.threshold"]


@pytest.mark.parametrize("given", ["range=0.9", "range=1&range=0.9", "range=0&range=2", "range=0&range=0.5&range=1"])
def test_a_range_of_colours_is_two_cosines_the_lower_first(client: TestClient, given: str) -> None:
    answer = client.get(f"/metrics/shapes-sit/figures/cosine?{given}")
    assert answer.status_code == 422
    assert all(fault["location"].startswith("query.range") for fault in answer.json()["errors"])


def test_a_figure_that_there_is_not_is_refused_with_those_there_are(client: TestClient) -> None:
    answer = client.get("/metrics/shapes-sit/figures/pie")
    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert fault["location"] == "path.figure"
    assert "tsne" in fault["message"]


@pytest.mark.parametrize(("figure", "queue"), [("tsne", "metrics"), ("removal", "sampling")])
def test_what_samples_waits_in_the_queue_of_samples(
    client: TestClient, store: JobStore, figure: str, queue: str
) -> None:
    client.get(f"/metrics/shapes-sit/figures/{figure}", headers=NOW)
    depths = {name: store._queue.depth(name) for name in ("metrics", "sampling")}  # type: ignore[arg-type]
    assert depths == {"metrics": 0, "sampling": 0} | {queue: 1}


def test_the_figure_of_training_names_what_is_missing(client: TestClient, settings: Settings) -> None:
    answer = client.get("/metrics/shapes-sit/figures/training")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:tailprune:problem:model-not-ready")
    assert "names no card" in answer.json()["detail"]


def test_the_figure_of_training_needs_the_record_and_no_checkpoint(settings: Settings, store: JobStore) -> None:
    text = settings.registry.read_text().replace('source = "made', 'card = "absent-dit/README.md"\nsource = "made')
    settings.registry.write_text(text)
    with TestClient(create_app(settings)) as client:
        lacking = client.get("/metrics/absent-dit/figures/training")
        assert (lacking.status_code, "lacks absent-dit/training.json" in lacking.json()["detail"]) == (409, True)
        (settings.registry.parent / "absent-dit").mkdir()
        (settings.registry.parent / "absent-dit" / "training.json").write_text("{}")
        assert client.get("/metrics/absent-dit/figures/training", headers=NOW).status_code == 202


def test_a_figure_that_failed_is_answered_with_its_problem(
    client: TestClient, leases: LeaseStore, claim: Callable[[str], Claim]
) -> None:
    job = client.get(COSINE, headers=NOW).json()
    claimed = claim(job["id"])
    import threading

    timer = threading.Timer(0.2, lambda: leases.fail(claimed, problem("failed", "damaged")))
    timer.start()
    answer = client.get(COSINE)
    timer.join()
    assert (answer.status_code, answer.json()["detail"]) == (422, "damaged")


def test_a_figure_whose_files_are_gone_is_drawn_anew(drawn: TestClient, settings: Settings) -> None:
    for file in Path(settings.artifacts).rglob("*"):
        if file.is_file():
            file.unlink()
    assert drawn.get(COSINE, headers=NOW).status_code == 202
