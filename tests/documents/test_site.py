"""The documentation as a site: it builds without a warning, its links lead somewhere, and it needs no network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Page

from documentation.pages import ROOT
from tests.pages.browser import chromium, watch

SITE = ROOT / "site"
NO_PROXY = "http://127.0.0.1:1"
"""Where nothing listens: all that would go into the network goes there."""
LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
"""Elements that load what an attribute names; of `link` it depends on `rel`."""
LOADING_RELS = ("stylesheet", "preload", "modulepreload", "prefetch", "preconnect", "dns-prefetch", "icon")

pytestmark = pytest.mark.slow


class Found(HTMLParser):
    """What a page loads, links to, and has anchors for."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and set(given.get("rel", "").split()) & set(LOADING_RELS):
            self.loaded.append(given["href"])
        if given.get(LOADING.get(tag, "")):
            self.loaded.append(given[LOADING[tag]])


@pytest.fixture(scope="module")
def pages(processes: None) -> dict[Path, Found]:
    """The pages of the site, which is made first."""
    environment = {**os.environ, "http_proxy": NO_PROXY, "https_proxy": NO_PROXY, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "documentation"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "No issues found" in said
    assert "warning" not in said.lower()
    return {page: Found(page) for page in SITE.rglob("*.html")}


def nav(entries: list[dict[str, object]]) -> Iterator[str]:
    """The pages that a navigation names."""
    for entry in entries:
        for value in entry.values():
            yield from nav(value) if isinstance(value, list) else [str(value)]


def test_every_page_of_the_navigation_is_there_and_every_document_is_in_it(pages: dict[Path, Found]) -> None:
    named = set(nav(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]))
    assert [name for name in named if not (ROOT / "build" / "documentation" / name).is_file()] == []
    documents = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}
    notebooks = {f"notebooks/{path.stem}.md" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert documents | notebooks <= named


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, Found]) -> None:
    elsewhere = {url for found in pages.values() for url in found.loaded if urlsplit(url).netloc}
    assert elsewhere == set()
    loads = re.compile(r"(?:url\(|@import)[\"' ]*(?:https?:)?//")
    assert [path for path in SITE.rglob("*.css") if loads.search(path.read_text())] == []


def test_every_link_of_a_page_leads_somewhere(pages: dict[Path, Found]) -> None:
    wrong = []
    for page, found in pages.items():
        for link in {*found.links, *found.loaded}:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or page.name == "404.html":
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            anchors = pages[target].anchors if target in pages else None
            lost = parts.fragment and anchors is not None and unquote(parts.fragment) not in anchors
            if not target.is_file() or lost:
                wrong.append(f"{page.relative_to(SITE)}: {link}")
    assert wrong == []


def test_every_operation_and_schema_of_the_contract_and_every_command_has_its_section(pages: dict[Path, Found]) -> None:
    import typer
    import yaml

    from service.cli import app

    contract = yaml.load((ROOT / "openapi.yaml").read_text(), Loader=yaml.CSafeLoader)
    operations = {call["operationId"] for methods in contract["paths"].values() for call in methods.values()}
    schemas = {f"schema-{name.lower()}" for name in contract["components"]["schemas"]}
    assert operations | schemas <= pages[SITE / "reference" / "http.html"].anchors
    commands = {f"tailprune-{name}" for name in typer.main.get_command(app).commands}  # type: ignore[attr-defined]
    assert commands <= pages[SITE / "reference" / "commands.html"].anchors


def test_every_name_of_the_library_is_in_its_reference(pages: dict[Path, Found]) -> None:
    import tailprune

    of_errors = {"Checkpoint", "CheckpointError", "ConditionTable", "Found"}
    names = {f"tailprune.{name}" for name in tailprune.__all__ if name not in of_errors}
    assert names <= pages[SITE / "reference" / "python.html"].anchors


@pytest.fixture(scope="module")
def page(pages: dict[Path, Found]) -> Iterator[Page]:
    """A page of a browser without a network, which fails the tests if a script fails."""
    faults: list[str] = []
    with chromium() as browser:
        page = browser.new_context(offline=True).new_page()
        watch(page, faults)
        page.on("request", lambda request: faults.append(request.url) if request.url.startswith("http") else None)
        yield page
    assert faults == []


def test_the_search_finds_a_word_without_a_network(page: Page) -> None:
    page.goto((SITE / "index.html").as_uri())
    page.get_by_role("button", name="Search").first.click()
    page.get_by_role("combobox", name="Search").fill("participation ratio")
    found = page.get_by_role("listbox", name="Search results").get_by_role("option")
    found.filter(has=page.locator("mark", has_text="participation ratio")).first.wait_for()


def test_formulas_are_drawn_by_the_browser_and_tabs_change_together(page: Page) -> None:
    page.goto((SITE / "docs" / "glossary.html").as_uri())
    assert page.locator("math").first.bounding_box() is not None
    page.goto((SITE / "docs" / "tutorials" / "researcher.html").as_uri())
    page.locator(".tabbed-labels").get_by_text("Command line").first.click()
    page.get_by_text("tailprune metrics shapes-repa").wait_for()
    page.get_by_text("tailprune figure shapes-repa").wait_for()
