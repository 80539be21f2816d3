"""The view of all models."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tailprune.figures.rank import draw_rank
from tailprune.figures.style import render
from tests.end_to_end.stack import Stack
from tests.pages.browser import PHONE, assert_accessible_in_both_themes, assert_fits, shot
from tests.service.results import ANATOMY, RANK_NUMBERS
from tests.tailprune.figures.test_figures import anatomy as made_up

LINKS = {"anatomy": "/models/flux/anatomy", "rank": "/metrics/flux/figures/rank"}


def card(page: Page, model: str) -> str:
    """The selector of a model's card."""
    return f"section.card:has(h2 a:text-is('{model}'))"


def test_the_models_are_accessible_in_both_themes(page: Page) -> None:
    page.goto("/ui/")
    expect(page.locator(card(page, "shapes-sit")).get_by_text("0.0630")).to_be_visible()
    page.locator(card(page, "dit-xl-2-256")).get_by_text("What is missing").click()
    assert_accessible_in_both_themes(page, "models")


def test_a_card_has_the_numbers_of_the_interface(page: Page, stack: Stack) -> None:
    page.goto("/ui/")
    statistics = stack.http.get("/metrics/shapes-sit", headers={"Prefer": "wait=60"}).json()
    sit = page.locator(card(page, "shapes-sit"))
    for number in (f"{statistics['npr']:.4f}", f"{statistics['cosine']['mean']:.4f}", str(statistics["dim"])):
        expect(sit.get_by_text(number, exact=True)).to_be_visible()
    answer = stack.http.get(
        "/metrics/shapes-sit/vectors?label=0", headers={"Accept": "application/json", "Prefer": "wait=60"}
    ).json()
    sizes = sorted(map(abs, answer["c"][0][0]), reverse=True)
    said = sit.get_by_role("img", name=re.compile("^Sorted .* down over 128 components")).get_attribute("aria-label")
    shown = re.findall(r"([\d.]+) the greatest, ([\d.]+) in the middle, .+ the least", said or "")[0]
    assert [float(text) for text in shown] == pytest.approx([sizes[0], sizes[64]], rel=0.01)


def test_models_that_are_ready_come_first_large_transformers_among_them(page: Page, stack: Stack) -> None:
    page.goto("/ui/")
    expect(page.locator(card(page, "mdsgen-b"))).to_be_visible()
    shown = [name.strip() for name in page.locator("section.card h2").all_inner_texts()]
    listed = stack.http.get("/models").json()
    ready = {model["name"] for model in [*listed["models"], *listed["transformers"]] if model["ready"]}
    assert set(shown[: len(ready)]) == ready
    assert "shapes-qwen" in ready


def test_a_model_that_is_missing_says_how_to_get_it(page: Page, stack: Stack) -> None:
    page.goto("/ui/")
    missing = page.locator(card(page, "dit-xl-2-256"))
    missing.get_by_text("What is missing").click()
    obtain = stack.http.get("/models/dit-xl-2-256").json()["obtain"]
    expect(missing.get_by_text(obtain)).to_be_visible()
    (address,) = [word for word in obtain.split() if word.startswith("https://")]
    expect(missing.get_by_role("link", name=address)).to_have_attribute("href", address)


def test_only_a_command_is_offered_to_be_copied(page: Page) -> None:
    page.goto("/ui/")
    prose, command, both = (
        page.locator(card(page, name)) for name in ("dit-xl-2-256", "mdtv2-xl-2-256", "mg-sit-xl-2-256")
    )
    for each in (prose, command, both):
        each.get_by_text("What is missing").click()
    expect(prose.locator("pre")).to_have_count(0)
    expect(command.locator("pre")).to_have_text("tailprune models fetch mdtv2-xl-2-256")
    expect(both.locator("pre")).to_have_text("cat SiT-XL-2-MG-? > models/published/SiT-XL-2-MG.pt")
    expect(both.get_by_text("download SiT-XL-2-MG-a to SiT-XL-2-MG-f from")).to_be_visible()


def test_models_are_found_by_name_and_the_address_keeps_it(page: Page) -> None:
    page.goto("/ui/")
    page.get_by_role("searchbox", name="Find").fill("mdt")
    page.get_by_role("radio", name="ready").check(force=True)
    expect(page.get_by_role("heading", level=2)).to_have_text(["shapes-mdt"])
    expect(page).to_have_url(re.compile(r"\?find=mdt&show=ready$"))
    page.reload()
    expect(page.get_by_role("heading", level=2)).to_have_text(["shapes-mdt"])
    page.get_by_role("searchbox", name="Find").fill("nothing")
    expect(page.get_by_text("No model is called that.")).to_be_visible()


def test_the_models_fit_a_narrow_screen(page: Page) -> None:
    page.set_viewport_size(PHONE)
    page.goto("/ui/")
    expect(page.locator(card(page, "shapes-sit")).get_by_text("0.0630")).to_be_visible()
    assert_fits(page)
    shot(page, "models-phone")


def test_a_large_transformer_has_a_card_with_its_anatomy(page: Page, stack: Stack) -> None:
    link = "/models/flux/anatomy"
    flux = {"name": "flux", "title": "FLUX.1", "licence": "own", "source": "made", "links": LINKS}
    ready = {**flux, "ready": True, "missing": [], "obtain": None}
    absent = {**ready, "name": "absent", "ready": False, "missing": ["hf://owner/absent"], "obtain": "fetch it"}
    listed = json.dumps(stack.http.get("/models").json() | {"transformers": [ready, absent]})
    of_json: dict[str, Any] = {"status": 200, "content_type": "application/json"}
    page.route(re.compile(r"(?<!ui)/models$"), lambda route: route.fulfill(**of_json, body=listed))
    page.route(re.compile(rf"{link}$"), lambda route: route.fulfill(**of_json, body=json.dumps(ANATOMY)))
    answer_of_ranks(page)
    page.goto("/ui/?find=large+transformer")
    expect(page.get_by_role("heading", level=2)).to_have_text(["flux", "absent"])
    expect(page.get_by_role("link", name="Its anatomy as JSON")).to_have_attribute("href", link)
    expect(page.get_by_role("row")).to_have_count(0)
    button = page.get_by_role("button", name="Anatomy of flux")
    button.press("Enter")
    expect(page.get_by_role("row", name="rank 1 10.00 % 1 216 B 304 B")).to_be_visible()
    expect(button).to_be_focused()
    picture = page.get_by_role("img", name="A figure of ranks.")
    expect(picture).to_be_visible()
    expect(picture).to_have_js_property("naturalWidth", 1140)
    expect(page.get_by_role("link", name="in full size")).to_have_attribute("href", LINKS["rank"])
    page.get_by_text("What is missing").click()
    expect(page.get_by_text("fetch it")).to_be_visible()
    assert_accessible_in_both_themes(page, "models-transformers")
    page.set_viewport_size(PHONE)
    assert_fits(page)


def answer_of_ranks(page: Page) -> None:
    """Answer with the figure of ranks, and with its numbers."""
    png = render(draw_rank(made_up(), "flux")).png

    def answer(route: Route) -> None:
        if route.request.headers["accept"] == "application/json":
            route.fulfill(status=200, content_type="application/json", body=json.dumps(RANK_NUMBERS))
        else:
            route.fulfill(status=200, content_type="image/png", body=png)

    page.route(re.compile(rf"{LINKS['rank']}$"), answer)


@pytest.mark.complains("500")
def test_an_anatomy_that_failed_is_asked_for_again(page: Page, stack: Stack) -> None:
    link = "/models/flux/anatomy"
    flux = {"name": "flux", "title": "FLUX.1", "licence": "own", "source": "made", "links": LINKS}
    ready = {**flux, "ready": True, "missing": [], "obtain": None}
    listed = json.dumps(stack.http.get("/models").json() | {"transformers": [ready]})
    of_json: dict[str, Any] = {"status": 200, "content_type": "application/json"}
    problem = json.dumps({"title": "Failed", "status": 500, "detail": "the weights hold NaN"})
    answers = [{"status": 500, "content_type": "application/problem+json", "body": problem}]
    page.route(re.compile(r"(?<!ui)/models$"), lambda route: route.fulfill(**of_json, body=listed))
    answer_of_ranks(page)
    page.route(
        re.compile(rf"{link}$"),
        lambda route: route.fulfill(**(answers.pop() if answers else of_json | {"body": json.dumps(ANATOMY)})),
    )
    page.goto("/ui/?find=large+transformer")
    page.get_by_role("button", name="Anatomy of flux").press("Enter")
    expect(page.get_by_text("the weights hold NaN")).to_be_visible()
    again = page.get_by_role("button", name="Try again: anatomy of flux")
    expect(again).to_be_focused()
    again.press("Enter")
    expect(page.get_by_role("row", name="rank 1 10.00 % 1 216 B 304 B")).to_be_visible()
    expect(page.get_by_text("the weights hold NaN")).to_have_count(0)
