"""The list of jobs over its connection: what it holds, in which order, and how many connections pages take."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.end_to_end.stack import Stack
from tests.pages.browser import PHONE, assert_accessible, assert_fits, shot
from tests.pages.jobs import MODEL, QUICK, finished, seen, start, unseen


@pytest.fixture(scope="module")
def sampled(stack: Stack) -> dict[str, Any]:
    """A job that somebody asked for."""
    return finished(stack, "/prune-sample", **QUICK, threshold=[0.03, 0.2], seed=77)


@pytest.fixture
def events(page: Page) -> list[Route]:
    """The connections of the page for events, which wait until the test answers them."""
    waiting: list[Route] = []
    page.route("**/events", lambda route: waiting.append(route))
    return waiting


def told(page: Page, route: Route, *events: tuple[str, Any]) -> None:
    """Answers a connection with events; the list is not loaded again when it ends."""
    page.route(re.compile(r"(?<!ui)/jobs\?"), lambda _: None)
    body = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)
    route.fulfill(status=200, content_type="text/event-stream", body=body)


def summaries(stack: Stack, count: int) -> list[dict[str, Any]]:
    """New jobs as the service would tell of them, oldest first, each later than every real one."""
    (job,) = stack.http.get("/jobs", params={"kind": "prune-sample", "limit": 1}).json()["jobs"]
    return [{**job, "id": f"7{place:025d}", "title": f"job {place}"} for place in range(count)]


def test_a_live_list_holds_a_page_newest_first_and_leads_to_the_others(
    page: Page, stack: Stack, sampled: dict[str, Any], events: list[Route]
) -> None:
    page.goto("/ui/jobs?kind=prune-sample")
    expect(page.locator(f"a[href$='{sampled['id']}']")).to_be_visible()
    jobs = summaries(stack, 30)
    shuffled = jobs.copy()
    random.Random(0).shuffle(shuffled)
    told(page, events[0], *(("job", job) for job in shuffled))
    titles = page.locator(".job-line a")
    expect(titles).to_have_text([job["title"] for job in jobs[:4:-1]])
    address = page.get_by_role("link", name="Older").get_attribute("href")
    assert address is not None
    assert f"cursor={jobs[5]['id']}" in address


def test_a_job_that_no_longer_matches_leaves_the_list(
    page: Page, stack: Stack, sampled: dict[str, Any], events: list[Route]
) -> None:
    page.goto("/ui/jobs?status=succeeded&kind=prune-sample")
    row = page.locator(f"a[href$='{sampled['id']}']")
    expect(row).to_be_visible()
    (job,) = [each for each in stack.http.get("/jobs").json()["jobs"] if each["id"] == sampled["id"]]
    told(page, events[0], ("job", {**job, "status": "cancelled"}))
    expect(row).to_have_count(0)


def test_what_pages_compute_for_themselves_does_not_bury_what_was_asked_for(
    page: Page, stack: Stack, sampled: dict[str, Any]
) -> None:
    query = {"threshold": 0.0123}
    stack.http.get(f"/metrics/{MODEL}/removal", params=query, headers={"Prefer": "wait=60"}).raise_for_status()
    (removal,) = stack.http.get("/jobs", params={"kind": "removal", "limit": 1}).json()["jobs"]
    statistics = page.locator(f"a[href$='{removal['id']}']")
    page.goto("/ui/jobs")
    expect(page.locator(f"a[href$='{sampled['id']}']")).to_be_visible()
    expect(statistics).to_have_count(0)
    page.get_by_role("link", name="show all jobs").click()
    expect(statistics).to_be_visible()
    expect(page).to_have_url(re.compile("kind=all"))
    page.reload()
    expect(page.get_by_label("Kind")).to_have_value("all")
    expect(statistics).to_be_visible()
    assert_accessible(page)
    page.set_viewport_size(PHONE)
    assert_fits(page)
    shot(page, "jobs-all-phone")


@pytest.mark.complains("429")
def test_a_list_whose_events_are_refused_says_so_and_is_loaded_again(page: Page, stack: Stack) -> None:
    page.route("**/events", lambda route: route.fulfill(status=429))
    page.goto("/ui/jobs")
    expect(page.get_by_text("not live", exact=True)).to_be_visible()
    job = start(stack, "/prune-sample", **QUICK, threshold=0.11, seed=21)
    expect(page.locator(f"a[href$='{job}']")).to_be_visible()
    page.goto("about:blank")  # the page asks for events again and again


def test_pages_that_are_not_seen_hold_no_connection(page: Page, stack: Stack, sampled: dict[str, Any]) -> None:
    others = [page.context.new_page() for _ in range(6)]
    for other in others:
        other.goto("/ui/jobs")
        expect(other.get_by_text("live", exact=True)).to_be_visible()
        unseen(other)
    page.goto("/ui/jobs")  # a browser has six connections for a host
    expect(page.locator(f"a[href$='{sampled['id']}']")).to_be_visible()
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    job = start(stack, "/prune-sample", **QUICK, threshold=0.11, seed=22)
    expect(others[0].locator(f"a[href$='{job}']")).to_have_count(0)
    seen(others[0])
    expect(others[0].locator(f"a[href$='{job}']")).to_be_visible()
    for other in others:
        other.close()
