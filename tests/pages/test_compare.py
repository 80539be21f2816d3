"""The view that compares two models, two times or two jobs."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.end_to_end.stack import Stack
from tests.pages.browser import PHONE, assert_accessible, assert_fits, both_themes, shot


def open_comparison(page: Page, query: str) -> None:
    page.goto(f"/ui/compare?{query}")
    expect(page.get_by_role("heading", level=2, name="Numbers")).to_be_visible()
    expect(page.get_by_role("application").first).to_be_visible()


@both_themes
def test_a_comparison_is_accessible_in_both_themes(page: Page, theme: str) -> None:
    page.emulate_media(color_scheme=theme)
    open_comparison(page, "a=shapes-sit&b=shapes-dit")
    assert_accessible(page)
    shot(page, f"compare-{theme}")


def test_a_comparison_fits_a_narrow_screen(page: Page) -> None:
    page.set_viewport_size(PHONE)
    open_comparison(page, "a=shapes-sit&b=shapes-dit")
    assert_fits(page)
    shot(page, "compare-phone")


def test_both_sides_have_the_numbers_of_the_interface_and_one_range_of_colours(page: Page, stack: Stack) -> None:
    open_comparison(page, "a=shapes-sit&b=shapes-mg")
    rows = {
        row.locator("th").inner_text(): row.locator("td").all_inner_texts() for row in page.locator("tbody tr").all()
    }
    for place, model in enumerate(("shapes-sit", "shapes-mg")):
        expected = stack.http.get(f"/metrics/{model}", headers={"Prefer": "wait=60"}).json()
        assert float(rows["nPR, mean"][place]) == pytest.approx(expected["npr"], abs=0.000051)
        for name, key in (("mean", "mean"), ("least", "min"), ("greatest", "max")):
            assert float(rows[f"Cosine, {name}"][place]) == pytest.approx(expected["cosine"][key], abs=0.000051)
    scales = page.locator(".scale").all_inner_texts()
    assert scales[0] == scales[1]


def test_two_times_of_one_model_are_in_the_address(page: Page) -> None:
    open_comparison(page, "a=shapes-sit&b=shapes-sit&tb=1")
    expect(page.get_by_role("columnheader", name="shapes-sit, t = 1")).to_be_visible()
    first = page.get_by_role("spinbutton", name="Time t").first
    first.fill("0.5")
    first.press("Enter")
    expect(page.get_by_role("columnheader", name="shapes-sit, t = 0.5")).to_be_visible()
    expect(page).to_have_url(re.compile(r"ta=0\.5"))


def test_a_time_between_the_steps_is_shown(page: Page) -> None:
    open_comparison(page, "a=shapes-sit&b=shapes-sit&ta=0.333&tb=0.34")
    for time in ("0.333", "0.34"):
        expect(page.get_by_role("columnheader", name=f"shapes-sit, t = {time}", exact=True)).to_be_visible()


def test_a_side_of_one_vector_leaves_the_colours_to_the_other(page: Page, stack: Stack) -> None:
    page.route("**/shapes-dit/vectors?*part=y*", lambda route: route.continue_(url=f"{route.request.url}&label=3"))
    open_comparison(page, "a=shapes-sit&b=shapes-dit")
    least = stack.http.get("/metrics/shapes-sit", headers={"Prefer": "wait=60"}).json()["cosine"]["min"]
    for scale in page.locator(".scale").all_inner_texts():
        assert f"{least:.3f}" in scale


def test_another_model_is_chosen(page: Page) -> None:
    open_comparison(page, "a=shapes-sit&b=shapes-dit")
    page.get_by_role("combobox", name="Model").nth(1).select_option("shapes-mdt")
    expect(page.get_by_role("columnheader", name="shapes-mdt, t = 999")).to_be_visible()
    expect(page).to_have_url(re.compile(r"b=shapes-mdt"))


def test_two_jobs_are_side_by_side_with_their_pictures(page: Page, stack: Stack) -> None:
    jobs = [
        stack.http.post(
            "/prune-sample",
            json={"model": "shapes-sit", "threshold": threshold, "labels": [0], "steps": 4},
            headers={"Prefer": "wait=60"},
        ).json()
        for threshold in (0.02, 0.2)
    ]
    page.goto(f"/ui/compare?a={jobs[0]['id']}&b={jobs[1]['id']}")
    expect(page.get_by_role("img", name=re.compile("Samples of"))).to_have_count(2)
    for job in jobs:
        variant = job["result"]["variants"][1]
        row = page.get_by_role("row", name=re.compile(f"^{re.escape(variant['name'])} "))
        expect(row).to_contain_text(f"{100 * variant['removed']['fraction']:.1f} %")
    assert_accessible(page)
    shot(page, "compare-jobs")
