"""The application as a whole."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from jobs.requests.register import RegisterRequest
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from jobs.store.leases import Claim
from service.app import app, create_app
from service.contract import document
from service.submission import Posted, PostedOfTransformer

ROOT = Path(__file__).parents[2]


def test_the_contract_is_the_application() -> None:
    written = (ROOT / "openapi.yaml").read_text()
    assert written == document(app), "run: python -m service.openapi > openapi.yaml"


def test_bodies_are_built_before_the_first_request() -> None:
    bodies = [*Posted.__subclasses__(), *PostedOfTransformer.__subclasses__(), RegisterRequest]
    assert len(bodies) > 6
    assert not [body.__name__ for body in bodies if body.model_config.get("defer_build")]


def test_the_service_imports_neither_torch_nor_numpy(run_python: Callable[[str], str]) -> None:
    run_python("import sys, service.app; assert not sys.modules.keys() & {'torch', 'numpy'}")


def test_every_error_in_the_contract_is_a_problem_document() -> None:
    for path, calls in app.openapi()["paths"].items():
        for method, call in calls.items():
            for status, answer in call["responses"].items():
                if int(status) >= 400:
                    assert list(answer["content"]) == ["application/problem+json"], (path, method, status)


def test_models_say_what_may_be_asked_of_them(client: TestClient) -> None:
    listed = client.get("/models").json()["models"]
    assert [(model["name"], model["ready"]) for model in listed] == [("shapes-sit", True), ("absent-dit", False)]
    model = client.get(listed[0]["links"]["self"]).json()
    assert model["samplers"] == ["euler", "heun", "dopri5", "sde"]
    assert model["times"] == {"first": 0.0, "last": 1.0, "whole": False}
    assert (model["classes"], model["class_names"][17]) == (100, "class 17")


def test_the_page_at_the_root_links_pages_that_are_there(client: TestClient) -> None:
    page = client.get("/").text
    for path in ("/docs", "/models", "/jobs", "/health/ready", "/metrics"):
        assert f'href="{path}"' in page
        assert client.get(path).status_code == 200


def test_the_reference_needs_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs").text
    fetched = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(fetched) >= 2
    for url in fetched:
        assert url.startswith("/"), url
        assert client.get(url).status_code == 200


def test_no_documented_command_writes_an_error_or_a_job_into_the_file_that_it_names() -> None:
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    lines = [line for document in documents for line in document.read_text().splitlines()]
    saving = [line for line in lines if line.startswith("curl ") and re.search(r" -o \S", line)]
    assert len(saving) > 3
    for line in saving:
        assert re.search(r" -\w*f", line), f"--fail writes no error into the file: {line}"
        if "figures/" in line:
            assert "Prefer: wait=" in line, f"without a wait the file may be the job: {line}"


@pytest.mark.parametrize(("given", "kept"), [("abc-123", True), ("a b", False), ("x" * 65, False)])
def test_a_request_is_named_in_its_answer(client: TestClient, given: str, kept: bool) -> None:
    named = client.get("/health/live", headers={"X-Request-ID": given}).headers["X-Request-ID"]
    assert (named == given) is kept
    assert named


def test_the_job_of_a_lost_worker_is_queued_again_where_no_worker_lives_to_see_it(
    settings: Settings, store: JobStore, claim: Callable[[str], Claim]
) -> None:
    quick = settings.model_copy(update={"lease_seconds": 0.2, "sweep_seconds": 0.1})
    with TestClient(create_app(quick)) as client:
        job_id = client.post("/prune-sample", json={"model": "shapes-sit", "threshold": 0.1}).json()["id"]
        claim(job_id)  # and whoever claimed it is never heard of again
        until = time.monotonic() + 30
        while client.get(f"/jobs/{job_id}").json()["status"] != "queued":
            assert time.monotonic() < until, "the job of a lost worker still counts as running"
            time.sleep(0.05)
