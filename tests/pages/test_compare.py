"""The view that compares two models, two times or two jobs."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.end_to_end.stack import Stack
from tests.pages.browser import PHONE, assert_accessible, assert_accessible_in_both_themes, assert_fits, shot
from tests.pages.jobs import MODEL, QUICK, finished


def open_comparison(page: Page, query: str) -> None:
    page.goto(f"/ui/compare?{query}")
    expect(page.get_by_role("heading", level=2, name="Numbers")).to_be_visible()
    expect(page.get_by_role("application").first).to_be_visible()


def test_a_comparison_is_accessible_in_both_themes(page: Page) -> None:
    open_comparison(page, "a=shapes-sit&b=shapes-dit")
    assert_accessible_in_both_themes(page, "compare")


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


def test_the_pairs_of_both_heatmaps_and_of_their_difference_are_in_tables(page: Page, stack: Stack) -> None:
    open_comparison(page, "a=shapes-sit&b=shapes-dit")
    values = {}
    for model in ("shapes-sit", "shapes-dit"):
        cosines = stack.http.get(f"/metrics/{model}/cosine?order=class", headers={"Prefer": "wait=60"}).json()["values"]
        values[model] = {round(row[column], 4) for at, row in enumerate(cosines) for column in range(at)}
    for model in values:
        page.get_by_text(re.compile(f"^Data: the pairs of {model}, .* most and least alike")).click()
        table = page.get_by_role("table", name=re.compile(f"the pairs of {model}"))
        expect(table).to_be_visible()
        shown = [float(text) for text in table.locator("tbody td:last-child").all_inner_texts()]
        assert (shown[0], shown[-1]) == pytest.approx((max(values[model]), min(values[model])), abs=0.00011)
    page.get_by_text("Data: the pairs whose cosines differ most and least").click()
    cells = page.get_by_role("table", name="the pairs whose cosines differ").locator("tbody tr").first.locator("td")
    expect(cells).to_have_count(4)
    _, first, second, difference = cells.all_inner_texts()
    assert abs(float(first) - float(second)) == pytest.approx(float(difference), abs=0.00011)


def test_the_part_the_time_and_the_class_of_a_model_go_to_its_comparison(page: Page) -> None:
    page.goto(f"/ui/models/{MODEL}?t=0.333&class=17")
    page.get_by_role("main").get_by_role("link", name="Compare").click()
    expect(page.get_by_role("columnheader", name=f"{MODEL}, t = 0.333").first).to_be_visible()
    expect(page.get_by_role("combobox", name="Class")).to_have_value("17")
    page.goto(f"/ui/models/{MODEL}?part=y")
    page.get_by_role("main").get_by_role("link", name="Compare").click()
    expect(page.get_by_role("columnheader", name=f"{MODEL}, y").first).to_be_visible()
    expect(page.get_by_role("spinbutton", name="Time t")).to_have_count(0)


def test_the_name_of_a_field_is_not_broken_on_a_narrow_screen(page: Page) -> None:
    page.set_viewport_size(PHONE)
    open_comparison(page, "a=shapes-sit&b=shapes-dit")
    box = page.locator(".inline-field label", has_text="Class").bounding_box()
    assert box is not None
    assert box["height"] < 30


@pytest.fixture(scope="module")
def jobs(stack: Stack) -> dict[str, dict[str, Any]]:
    """Two jobs of the same noise, and one of another."""
    return {
        "weak": finished(stack, "/prune-sample", **QUICK, threshold=[0.02]),
        "strong": finished(stack, "/prune-sample", **QUICK, threshold=[0.2]),
        "other": finished(stack, "/prune-sample", **QUICK | {"labels": [3]}, threshold=[0.2], seed=4),
    }


def test_two_jobs_are_side_by_side_with_their_pictures(page: Page, jobs: dict[str, dict[str, Any]]) -> None:
    page.goto(f"/ui/compare?a={jobs['weak']['id']}&b={jobs['strong']['id']}")
    pictures = page.get_by_role("img", name=re.compile("Samples of"))
    expect(pictures).to_have_count(2)
    assert pictures.first.evaluate("(e) => getComputedStyle(e).imageRendering") == "pixelated"
    for name in ("weak", "strong"):
        variant = jobs[name]["result"]["variants"][1]
        row = page.get_by_role("row", name=re.compile(f"^{re.escape(variant['name'])} "))
        expect(row).to_contain_text(f"{100 * variant['removed']['fraction']:.1f} %")
    assert_accessible(page)
    shot(page, "compare-jobs")
    page.set_viewport_size(PHONE)
    assert_fits(page)


def test_jobs_are_picked_from_those_there_are(page: Page, jobs: dict[str, dict[str, Any]]) -> None:
    page.goto("/ui/compare")
    page.get_by_role("radio", name="Jobs and studies").check(force=True)
    page.get_by_role("combobox", name="First job").select_option(jobs["weak"]["id"])
    page.get_by_role("combobox", name="Second job").select_option(jobs["strong"]["id"])
    expect(page.get_by_role("heading", level=2, name="Difference of the pictures")).to_be_visible()
    expect(page).to_have_url(re.compile(rf"a={jobs['weak']['id']}.*b={jobs['strong']['id']}"))
    page.get_by_role("radio", name="Models").check(force=True)
    expect(page.get_by_role("heading", level=2, name="Numbers")).to_be_visible()


def test_a_job_leads_to_its_comparison_with_another(page: Page, jobs: dict[str, dict[str, Any]]) -> None:
    page.goto(f"/ui/jobs/{jobs['weak']['id']}")
    page.get_by_role("main").get_by_role("link", name="Compare").click()
    expect(page.get_by_role("combobox", name="First job")).to_have_value(jobs["weak"]["id"])
    expect(page.get_by_role("combobox", name="Second job")).to_have_value("")


def test_the_pictures_of_two_jobs_are_subtracted(page: Page, jobs: dict[str, dict[str, Any]]) -> None:
    page.goto(f"/ui/compare?a={jobs['weak']['id']}&b={jobs['strong']['id']}")
    differences = page.get_by_role("img", name=re.compile(r", difference, mean [\d.]+ %"))
    page.get_by_role("heading", name="Difference of the pictures").scroll_into_view_if_needed()  # they are lazy
    expect(differences).to_have_count(len(QUICK["labels"]))
    assert "mean 0.00 %" not in (differences.first.get_attribute("aria-label") or "")
    for side in ("first", "second"):
        page.get_by_role("combobox", name=f"Prune of the {side}").select_option("baseline")
    expect(page.get_by_role("img", name=re.compile(r", difference, mean 0\.00 %$"))).to_have_count(len(QUICK["labels"]))
    expect(page).to_have_url(re.compile("va=baseline&vb=baseline"))


def test_pictures_of_other_noise_are_not_subtracted_and_it_is_said_why(
    page: Page, jobs: dict[str, dict[str, Any]]
) -> None:
    page.goto(f"/ui/compare?a={jobs['weak']['id']}&b={jobs['other']['id']}")
    expect(page.get_by_text("seed: 0 and 4")).to_be_visible()
    expect(page.get_by_text("labels: 0, 11 and 3")).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("^The difference"))).to_have_count(0)


def test_two_studies_are_on_the_same_axes_with_all_their_scores(page: Page, stack: Stack) -> None:
    studies = [
        finished(
            stack, "/studies", **QUICK, measures=["drift", "ssim"], grid={"thresholds": [0.03, 0.2], "sides": [side]}
        )
        for side in ("tail", "head")
    ]
    page.goto(f"/ui/compare?a={studies[0]['id']}&b={studies[1]['id']}&measure=drift")
    chart = page.get_by_role("group", name=re.compile("of both studies against"))
    for place, study in zip(("first", "second"), studies, strict=True):
        expect(chart.get_by_role("img", name=re.compile(f"^{place}, "))).to_have_count(len(study["result"]["variants"]))
        table = page.get_by_role("table", name=f"Scores of the {place} study")
        variant = study["result"]["variants"][1]
        expect(table.get_by_role("row", name=re.compile(f"^{re.escape(variant['name'])} "))).to_contain_text(
            f"{100 * variant['removed']['fraction']:.1f} %"
        )
    marks = {
        mark.evaluate("(e) => e.tagName + e.getAttribute('d')?.slice(-3)")
        for mark in page.locator(".legend .mark").all()
    }
    assert len(marks) == page.locator(".legend li").count()
    expect(chart.get_by_text("removed, %")).to_be_attached()
    expect(chart.locator(".chart-title")).to_have_count(2)
    assert_accessible_in_both_themes(page, "compare-studies")
