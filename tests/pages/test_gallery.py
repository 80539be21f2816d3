"""The gallery of a job: what it fetches, what its pictures are called, and names that would harm a careless page."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.end_to_end.stack import Stack
from tests.pages.browser import assert_accessible, shot
from tests.pages.jobs import QUICK, finished

HOSTILE = "<img src=x onerror='window.harmed = true'>"


@pytest.fixture(scope="module")
def sampled(stack: Stack) -> dict[str, Any]:
    """A job with two prunes and two classes."""
    return finished(stack, "/prune-sample", **QUICK, threshold=[0.03, 0.2])


def show(page: Page, job: dict[str, Any], query: str = "") -> None:
    """Opens the page of a job as if the service had it."""
    body = json.dumps(job)
    path = re.compile(rf"(?<!ui)/jobs/{job['id']}$")
    page.route(path, lambda route: route.fulfill(status=200, content_type="application/json", body=body))
    page.goto(f"/ui/jobs/{job['id']}{query}")
    expect(page.get_by_role("heading", name="Gallery")).to_be_visible()


def with_images(job: dict[str, Any], change: Any) -> dict[str, Any]:
    """The same job with other images under each of its prunes."""
    result = job["result"]
    variants = [{**each, "images": change(each["images"])} for each in result["variants"]]
    return {**job, "result": {**result, "variants": variants}}


def test_of_many_pictures_only_those_that_are_nearly_seen_are_fetched(
    page: Page, stack: Stack, sampled: dict[str, Any]
) -> None:
    picture = stack.artifact(sampled, sampled["result"]["variants"][0]["images"][0]["artifact"])
    links = dict(sampled["links"]["artifacts"])

    def many(images: list[dict[str, Any]]) -> list[dict[str, Any]]:
        made = [{**images[0], "sample": place, "artifact": f"{place} {images[0]['artifact']}"} for place in range(400)]
        links.update(
            {each["artifact"]: f"{links[images[0]['artifact']]}?place={place}" for place, each in enumerate(made)}
        )
        return made

    job = with_images(sampled, many)
    fetched: set[str] = set()

    def answer(route: Route) -> None:
        fetched.add(route.request.url)
        route.fulfill(status=200, content_type="image/png", body=picture)

    page.route(re.compile(r"\?place="), answer)
    show(page, {**job, "links": {**job["links"], "artifacts": links}})
    page.get_by_role("button", name="Show all 400 samples").press("Enter")
    expect(page.get_by_role("button", name="Enlarge")).to_have_count(400)
    expect(page.get_by_role("button", name=re.compile("sample 25, unpruned"))).to_be_focused()
    page.get_by_role("button", name=re.compile("sample 400, unpruned")).scroll_into_view_if_needed()
    expect(page.get_by_role("img", name=re.compile("sample 400, unpruned"))).to_have_js_property("complete", value=True)
    page.wait_for_load_state("networkidle")
    assert any("place=399" in url for url in fetched)
    assert len(fetched) < 400  # of 1,200


def test_a_picture_is_called_by_what_it_shows(page: Page, sampled: dict[str, Any]) -> None:
    page.goto(f"/ui/jobs/{sampled['id']}?variant=tail+0.2")
    expect(
        page.get_by_role("button", name="Enlarge red circle, unpruned red circle, tail 0.2", exact=True)
    ).to_be_visible()
    (button, picture) = (page.locator(".picture-pair").first, page.get_by_role("img", name="red circle, unpruned"))
    whole, left = button.bounding_box(), picture.bounding_box()
    assert whole is not None
    assert left is not None
    assert left["x"] - whole["x"] < 4  # nothing takes the place of a picture
    page.get_by_role("radio", name="Difference").check(force=True)
    named = re.compile(r"^Enlarge red circle, difference, mean \d+\.\d\d %$")
    expect(page.get_by_role("button", name=named)).to_be_visible()


def test_every_one_of_several_kept_prunes_is_reached(page: Page, stack: Stack) -> None:
    job = finished(stack, "/prune-sample", **QUICK, keep=[16, 32, 64])
    page.goto(f"/ui/jobs/{job['id']}")
    slider = page.get_by_role("slider", name=re.compile("Prune:"))
    for name in ("keep 16", "keep 32", "keep 64"):
        expect(page.get_by_role("img", name=f"red circle, {name}")).to_be_visible()
        expect(slider).to_have_attribute("aria-valuetext", re.compile(f"^{name}, removes"))
        slider.press("ArrowRight")
    page.get_by_label("Or choose it").select_option("keep 16")
    expect(page.get_by_role("img", name="red circle, keep 16")).to_be_visible()
    page.get_by_role("radio", name="All").check(force=True)
    table = page.get_by_role("table", name="The samples under every prune")
    expect(table.get_by_role("rowheader")).to_have_count(4)


def test_one_class_has_a_gallery(page: Page, sampled: dict[str, Any]) -> None:
    show(page, with_images(sampled, lambda images: images[:1]))
    expect(page.get_by_role("button", name="Enlarge")).to_have_count(1)
    page.get_by_role("button", name="Enlarge").click()
    expect(page.get_by_role("dialog", name="red circle")).to_be_visible()
    expect(page.get_by_role("button", name="Next sample")).to_have_count(0)
    assert_accessible(page)


def test_classes_of_one_name_are_told_apart_by_their_numbers(page: Page, sampled: dict[str, Any]) -> None:
    show(page, with_images(sampled, lambda images: [{**each, "class_name": "crane"} for each in images]))
    expect(page.get_by_role("img", name="crane (0), unpruned")).to_be_visible()
    expect(page.get_by_role("img", name="crane (11), unpruned")).to_be_visible()
    page.get_by_role("radio", name="All").check(force=True)
    for name in ("crane (0)", "crane (11)"):
        expect(page.get_by_role("columnheader", name=name)).to_be_visible()


def test_names_of_classes_and_models_are_text_whatever_they_are(page: Page, sampled: dict[str, Any]) -> None:
    job = with_images(sampled, lambda images: [{**each, "class_name": HOSTILE} for each in images])
    request = {**job["request"], "model": HOSTILE}
    show(page, {**job, "title": f"prune-sample of {HOSTILE}", "request": request})
    expect(page.get_by_role("heading", level=1)).to_have_text(f"prune-sample of {HOSTILE}")
    expect(page.get_by_role("link", name=HOSTILE, exact=True)).to_be_visible()
    expect(page.get_by_text(f"{HOSTILE} (0)").first).to_be_visible()
    assert page.evaluate("window.harmed") is None
    shot(page, "job-hostile")


def test_a_model_with_hostile_names_is_explored_all_the_same(page: Page) -> None:
    def rename(route: Any) -> None:
        answer = route.fetch()
        model = answer.json()
        route.fulfill(response=answer, json={**model, "title": HOSTILE, "class_names": [HOSTILE] * model["classes"]})

    page.route(re.compile(r"(?<!ui)/models/shapes-sit$"), rename)
    page.goto("/ui/models/shapes-sit")
    expect(page.get_by_role("application").first).to_be_visible()
    expect(page.get_by_label("Class", exact=True).locator("option").first).to_contain_text(HOSTILE)
    expect(page.get_by_text(HOSTILE).first).to_be_visible()
    assert page.evaluate("window.harmed") is None
