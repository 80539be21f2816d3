"""An edit: its form, and the rows of its job by strength, with the verdicts of the classifier."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.end_to_end.stack import Stack
from tests.pages.browser import PHONE, assert_accessible, assert_accessible_in_both_themes, assert_fits, shot
from tests.pages.jobs import MODEL, SECONDS, cell, expect_status, finished, request_of

EDIT = {
    "model": MODEL,
    "source": [1, 12],
    "target": [0],
    "labels": [1, 12],
    "strength": [0, 0.5, 1],
    "steps": 6,
    "directions": 16,
}


def test_an_edit_is_made_from_its_form(page: Page, stack: Stack) -> None:
    page.goto(f"/ui/new?model={MODEL}&kind=edit")
    page.get_by_role("combobox", name="Lead towards a class").fill("Blue Star")
    page.get_by_role("combobox", name="Lead towards a class").press("Enter")
    page.get_by_role("list", name="Chosen: Lead towards a class").get_by_role("button").first.click()
    page.get_by_label("Strengths").fill("0, 1, -0.5")
    page.get_by_role("radio", name="k components").check()
    page.get_by_label("Components to move").fill("24")
    page.get_by_role("spinbutton", name="Steps", exact=True).fill("6")
    shown = request_of(page)
    assert shown == {
        "model": MODEL, "source": [0], "target": [55], "strength": [0, 1, -0.5], "components": 24, "steps": 6,
    }  # fmt: skip
    assert_accessible(page)
    page.get_by_role("button", name="Start the job").click()
    expect(page).to_have_url(re.compile(r"/ui/jobs/\w{26}"))
    expect_status(page, "succeeded")
    expect(page.get_by_role("heading", name="Samples by strength")).to_be_visible(timeout=SECONDS)
    job = stack.job(page.url.split("/")[-1].split("?")[0])
    assert {name: job["request"][name] for name in shown} == shown


def test_the_rows_of_an_edit_have_the_verdicts_of_the_classifier(page: Page, stack: Stack) -> None:
    job = finished(stack, "/edit", **EDIT)
    page.goto(f"/ui/jobs/{job['id']}")
    rows = page.get_by_role("table", name="The samples by strength")
    expect(rows.get_by_role("rowheader")).to_have_text(["0", "0.5", "1"])
    for row, variant in zip(rows.get_by_role("row").all()[1:], job["result"]["variants"], strict=True):
        for place, image in enumerate(variant["images"]):
            expect(row.get_by_role("cell").nth(place)).to_contain_text(image["verdict"]["class_name"])
    last = job["result"]["variants"][-1]
    name = last["name"]
    expect(cell(page, "What each strength does", name, "Probability of the target")).to_have_text(
        f"{100 * last['target']:.1f} %"
    )
    expect(page.locator(".page-head").get_by_role("link", name="Compare")).to_have_count(0)
    assert_accessible_in_both_themes(page, "edit-job")


def test_an_edit_fits_on_a_phone(page: Page, stack: Stack) -> None:
    page.set_viewport_size({"width": PHONE["width"], "height": PHONE["height"]})
    job = finished(stack, "/edit", **EDIT)
    page.goto(f"/ui/jobs/{job['id']}")
    expect(page.get_by_role("heading", name="Samples by strength")).to_be_visible()
    assert_fits(page)
    shot(page, "edit-job-phone")
    page.get_by_role("link", name="Change and run again").click()
    expect(page.get_by_role("combobox", name="Lead towards a class")).to_be_visible()
    assert request_of(page)["directions"] == 16
    assert_fits(page)
    shot(page, "edit-form-phone")
