"""In a real browser: pages of other sites and names of strangers are refused, and the pages ask for a key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from jobs.settings import Settings
from tests.end_to_end.stack import Stack, eventually
from tests.pages.browser import assert_accessible, chromium, program, shot, watch
from tests.pages.conftest import REGISTRY, WAIT_MILLISECONDS
from tests.pages.jobs import MODEL, QUICK, SECONDS, finished, start
from tests.service.keys import bearer, make_keys

NAMES = "MAP evil.example 127.0.0.1,MAP rebound.example 127.0.0.1"
"""What a browser of these tests finds where it looks these names up."""
ATTACKS = """<!doctype html><title>evil</title>
<form id="form" method="post" enctype="text/plain" target="frame" action="{service}/conditions">
  <input name="x" value="y">
</form>
<iframe name="frame"></iframe>
<img src="{service}/metrics/{model}/figures/removal?threshold=0.1&seed=77">
<script>
  const plain = {{method: "POST", mode: "no-cors", headers: {{"Content-Type": "text/plain"}}, body: "x"}};
  document.getElementById("form").submit();
  Promise.allSettled([
    fetch("{service}/conditions?by=fetch", plain),
    fetch("{service}/jobs", {{mode: "cors"}}).then((answer) => (document.body.dataset.read = answer.status)),
    fetch("{service}/models/{model}", {{method: "DELETE"}}),
  ]).then(() => (document.title = "done"));
</script>"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser that finds names of strangers on this machine."""
    with chromium(f"--host-resolver-rules={NAMES}") as browser:
        yield browser


@pytest.fixture
def evil(stack: Stack) -> Iterator[str]:
    """The address of a page of another site, which does what it can."""
    page = ATTACKS.format(service=stack.url, model=MODEL).encode()

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://evil.example:{server.server_address[1]}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.complains("net::ERR_", "blocked by CORS policy", "frame-ancestors", "403")
def test_a_page_of_another_site_starts_stores_deletes_and_reads_nothing(page: Page, stack: Stack, evil: str) -> None:
    assert stack.service is not None
    jobs = stack.http.get("/jobs", headers={"X-Request-ID": "before"}).json()
    eventually(lambda: "request_id=before" in stack.service.text, "it is logged")  # type: ignore[union-attr]
    before = len(stack.service.text)

    def answered() -> set[tuple[str, ...]]:
        """Method, path and status of each request since, as the service has logged them."""
        assert stack.service is not None
        logged = stack.service.text[before:]
        return set(re.findall(r"method=(\w+) path=(\S+) .*status=(\d+)", logged)) - {("GET", "/health/ready", "200")}

    page.goto(evil)
    expect(page).to_have_title("done")
    refused = {
        ("POST", "/conditions", "403"),
        ("GET", "/jobs", "403"),
        ("OPTIONS", f"/models/{MODEL}", "403"),
        ("GET", f"/metrics/{MODEL}/figures/removal", "403"),
    }
    eventually(lambda: answered() >= refused, f"all are refused: {answered()}")
    eventually(lambda: stack.service.text[before:].count("path=/conditions") == 2, "the form and the script")  # type: ignore[union-attr]
    assert answered() == refused
    assert page.evaluate("document.body.dataset.read") is None
    assert stack.http.get("/conditions").json()["conditions"] == []
    assert stack.http.get("/jobs").json() == jobs
    page.goto("about:blank")  # by then it has told all of its refusals


@pytest.mark.complains("421")
def test_a_name_that_a_stranger_pointed_here_leads_nowhere(page: Page, stack: Stack) -> None:
    rebound = stack.url.replace("127.0.0.1", "rebound.example")
    for path in ("/jobs", "/ui/", "/health/ready", f"/metrics/{MODEL}"):
        answer = page.goto(rebound + path)
        assert answer is not None
        assert answer.status == 421, path
        assert "rebound.example" in page.content()
    page.goto("about:blank")  # by then it has told all of its refusals


def test_the_reference_works_under_its_policy(page: Page, stack: Stack) -> None:
    page.goto("/docs")
    expect(page.get_by_text("/prune-sample").first).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("Authorize"))).to_be_visible()


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, dict[str, str]]]:
    """A stack that has keys, and the keys by name."""
    program()
    folder = tmp_path_factory.mktemp("keyed")
    keys = make_keys(Settings(data_dir=folder / "data"), reader="read", submitter="submit")
    stack = Stack(folder, TAILPRUNE_REGISTRY=str(REGISTRY))
    stack.http.headers.update(bearer(keys["submitter"]))
    try:
        stack.start()
        yield stack, keys
    finally:
        stack.stop()


@pytest.fixture
def locked(browser: Browser, keyed: tuple[Stack, dict[str, str]]) -> Iterator[Page]:
    """A page of a browser that was never here, on the service that has keys."""
    context = browser.new_context(base_url=keyed[0].url, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(WAIT_MILLISECONDS)
    expect.set_options(timeout=WAIT_MILLISECONDS)
    faults: list[str] = []
    watch(page, faults)
    yield page
    context.close()
    assert [fault for fault in faults if "401" not in fault] == [], "but that a key is needed"


def enter(page: Page, key: str) -> None:
    """Enters a key where it is asked for."""
    expect(page.get_by_role("dialog", name="This service needs a key")).to_be_visible()
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Use it").click()


def test_the_pages_ask_for_a_key_and_keep_it_for_the_tab(
    locked: Page, keyed: tuple[Stack, dict[str, str]], browser: Browser
) -> None:
    _, keys = keyed
    locked.goto("/ui/")
    expect(locked.get_by_role("dialog", name="This service needs a key")).to_be_visible()
    assert_accessible(locked)
    shot(locked, "key-dialog")
    enter(locked, "tailprune_wrong")
    expect(locked.get_by_text("The service does not know the key")).to_be_visible()
    enter(locked, keys["reader"])
    expect(locked.get_by_role("link", name=MODEL, exact=True)).to_be_visible()
    expect(locked.get_by_role("dialog")).to_have_count(0)
    locked.reload()
    expect(locked.get_by_role("link", name=MODEL, exact=True)).to_be_visible()
    assert locked.context.cookies() == []
    other = locked.context.new_page()
    other.goto("/ui/")
    expect(other.get_by_role("dialog", name="This service needs a key")).to_be_visible()
    other.close()
    locked.get_by_role("button", name="Forget the key").click()
    expect(locked.get_by_role("dialog", name="This service needs a key")).to_be_visible()


def test_without_a_key_it_is_said_what_is_needed(locked: Page) -> None:
    locked.goto("/ui/")
    locked.get_by_role("button", name="Close").click()
    expect(locked.get_by_text("this service needs a key: send it").first).to_be_visible()


def test_jobs_are_followed_and_their_pictures_and_files_are_there_with_a_key(
    locked: Page, keyed: tuple[Stack, dict[str, str]], tmp_path: Path
) -> None:
    stack, keys = keyed
    job = finished(stack, "/prune-sample", **QUICK, threshold=[0.2])
    locked.goto("/ui/jobs")
    enter(locked, keys["submitter"])
    expect(locked.get_by_text("live", exact=True)).to_be_visible()
    later = start(stack, "/prune-sample", **{**QUICK, "steps": 5}, threshold=0.1)
    row = locked.get_by_role("listitem").filter(has=locked.locator(f'a[href$="{later}"]'))
    expect(row.get_by_text("succeeded", exact=True)).to_be_visible(timeout=SECONDS)
    locked.goto(f"/ui/jobs/{job['id']}")
    picture = locked.locator(".picture img").first
    expect(picture).to_have_attribute("src", re.compile("^blob:"))
    assert picture.evaluate("async (image) => (await image.decode(), image.naturalWidth)") > 0
    locked.get_by_role("radio", name="Difference").check(force=True)
    expect(locked.get_by_text(re.compile(r"^mean \d")).first).to_be_visible()
    if (all_files := locked.get_by_role("button", name=re.compile(r"Show all \d"))).count():
        all_files.click()
    with locked.expect_download() as download:
        locked.get_by_role("link", name="grid.png", exact=True).click()
    saved = tmp_path / "grid.png"
    download.value.save_as(saved)
    assert saved.read_bytes() == stack.artifact(job, "grid.png")
    assert download.value.suggested_filename == "grid.png"
