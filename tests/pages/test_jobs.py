"""The list of jobs, and one job: live, cancelled, over a restart of the service; its pictures and numbers."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.end_to_end.stack import Stack
from tests.pages.browser import PHONE, assert_accessible, assert_accessible_in_both_themes, assert_fits, shot
from tests.pages.jobs import LONG, LONGER, MODEL, QUICK, SECONDS, cell, expect_status, finished, start
from tests.service.results import ANATOMY, COMPACT_TRANSFORMER, METRICS_TRANSFORMER, OVER_TIME_TRANSFORMER

STUDY: dict[str, Any] = {**QUICK, "grid": {"thresholds": [0.03, 0.2]}, "measures": ["accuracy", "drift", "ssim"]}
SEARCH = {"measure": "drift", "budget": 0.3, "trials": 2}


@pytest.fixture(scope="module")
def sampled(stack: Stack) -> dict[str, Any]:
    """A job with two prunes and two classes."""
    return finished(stack, "/prune-sample", **QUICK, threshold=[0.03, 0.2])


@pytest.fixture(scope="module")
def study(stack: Stack) -> dict[str, Any]:
    """A study of a grid and a search."""
    return finished(stack, "/studies", **STUDY, search=SEARCH)


@pytest.fixture(scope="module")
def compacted(stack: Stack) -> dict[str, Any]:
    """A smaller model."""
    return finished(stack, "/compact", model=MODEL, keep=32, steps=4)


def test_jobs_appear_in_the_list_and_change_without_loading_it_again(page: Page, stack: Stack) -> None:
    page.goto("/ui/jobs")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    job = start(stack, "/prune-sample", **LONGER, seed=11)
    row = page.get_by_role("listitem").filter(has=page.locator(f'a[href$="{job}"]'))
    expect(row.get_by_text("running", exact=True)).to_be_visible(timeout=SECONDS)
    expect(row.get_by_role("progressbar")).to_be_visible()
    behind = start(stack, "/prune-sample", **LONGER, seed=12, guidance_scale=3)
    waiting = page.get_by_role("listitem").filter(has=page.locator(f'a[href$="{behind}"]'))
    expect(waiting.get_by_text("the next of its queue")).to_be_visible()
    waiting.get_by_role("button", name=re.compile("Cancel")).click()
    expect(waiting.get_by_text("cancelled", exact=True)).to_be_visible()
    row.get_by_role("button", name=re.compile("Cancel")).click()
    expect(row.get_by_text("cancelled", exact=True)).to_be_visible(timeout=SECONDS)


def test_filters_of_the_list_are_in_the_address(page: Page, sampled: dict[str, Any], compacted: dict[str, Any]) -> None:
    page.goto("/ui/jobs")
    page.get_by_label("Kind").select_option("compact")
    expect(page).to_have_url(re.compile("kind=compact"))
    expect(page.locator(f'a[href$="{compacted["id"]}"]')).to_be_visible()
    expect(page.locator(f'a[href$="{sampled["id"]}"]')).to_have_count(0)
    page.reload()
    expect(page.get_by_label("Kind")).to_have_value("compact")
    expect(page.locator(f'a[href$="{sampled["id"]}"]')).to_have_count(0)


def test_the_list_does_not_wait_for_events(page: Page, sampled: dict[str, Any]) -> None:
    page.route("**/events", lambda _: None)  # they never begin
    page.goto("/ui/jobs?kind=prune-sample")
    expect(page.locator(f"a[href*='{sampled['id']}']")).to_be_visible()


def test_the_list_names_the_workers(page: Page, stack: Stack) -> None:
    page.goto("/ui/jobs")
    (name,) = stack.worker_names()
    expect(page.get_by_role("region", name="Workers").get_by_text(name)).to_be_visible()


def test_a_job_is_cancelled_from_its_page(page: Page, stack: Stack) -> None:
    page.goto(f"/ui/jobs/{start(stack, '/prune-sample', **LONGER, seed=13)}")
    expect(page.get_by_role("progressbar")).to_be_visible(timeout=SECONDS)
    page.get_by_role("button", name="Cancel").click()
    expect_status(page, "cancelled")
    expect(page.get_by_text("This job was cancelled")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


@pytest.mark.complains("net::ERR")
def test_the_page_of_a_job_goes_on_when_the_service_is_restarted(page: Page, stack: Stack) -> None:
    page.goto(f"/ui/jobs/{start(stack, '/prune-sample', **LONG, seed=14)}")
    expect(page.get_by_role("progressbar")).to_be_visible(timeout=SECONDS)
    assert stack.service is not None
    stack.service.kill()
    expect(page.get_by_text(re.compile("The connection to the service is lost"))).to_be_visible()
    stack.start_service()
    expect(page.get_by_text(re.compile("The connection to the service is lost"))).to_have_count(0, timeout=SECONDS)
    expect_status(page, "succeeded")
    expect(page.get_by_role("heading", name="Gallery")).to_be_visible()


def test_the_numbers_of_a_job_are_those_of_the_interface(page: Page, sampled: dict[str, Any]) -> None:
    page.goto(f"/ui/jobs/{sampled['id']}")
    table = "What each prune removes"
    for variant in sampled["result"]["variants"][1:]:
        embedding = variant["embedding"]
        wanted = {
            "Removed": f"{100 * variant['removed']['fraction']:.1f} %",
            "nPR": f"{embedding['npr_before']:.4f} →becomes {embedding['npr_after']:.4f}",
            "Drift": f"{variant['drift']['latent']:.4f}",
            "SSIM": f"{variant['drift']['ssim']:.4f}",
        }
        for column, value in wanted.items():
            expect(cell(page, table, variant["name"], column)).to_have_text(value)


def test_a_sample_is_seen_beside_blinking_with_and_subtracted_from_the_unpruned(
    page: Page, sampled: dict[str, Any]
) -> None:
    page.goto(f"/ui/jobs/{sampled['id']}?variant=tail+0.2")
    expect(page.get_by_role("img", name="red circle, unpruned")).to_be_visible()
    expect(page.get_by_role("img", name="red circle, tail 0.2")).to_be_visible()
    page.get_by_role("radio", name="Blink").check(force=True)
    expect(page.get_by_role("img", name="red circle, unpruned")).to_have_count(0)
    page.get_by_role("button", name="Show the unpruned").click()
    expect(page.get_by_role("img", name="red circle, unpruned")).to_be_visible()
    page.get_by_role("radio", name="Difference").check(force=True)
    expect(page.get_by_text(re.compile(r"mean [1-9]\d*\.\d\d %")).first).to_be_visible()
    page.get_by_role("radio", name="All").check(force=True)
    assert page.get_by_role("table", name="The samples under every prune").get_by_role("row").count() == 4
    expect(page).to_have_url(re.compile("mode=all"))


def test_the_differences_of_equal_pictures_are_zero(page: Page, stack: Stack) -> None:
    job = finished(stack, "/prune-sample", **QUICK, threshold=0)
    page.goto(f"/ui/jobs/{job['id']}?mode=difference")
    expect(page.get_by_text("mean 0.00 %").first).to_be_visible()


def test_a_failed_job_says_why(page: Page, sampled: dict[str, Any]) -> None:
    problem = {"type": "urn:tailprune:problem:internal", "title": "A bug", "status": 500, "detail": "It is our fault."}
    failed = {**sampled, "status": "failed", "result": None, "problem": problem}

    def answer(route: Route) -> None:
        route.fulfill(status=200, content_type="application/json", body=json.dumps(failed))

    page.route(re.compile(rf"(?<!ui)/jobs/{sampled['id']}$"), answer)
    page.goto(f"/ui/jobs/{sampled['id']}")
    expect_status(page, "failed")
    expect(page.get_by_text("It is our fault.")).to_be_visible()
    expect(page.get_by_role("link", name="Change and run again")).to_be_visible()


def test_sounds_are_played_unpruned_and_pruned(page: Page, sampled: dict[str, Any]) -> None:
    sound = {"condition": 0, "sample": 0, "seconds": 1.0, "artifact": "grid.png"}
    result = sampled["result"]
    variants = [{**each, "sounds": [sound] * len(each["images"])} for each in result["variants"]]
    spoken = json.dumps({**sampled, "result": {**result, "variants": variants}})
    path = re.compile(rf"(?<!ui)/jobs/{sampled['id']}$")
    page.route(path, lambda route: route.fulfill(status=200, content_type="application/json", body=spoken))
    page.goto(f"/ui/jobs/{sampled['id']}")
    expect(page.get_by_label("red circle, unpruned", exact=True).locator("visible=true").last).to_be_visible()
    assert page.locator("audio[controls]").count() == 4
    assert_accessible(page)


@pytest.mark.parametrize(
    ("kind", "path", "title"),
    [
        ("metrics", "", "Condition vectors"),
        ("cosine", "/cosine", "Cosines of all pairs"),
        ("over-time", "/over-time?threshold=0.05", "Over the run"),
        ("removal", "/removal?threshold=0.05", "What is removed"),
        ("attribution", "/attribution?attribute=colour&attribute=shape", "What carries what"),
        ("figure", "/figures/sparsity", "Figure: sparsity"),
    ],
)
def test_jobs_of_statistics_have_pages(page: Page, stack: Stack, kind: str, path: str, title: str) -> None:
    stack.http.get(f"/metrics/{MODEL}{path}", headers={"Prefer": "wait=60"}).raise_for_status()
    (job,) = stack.http.get("/jobs", params={"kind": kind, "limit": 1}).json()["jobs"]
    page.goto(f"/ui/jobs/{job['id']}")
    expect(page.get_by_role("heading", level=2, name=title)).to_be_visible()
    assert_accessible(page)


def test_the_anatomy_of_a_large_transformer_has_a_page(page: Page, sampled: dict[str, Any]) -> None:
    changed = {"kind": "anatomy", "title": "anatomy of flux", "request": {"model": "flux"}, "result": ANATOMY}
    described = json.dumps({**sampled, **changed, "thresholds": None, "links": {**sampled["links"], "artifacts": {}}})
    path = re.compile(rf"(?<!ui)/jobs/{sampled['id']}$")
    page.route(path, lambda route: route.fulfill(status=200, content_type="application/json", body=described))
    page.goto(f"/ui/jobs/{sampled['id']}")
    expect(page.get_by_role("heading", level=2, name="What AdaLN takes")).to_be_visible()
    expect(page.get_by_role("row", name="rank 1 10.00 % 1 216 B 304 B")).to_be_visible()
    expect(page.get_by_role("row", name="table of 50 steps 0.00 % 49 5.59 kB nothing")).to_be_visible()
    expect(page.get_by_role("link", name="flux", exact=True)).to_have_count(0)
    assert_accessible(page)


@pytest.mark.parametrize(
    ("kind", "result", "title"),
    [
        ("metrics-transformer", METRICS_TRANSFORMER, "Condition vectors"),
        ("over-time-transformer", OVER_TIME_TRANSFORMER, "Over the run"),
    ],
)
def test_the_statistics_of_a_large_transformer_have_a_page(
    page: Page, sampled: dict[str, Any], kind: str, result: dict[str, Any], title: str
) -> None:
    changed = {"kind": kind, "title": f"{kind} of flux", "request": {"model": "flux"}, "result": result}
    described = json.dumps({**sampled, **changed, "thresholds": None, "links": {**sampled["links"], "artifacts": {}}})
    path = re.compile(rf"(?<!ui)/jobs/{sampled['id']}$")
    page.route(path, lambda route: route.fulfill(status=200, content_type="application/json", body=described))
    page.goto(f"/ui/jobs/{sampled['id']}")
    expect(page.get_by_role("heading", level=2, name=title)).to_be_visible()
    if kind == "metrics-transformer":
        expect(page.get_by_role("row", name="pooled text none, as zeros 0.5 0.5 –")).to_be_visible()
    expect(page.get_by_role("link", name="Explore them")).to_have_count(0)
    assert_accessible(page)


def test_a_compacted_large_transformer_has_its_sizes_and_errors(page: Page, sampled: dict[str, Any]) -> None:
    files = {name: f"/jobs/{sampled['id']}/artifacts/{name}" for name in COMPACT_TRANSFORMER["files"]}
    changed = {"kind": "compact-transformer", "title": "compact-transformer of flux for 28 steps"}
    made = {"request": {"model": "flux", "steps": [28], "pooled": "zero"}, "result": COMPACT_TRANSFORMER}
    links = {"links": {**sampled["links"], "artifacts": files}}
    described = json.dumps({**sampled, **changed, **made, **links, "thresholds": None})
    path = re.compile(rf"(?<!ui)/jobs/{sampled['id']}$")
    page.route(path, lambda route: route.fulfill(status=200, content_type="application/json", body=described))
    page.goto(f"/ui/jobs/{sampled['id']}")
    expect(page.get_by_role("heading", level=2, name="The small model")).to_be_visible()
    expect(page.get_by_text("92.3 % less")).to_be_visible()
    shot(page, "compacted-transformer")
    expect(page.get_by_text("AdaLN reads 55 directions of SiLU(c). Covered: the plain schedules")).to_be_visible()
    expect(page.get_by_text("halfway between covered times")).to_be_visible()
    expect(page.get_by_text("more, of the pooled texts")).to_be_visible()
    expect(page.get_by_text(COMPACT_TRANSFORMER["notes"][0])).to_be_visible()
    expect(page.get_by_role("link", name="diffusion_pytorch_model.safetensors")).to_be_visible()
    expect(page.get_by_role("link", name="flux", exact=True)).to_have_count(0)
    assert_accessible(page)
    assert_fits(page)


def test_a_job_of_a_kind_without_a_form_is_not_offered_to_be_changed(page: Page, stack: Stack) -> None:
    job = finished(stack, "/extract", model=MODEL)
    page.goto(f"/ui/jobs/{job['id']}")
    expect(page.get_by_role("region", name="Copy the request as JSON")).to_be_visible()
    expect(page.get_by_role("link", name="Change and run again")).to_have_count(0)


@pytest.mark.complains("404")
def test_a_job_that_does_not_exist_says_so(page: Page) -> None:
    page.goto("/ui/jobs/01jd0000000000000000000000")
    expect(page.get_by_role("alert")).to_be_visible()


def test_the_title_of_a_document_says_which_job_it_is(
    page: Page, sampled: dict[str, Any], compacted: dict[str, Any]
) -> None:
    page.goto(f"/ui/jobs/{sampled['id']}")
    expect(page).to_have_title(f"Prune and sample of {MODEL}, {sampled['id']} · tailprune")
    page.goto(f"/ui/jobs/{compacted['id']}")
    expect(page).to_have_title(f"Compact of {MODEL}, {compacted['id']} · tailprune")
    page.get_by_role("link", name="Jobs", exact=True).first.click()
    expect(page).to_have_title("Jobs · tailprune")


def test_a_table_is_reached_by_tab_only_where_it_scrolls(page: Page, sampled: dict[str, Any]) -> None:
    page.goto(f"/ui/jobs/{sampled['id']}")
    name = "What each prune removes, and what it does"
    expect(page.get_by_role("table", name=name)).to_be_visible()
    expect(page.get_by_role("region", name=name)).to_have_count(0)
    page.set_viewport_size(PHONE)
    expect(page.get_by_role("region", name=name)).to_have_attribute("tabindex", "0")


def test_the_scores_of_a_study_are_those_of_the_interface(page: Page, study: dict[str, Any]) -> None:
    page.goto(f"/ui/jobs/{study['id']}?measure=drift")
    for variant in study["result"]["variants"][1:]:
        score = variant["scores"]["accuracy"]
        shown = cell(page, "The scores of every prune", variant["name"], "Class accuracy")
        expect(shown).to_contain_text(f"{100 * score['value']:.1f} %")
        expect(shown).to_contain_text(f"{100 * score['low']:.1f} % to {100 * score['high']:.1f} %")
        removed = f"{100 * variant['removed']['fraction']:.1f} %"
        expect(cell(page, "The scores of every prune", variant["name"], "Removed")).to_have_text(removed)
    trials = page.get_by_role("table", name="The trials, in their order").get_by_role("row")
    expect(trials).to_have_count(1 + len(study["result"]["search"]["trials"]))
    expect(page.get_by_role("link", name="CSV", exact=True)).to_have_attribute("download", "study.csv")


def test_the_points_of_a_study_are_reached_by_keys(page: Page, study: dict[str, Any]) -> None:
    page.goto(f"/ui/jobs/{study['id']}?measure=drift")
    points = page.locator(".chart-point")
    expect(points).to_have_count(len(study["result"]["variants"]))
    points.first.focus()
    expect(page.locator(".chart-says")).to_contain_text("unpruned: removes 0.0 %")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".chart-says")).to_contain_text("tail 0.0")
    page.keyboard.press("End")
    expect(page.locator(".chart-says")).to_contain_text("tail 0.2: removes")
    selected = page.get_by_role("table", name="The scores of every prune").locator("tr.selected")
    expect(selected).to_contain_text("tail 0.2")


def test_the_scores_of_a_study_come_while_it_runs(page: Page, stack: Stack) -> None:
    several = {**STUDY, "labels": list(range(0, 100, 4)), "samples_per_label": 8, "steps": 12}
    job = start(stack, "/studies", **several, seed=3)
    page.goto(f"/ui/jobs/{job}")
    expect(page.get_by_text("Scores so far")).to_be_visible(timeout=SECONDS)
    expect(page.locator(".chart-point").first).to_be_visible(timeout=SECONDS)
    page.get_by_role("button", name="Cancel").click()
    expect_status(page, "cancelled")


def test_a_compaction_shows_both_models_and_leads_to_the_new_one(page: Page, compacted: dict[str, Any]) -> None:
    result = compacted["result"]
    page.goto(f"/ui/jobs/{compacted['id']}")
    parameters = result["parameters"]["after"]
    expect(cell(page, "The whole model and the small one", "Parameters", "Small")).to_have_text(f"{parameters:,}")
    expect(page.get_by_role("img", name=re.compile("^Samples of"))).to_be_visible()
    page.get_by_role("link", name="Sample it").click()
    expect(page.get_by_label("Model")).to_have_value(result["compacted"]["name"])


@pytest.mark.parametrize("view", ["list", "sampled", "study", "compacted"])
def test_views_of_jobs_are_accessible_in_both_themes_and_fit_narrow_screens(
    page: Page, request: pytest.FixtureRequest, view: str
) -> None:
    path = "/ui/jobs" if view == "list" else f"/ui/jobs/{request.getfixturevalue(view)['id']}"
    page.goto(path)
    expect(page.locator(".card").first).to_be_visible()
    expect(page.locator(".loading")).to_have_count(0)
    assert_accessible_in_both_themes(page, f"jobs-{view}")
    page.set_viewport_size(PHONE)
    assert_fits(page)
    shot(page, f"jobs-{view}-phone")


@pytest.mark.parametrize("mode", ["blink", "difference", "all"])
def test_every_mode_of_the_gallery_is_accessible(page: Page, sampled: dict[str, Any], mode: str) -> None:
    page.goto(f"/ui/jobs/{sampled['id']}?mode={mode}")
    expect(page.get_by_role("heading", name="Gallery")).to_be_visible()
    assert_accessible(page)


def test_an_enlarged_sample_is_accessible(page: Page, sampled: dict[str, Any]) -> None:
    page.goto(f"/ui/jobs/{sampled['id']}")
    page.get_by_role("button", name="Enlarge red circle").click()
    expect(page.get_by_role("dialog", name="red circle")).to_be_visible()
    assert_accessible(page)
    page.get_by_role("button", name="Next sample").click()
    expect(page.get_by_role("dialog", name="orange square")).to_be_visible()
