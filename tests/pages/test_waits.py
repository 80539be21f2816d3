"""A service without a worker: what pages say while they wait, where a job stands, and jobs that are no more."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.end_to_end.stack import Stack, running
from tests.pages.browser import PHONE, assert_accessible, assert_accessible_in_both_themes, assert_fits, program, shot
from tests.pages.conftest import REGISTRY
from tests.pages.jobs import MODEL, QUICK, SECONDS, expect_status, seen, start, unseen

WAITS = "What this page waits for"
GONE = {"type": "urn:tailprune:problem:unknown-job", "title": "No such job", "status": 404, "detail": "No such job."}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service with the shipped models, and no worker."""
    program()
    with running(tmp_path_factory.mktemp("idle"), workers=0, TAILPRUNE_REGISTRY=str(REGISTRY)) as stack:
        yield stack


def no_worker(page: Page) -> Locator:
    """What a page that waits says where there is no worker."""
    return page.get_by_role("region", name=WAITS).get_by_text("No worker is running")


@pytest.mark.parametrize(
    "path", ["/ui/", f"/ui/models/{MODEL}", f"/ui/compare?a={MODEL}", f"/ui/new?model={MODEL}&threshold=0.05"]
)
def test_a_page_without_a_worker_says_so_and_how_to_start_one(page: Page, path: str) -> None:
    page.goto(path)
    waits = page.get_by_role("region", name=WAITS)
    expect(waits.get_by_text("No worker is running")).to_be_visible()
    expect(waits.get_by_text("tailprune serve")).to_be_visible()
    expect(waits.get_by_text("waiting for a worker: none is running").first).to_be_visible()
    expect(page.locator("#app > [role=status]")).to_have_text("No worker is running")


def test_what_is_waited_for_is_accessible_in_both_themes_and_fits_a_narrow_screen(page: Page) -> None:
    page.goto("/ui/")
    expect(no_worker(page)).to_be_visible()
    assert_accessible_in_both_themes(page, "waits")
    page.set_viewport_size(PHONE)
    assert_fits(page)
    page.goto(f"/ui/models/{MODEL}")
    expect(no_worker(page)).to_be_visible()
    assert_accessible_in_both_themes(page, "waits-phone")


def test_what_waits_is_gone_with_the_page_that_waited(page: Page) -> None:
    page.goto("/ui/")
    expect(page.get_by_role("region", name=WAITS)).to_be_visible()
    page.get_by_role("link", name="Jobs", exact=True).click()
    expect(page.get_by_role("heading", level=1, name="Jobs")).to_be_visible()
    expect(page.get_by_role("region", name=WAITS)).to_have_count(0)


def test_the_list_of_jobs_says_that_there_is_no_worker(page: Page) -> None:
    page.goto("/ui/jobs")
    expect(page.get_by_text("Jobs wait until one is.")).to_be_visible()
    expect(page.get_by_text("tailprune serve")).to_be_visible()


def test_the_place_of_a_job_in_its_queue_moves_while_it_waits(page: Page, stack: Stack) -> None:
    first, second, third = (start(stack, "/prune-sample", **QUICK, threshold=0.2, seed=seed) for seed in range(3))
    page.goto(f"/ui/jobs/{third}")
    expect(page.get_by_text(re.compile("none is running; 2 jobs before it"))).to_be_visible()
    assert_accessible(page)
    shot(page, "job-queued")
    stack.http.delete(f"/jobs/{first}").raise_for_status()
    expect(page.get_by_text(re.compile("none is running; 1 job before it"))).to_be_visible()
    stack.http.delete(f"/jobs/{second}").raise_for_status()
    expect(page.get_by_text("Waiting for a worker: none is running.")).to_be_visible()
    stack.http.delete(f"/jobs/{third}").raise_for_status()


def test_the_focus_goes_to_what_follows_a_button_that_is_no_more(page: Page, stack: Stack) -> None:
    page.goto(f"/ui/jobs/{start(stack, '/prune-sample', **QUICK, threshold=0.2, seed=5)}")
    page.get_by_role("button", name="Cancel").press("Enter")
    expect(page.get_by_text("This job was cancelled")).to_be_visible()
    expect(page.get_by_role("link", name="Change and run again")).to_be_focused()
    start(stack, "/prune-sample", **QUICK, threshold=0.2, seed=6)
    page.goto("/ui/jobs?status=queued")
    page.get_by_role("button", name=re.compile("Cancel")).press("Enter")
    expect(page.get_by_role("button", name=re.compile("Cancel"))).to_have_count(0)
    expect(page.get_by_role("link", name="show all jobs")).to_be_focused()


@pytest.mark.complains("404")
def test_a_job_that_is_deleted_while_its_page_is_not_seen_says_so_with_a_way_out(page: Page, stack: Stack) -> None:
    job = start(stack, "/prune-sample", **QUICK, threshold=0.2, seed=7)
    page.goto(f"/ui/jobs/{job}")
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    unseen(page)
    stack.http.delete(f"/jobs/{job}").raise_for_status()
    stack.http.delete(f"/jobs/{job}", params={"purge": True}).raise_for_status()
    seen(page)
    expect(page.get_by_text("This job is no more")).to_be_visible()
    expect(page.get_by_text("connection")).to_have_count(0)
    expect(page.get_by_role("link", name="Change and run again")).to_be_visible()
    assert_accessible(page)
    shot(page, "job-gone")
    page.get_by_role("link", name="Jobs that there are").click()
    expect(page.get_by_role("heading", level=1, name="Jobs")).to_be_visible()


@pytest.mark.complains("503")
def test_a_job_whose_events_are_refused_is_followed_all_the_same(page: Page, stack: Stack) -> None:
    page.route("**/events", lambda route: route.fulfill(status=503))
    job = start(stack, "/prune-sample", **QUICK, threshold=0.2, seed=8)
    page.goto(f"/ui/jobs/{job}")
    expect(page.get_by_text(re.compile("Waiting for a worker"))).to_be_visible()
    expect(page.get_by_text("connection")).to_have_count(0)
    stack.http.delete(f"/jobs/{job}").raise_for_status()
    expect(page.get_by_text("This job was cancelled")).to_be_visible()
    page.goto("about:blank")


@pytest.mark.complains("404")
def test_a_job_that_is_deleted_under_its_page_is_not_a_lost_connection(page: Page, stack: Stack) -> None:
    job = start(stack, "/prune-sample", **QUICK, threshold=0.2, seed=10)
    page.goto(f"/ui/jobs/{job}")
    expect(page.get_by_text(re.compile("Waiting for a worker"))).to_be_visible()
    page.route(re.compile(rf"/jobs/{job}(/events)?$"), lambda route: route.fulfill(status=404, json=GONE))
    expect(page.get_by_text("This job is no more")).to_be_visible()
    expect(page.get_by_text("connection")).to_have_count(0)


def test_what_waits_goes_on_by_itself_once_there_is_a_worker(page: Page, stack: Stack) -> None:
    first = start(stack, "/prune-sample", **QUICK, threshold=0.2, seed=9)
    page.goto(f"/ui/models/{MODEL}")
    expect(no_worker(page)).to_be_visible()
    worker = stack.start_worker()
    try:
        expect(no_worker(page)).to_have_count(0, timeout=SECONDS)
        expect(page.get_by_role("application").first).to_be_visible(timeout=SECONDS)
        expect(page.get_by_role("region", name=WAITS)).to_have_count(0, timeout=SECONDS)
        page.goto(f"/ui/jobs/{first}")
        expect_status(page, "succeeded")
    finally:
        worker.stop()
        stack.workers.remove(worker)
