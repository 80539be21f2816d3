"""`/`, `/ui/` and the files of the pages."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from jobs.settings import Settings
from jobs.startup import StartError
from jobs.store.jobs import JobStore
from service.app import create_app

STATIC = Path(__file__).parents[3] / "service" / "static"
VENDOR = STATIC / "vendor"
MOST_BYTES = 100_000
"""Of all libraries together, as they are before compression."""
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture
def served(settings: Settings, store: JobStore) -> Iterator[Callable[..., TestClient]]:
    """Makes clients of applications with other settings."""
    opened: list[TestClient] = []

    def served(**changes: object) -> TestClient:
        client = TestClient(create_app(settings.model_copy(update=changes)), follow_redirects=False)
        opened.append(client.__enter__())
        return client

    yield served
    for client in opened:
        client.__exit__(None, None, None)


def files_of(page: str) -> list[str]:
    """The addresses that a page names."""
    return re.findall(r'(?:src|href)="([^"]+/static/[^"]+)"', page)


def test_a_browser_is_sent_to_the_pages_and_other_clients_get_the_start_page(client: TestClient) -> None:
    sent = client.get("/", headers=BROWSER, follow_redirects=False)
    assert (sent.status_code, sent.headers["Location"], sent.headers["Vary"]) == (307, "/ui/", "Accept")
    for accept in ("*/*", "application/json", "text/html;q=0.5,application/json"):
        answer = client.get("/", headers={"Accept": accept}, follow_redirects=False)
        assert (answer.status_code, "POST /prune-sample" in answer.text) == (200, True)


def test_the_pages_can_be_turned_off(served: Callable[..., TestClient]) -> None:
    client = served(ui=False)
    assert client.get("/ui/").status_code == 404
    assert client.get("/", headers=BROWSER).status_code == 200


def test_every_address_of_the_pages_is_the_same_document_with_the_modules_of_its_view(client: TestClient) -> None:
    for path, view in (("", "models"), ("models/shapes-sit", "model"), ("jobs", "jobs"), ("jobs/01", "job")):
        answer = client.get(f"/ui/{path}")
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        views = {name.partition("/views/")[2] for name in files_of(answer.text) if "/views/" in name}
        own = {f"{view}/{file.name}" for file in (STATIC / "views" / view).glob("*.js")}
        assert views == {f"{view}.js", *own}
    assert client.get("/ui", follow_redirects=False).headers["Location"] == "/ui/"


def test_a_page_may_load_from_the_service_alone_and_run_no_script_of_its_own(client: TestClient) -> None:
    answer = client.get("/ui/")
    policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\son\w+=|\sstyle=", answer.text)


def test_a_page_is_revalidated_and_its_files_are_kept_for_good(client: TestClient) -> None:
    page = client.get("/ui/")
    assert page.headers["Cache-Control"] == "no-cache"
    again = client.get("/ui/", headers={"If-None-Match": page.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert len(files_of(page.text)) > 10
    for path in files_of(page.text):
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["Content-Type"].partition(";")[0] in ("text/javascript", "text/css")


def test_files_are_compressed(client: TestClient) -> None:
    (uplot,) = (path for path in files_of(client.get("/ui/").text) if path.endswith("uplot.js"))
    answer = client.get(uplot, headers={"Accept-Encoding": "br"})
    assert answer.headers["Content-Encoding"] == "br"


@pytest.mark.parametrize("path", ["0/app.js", "{version}/nothing.js", "{version}/../app.py", "{version}/%2e%2e/app.py"])
def test_what_is_no_file_of_this_version_is_not_found(client: TestClient, path: str) -> None:
    version = files_of(client.get("/ui/").text)[0].split("/")[3]
    answer = client.get(f"/ui/static/{path.format(version=version)}")
    assert answer.status_code == 404 or "<title>" in answer.text  # a client may shorten `..`, to an address of a page
    assert "Starlette" not in answer.text


def test_paths_of_the_pages_begin_with_the_prefix_of_a_proxy(served: Callable[..., TestClient]) -> None:
    client = served(root_path="/tail")
    assert client.get("/tail/", headers=BROWSER).headers["Location"] == "/tail/ui/"
    files = files_of(client.get("/tail/ui/jobs").text)
    assert files
    assert all(path.startswith("/tail/ui/static/") for path in files)
    assert client.get(files[0]).status_code == 200


def test_the_pages_cannot_be_the_prefix(settings: Settings) -> None:
    with pytest.raises(StartError, match="has its own /ui"):
        create_app(settings.model_copy(update={"root_path": "/ui"}))


def test_the_pages_are_no_part_of_the_contract(client: TestClient) -> None:
    assert not [path for path in client.get("/openapi.json").json()["paths"] if path.startswith("/ui")]


def test_the_libraries_of_the_pages_are_the_documented_ones_and_small() -> None:
    rows = dict(re.findall(r"^\| `([^`]+)` .* `([0-9a-f]{64})` \|$", (VENDOR / "README.md").read_text(), re.MULTILINE))
    here = {path.name: path.read_bytes() for path in VENDOR.iterdir() if path.suffix in (".js", ".css")}
    assert {name: hashlib.sha256(content).hexdigest() for name, content in here.items()} == rows
    assert sum(map(len, here.values())) < MOST_BYTES
