"""The form of a new job: by keyboard, what it posts, what it says of faults, and how long the job takes."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.end_to_end.stack import Stack
from tests.pages.browser import PHONE, assert_accessible, assert_accessible_in_both_themes, assert_fits, shot
from tests.pages.jobs import MODEL, QUICK, cell, expect_status, finished, request_of, start, tab_to


def test_a_job_is_posted_followed_and_looked_at_by_keyboard_alone(page: Page, stack: Stack) -> None:
    page.goto(f"/ui/new?model={MODEL}")
    expect(page.get_by_role("button", name="Start the job")).to_be_visible()
    tab_to(page, "Threshold$")
    page.keyboard.press("Control+A")
    page.keyboard.type("0.06")
    tab_to(page, "Add a threshold")
    page.keyboard.press("Enter")
    tab_to(page, "Add a class")
    page.keyboard.type("Red Circle")
    page.keyboard.press("Enter")
    tab_to(page, "Steps$")
    page.keyboard.press("Control+A")
    page.keyboard.type("6")
    assert request_of(page) == {"model": MODEL, "threshold": [0.06, 0.12], "labels": [0], "steps": 6}
    tab_to(page, "Start the job")
    page.keyboard.press("Enter")

    expect(page).to_have_url(re.compile(r"/ui/jobs/\w{26}"))
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    expect_status(page, "succeeded")
    tab_to(page, "Prune: tail 0.06")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("slider", name=re.compile("Prune: tail 0.12"))).to_be_focused()
    expect(page).to_have_url(re.compile(r"variant=tail\+0\.12"))
    tab_to(page, "Enlarge")
    expect(page.get_by_role("button", name="Enlarge red circle")).to_be_focused()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="red circle")
    expect(dialog.get_by_role("img", name="red circle, tail 0.12")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("button", name="Enlarge red circle")).to_be_focused()
    job = stack.job(page.url.split("/")[-1].split("?")[0])
    (variant,) = [each for each in job["result"]["variants"] if each["name"] == "tail 0.12"]
    removed = f"{100 * variant['removed']['fraction']:.1f} %"
    expect(cell(page, "What each prune removes", "tail 0.12", "Removed")).to_have_text(removed)


@pytest.mark.complains("422")
def test_what_the_service_refuses_is_said_at_its_field(page: Page) -> None:
    page.goto(f"/ui/new?model={MODEL}&threshold=0.05")
    field = page.get_by_role("spinbutton", name="Steps", exact=True)
    field.fill("5000")
    page.get_by_role("button", name="Start the job").click()
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(page.locator(".fault").get_by_text("5000 steps is more than the")).to_be_visible()
    assert_accessible(page)
    page.goto("about:blank")  # what the form asks meanwhile, of what is removed, is refused too


def test_a_class_that_the_model_does_not_have_is_not_added(page: Page) -> None:
    page.goto(f"/ui/new?model={MODEL}")
    page.get_by_label("Add a class").fill("teapot")
    page.get_by_label("Add a class").press("Enter")
    expect(page.get_by_text("has no class “teapot”")).to_be_visible()
    assert "labels" not in request_of(page)


def test_the_request_can_be_copied_for_curl_and_python(page: Page, stack: Stack) -> None:
    page.goto(f"/ui/new?model={MODEL}&threshold=0.02&threshold=0.2")
    page.get_by_role("tab", name="curl").click()
    curl = page.get_by_role("region", name="Copy the command").inner_text()
    assert curl.startswith(f"curl {stack.url}/prune-sample ")
    assert json.loads(curl.split("-d '")[1].rstrip("'")) == {"model": MODEL, "threshold": [0.02, 0.2]}
    page.get_by_role("tab", name="Python").click()
    code = page.get_by_role("region", name="Copy the code").inner_text()
    compile(code, "copied", "exec")
    assert "client.prune_sample(" in code
    assert "threshold=[0.02, 0.2]" in code


def test_the_form_says_how_long_the_job_takes_by_earlier_jobs(page: Page, stack: Stack) -> None:
    finished(stack, "/prune-sample", **QUICK, threshold=0.07)
    page.goto(f"/ui/new?model={MODEL}&threshold=0.05")
    expect(page.get_by_text(re.compile(r"16 samples of 50 steps: about [\d.]+ (s|min)"))).to_be_visible()


def test_the_form_says_what_a_threshold_removes_over_the_run(page: Page, stack: Stack) -> None:
    labels = stack.http.get(f"/models/{MODEL}").json()["defaults"]["labels"]
    query = {"threshold": 0.05, "label": labels}
    asked = stack.http.get(f"/metrics/{MODEL}/removal", params=query, headers={"Prefer": "wait=60"})
    (prune,) = asked.raise_for_status().json()["prunes"]
    page.goto(f"/ui/new?model={MODEL}&threshold=0.05")
    expect(page.get_by_text(f"removes {100 * prune['removed']['fraction']:.1f} % over the run")).to_be_visible()
    error = prune["modulation"]["error"]
    expect(page.get_by_text(f"changes the modulations by {100 * error:.1f} %")).to_be_visible()


def test_the_form_of_a_study_says_what_is_removed_where_thresholds_are_tried_in_one_way(
    page: Page, stack: Stack
) -> None:
    query = {"threshold": 0.05, "side": "head"}
    asked = stack.http.get(f"/metrics/{MODEL}/removal", params=query, headers={"Prefer": "wait=60"})
    share = asked.raise_for_status().json()["prunes"][0]["removed"]["fraction"]
    page.goto(f'/ui/new?model={MODEL}&kind=study&request={{"grid":{{"thresholds":[0.05],"sides":["head"]}}}}')
    expect(page.get_by_text(f"removes {100 * share:.1f} % over the run")).to_be_visible()
    page.get_by_role("checkbox", name="below (tail)").check()
    expect(page.get_by_text("over the run")).to_have_count(0)


def test_a_job_is_run_again_with_a_change(page: Page, stack: Stack) -> None:
    job = finished(stack, "/prune-sample", **QUICK, threshold=[0.03, 0.3], seed=4)
    page.goto(f"/ui/jobs/{job['id']}")
    page.get_by_role("link", name="Change and run again").click()
    expect(page.get_by_role("spinbutton", name="Threshold 2")).to_have_value("0.3")
    expect(page.get_by_role("spinbutton", name="Steps", exact=True)).to_have_value("6")
    page.get_by_label("Seed of the noise").fill("5")
    request = request_of(page)
    assert (request["threshold"], request["labels"], request["seed"]) == ([0.03, 0.3], [0, 11], 5)
    expect(page).to_have_url(re.compile("seed%22%3A5"))
    page.reload()
    expect(page.get_by_label("Seed of the noise")).to_have_value("5")


def test_limits_are_said_before_the_service_refuses(page: Page, stack: Stack) -> None:
    limits = stack.http.get(f"/models/{MODEL}").json()["limits"]
    page.goto(f"/ui/new?model={MODEL}")
    expect(page.get_by_text(f"2 to {limits['steps']:,}.")).to_be_visible()
    steps = page.get_by_role("spinbutton", name="Steps", exact=True)
    steps.fill(str(limits["steps"] + 1))
    expect(steps).to_have_attribute("aria-invalid", "true")
    each = page.get_by_role("spinbutton", name="Samples of each class")
    each.fill(str(limits["samples"] // 8))
    expect(page.get_by_text(f"8 classes: {limits['samples']} samples by each prune, of at most")).to_be_visible()
    expect(each).not_to_have_attribute("aria-invalid", "true")
    each.fill(str(limits["samples"] // 8 + 1))
    expect(each).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_text(f"are more than the {limits['samples']} that a job can have")).to_be_visible()
    page.goto(f"/ui/new?model={MODEL}&" + "&".join(f"threshold={n / 100}" for n in range(1, limits["variants"] + 1)))
    expect(page.get_by_role("spinbutton", name=f"Threshold {limits['variants']}")).to_be_visible()
    expect(page.get_by_role("button", name="Add a threshold")).to_have_count(0)


def test_the_estimate_counts_the_evaluations_of_a_sampler(page: Page, stack: Stack) -> None:
    finished(stack, "/prune-sample", **QUICK, threshold=0.07, sampler="euler")
    seconds = []
    for sampler in ("euler", "heun"):
        request = json.dumps({"sampler": sampler, "steps": 250, "samples_per_label": 4})
        page.goto(f"/ui/new?model={MODEL}&threshold=0.05&request={request}")
        said = page.get_by_text(re.compile(r"64 samples of 250 steps: about"))
        expect(said).to_be_visible()
        minutes, rest = re.findall(r"(?:(\d+) min )?([\d.]+) s", said.inner_text().split("about")[1])[0]
        seconds.append(60 * int(minutes or 0) + float(rest))
    assert seconds[1] == pytest.approx(2 * seconds[0], rel=0.1)


def test_a_study_and_a_compaction_have_an_estimate(page: Page, stack: Stack) -> None:
    finished(stack, "/compact", model=MODEL, keep=32, steps=4)
    page.goto(f"/ui/new?model={MODEL}&kind=compact")
    expect(
        page.get_by_text(re.compile(r"The times of 50 steps: about [\d.]+ s by the speed of the last"))
    ).to_be_visible()
    finished(stack, "/studies", **QUICK, measures=["drift"], grid={"thresholds": [0.1]})
    page.goto(f"/ui/new?model={MODEL}&kind=study&threshold=0.05&request={json.dumps({'labels': [0, 11]})}")
    said = page.locator(".estimate")
    expect(said).to_contain_text("4 samples of 50 steps: about")
    expect(said).to_contain_text(re.compile(r"by the speed of the last (study|\d+ studies) of this model, once"))


def test_the_form_of_a_compaction_has_what_is_predicted_and_what_is_read(page: Page, stack: Stack) -> None:
    page.goto(f"/ui/new?model={MODEL}&kind=compact&threshold=0.05")
    page.get_by_role("radio", name="what the blocks read, SiLU(c)").check()
    page.get_by_role("radio", name="predicted from what stays").check()
    assert request_of(page) == {"model": MODEL, "threshold": 0.05, "of": "read", "fill": "refit"}
    page.get_by_role("radio", name="all but the k most varied").check()
    assert request_of(page) == {"model": MODEL, "keep": 32}
    page.get_by_role("radio", name="predicted from what stays").check()
    assert request_of(page) == {"model": MODEL, "keep": 32, "by": "variance", "fill": "refit"}
    shot(page, "new-compact-refit")
    page.get_by_role("radio", name="all but k that predict the rest").check()
    assert request_of(page) == {"model": MODEL, "keep": 32, "by": "prediction"}
    expect(page.get_by_role("radio", name="zero")).to_have_count(0)
    page.get_by_role("spinbutton", name="Components to keep").fill("24")
    page.get_by_role("spinbutton", name="Steps", exact=True).fill("4")
    page.get_by_role("button", name="Start the job").click()
    expect_status(page, "succeeded")
    said = "AdaLN reads 24 columns in place of 128: it keeps 24 components, from which the others are predicted."
    expect(page.get_by_text(said)).to_be_visible()
    shot(page, "compaction-refit")
    page.get_by_role("link", name="Change and run again").click()
    expect(page.get_by_role("radio", name="all but k that predict the rest")).to_be_checked()
    page.get_by_role("radio", name="Prune and sample").check()
    assert "fill" not in request_of(page)


def test_a_study_is_run_again_with_changes_of_its_prunes(page: Page, stack: Stack) -> None:
    grid = {"thresholds": [0.03, 0.3], "sides": ["tail", "head"], "schedules": [{"when": "first", "count": 2}]}
    job = finished(stack, "/studies", **QUICK, measures=["drift", "ssim"], grid=grid, seed=3)
    page.goto(f"/ui/jobs/{job['id']}")
    page.get_by_role("link", name="Change and run again").click()
    expect(page.get_by_role("spinbutton", name="Threshold 2")).to_have_value("0.3")
    assert request_of(page)["grid"] == grid
    for name in ("below (tail)", "above (head)", "drift", "ssim"):
        expect(page.get_by_role("checkbox", name=name)).to_be_checked()
    page.get_by_role("spinbutton", name="Threshold 2").fill("0.4")
    page.get_by_role("spinbutton", name="How many steps").fill("4")
    page.get_by_role("checkbox", name="ssim").uncheck()
    page.get_by_text("Add a prune of any kind").click()
    page.get_by_role("button", name="Add the prune").click()
    page.get_by_role("button", name="Try other steps too").click()
    request = request_of(page)
    assert request["grid"]["thresholds"] == [0.03, 0.4]
    assert request["grid"]["schedules"] == [{"when": "first", "count": 4}, {"when": "first", "count": 3}]
    assert (request["measures"], request["prunes"], request["seed"]) == (["drift"], [{"keep": 32}], 3)


def test_the_address_of_a_study_opens_it_filled_in_and_its_single_prunes_can_be_left_out(page: Page) -> None:
    request = {
        "prunes": [{"threshold": 0.05, "side": "head"}, {"keep": 16, "fill": "zero"}],
        "search": {"measure": "accuracy", "budget": 0.1, "trials": 3, "fill": "mean"},
        "seed": 7,
    }
    page.goto(f"/ui/new?model={MODEL}&kind=study&request={json.dumps(request)}")
    expect(page.get_by_role("spinbutton", name="Budget")).to_have_value("0.1")
    expect(page.get_by_label("Seed of the noise")).to_have_value("7")
    page.get_by_role("button", name="Leave out head 0.05").click()
    expect(page.get_by_role("button", name="Leave out keep 16, zero")).to_be_visible()
    assert request_of(page) == {"model": MODEL, **request, "prunes": request["prunes"][1:]}


def test_what_kinds_of_jobs_share_is_kept_from_one_to_another(page: Page) -> None:
    given = {"labels": [3], "seed": 5, "steps": 12, "guidance_scale": 2.5, "samples_per_label": 3, "fill": "mean"}
    page.goto(f"/ui/new?model={MODEL}&threshold=0.05&threshold=0.1&request={json.dumps(given)}")
    expect(page.get_by_label("Seed of the noise")).to_have_value("5")
    before = request_of(page)
    for kind, card in (("Study", "Prunes to try"), ("Compact", "What stays")):
        page.get_by_role("radio", name=kind, exact=True).check(force=True)
        expect(page.get_by_role("heading", level=2, name=card)).to_be_visible()
    assert request_of(page) == {"model": MODEL, "threshold": 0.05, "labels": [3], "steps": 12, "fill": "mean"}
    page.get_by_role("radio", name="Study", exact=True).check(force=True)
    expect(page.get_by_label("Seed of the noise")).to_have_value("5")
    study = request_of(page)
    assert study["grid"] == {"thresholds": [0.05], "fills": ["mean"]}
    assert {name: study[name] for name in given if name != "fill"} == {n: v for n, v in given.items() if n != "fill"}
    page.get_by_role("radio", name="Prune and sample").check(force=True)
    expect(page.get_by_role("checkbox", name="Sample unpruned too")).to_be_visible()
    assert request_of(page) == before | {"threshold": [0.05]}


def test_several_numbers_of_components_to_keep_are_kept(page: Page) -> None:
    page.goto(f"/ui/new?model={MODEL}&request={json.dumps({'keep': [64, 32]})}")
    page.get_by_role("spinbutton", name="Components to keep, 2").fill("30")
    page.get_by_role("button", name="Keep another number").click()
    assert request_of(page)["keep"] == [64, 30, 15]
    page.get_by_role("button", name="Leave out 64 components").click()
    assert request_of(page)["keep"] == [30, 15]
    page.get_by_role("radio", name="Study", exact=True).check(force=True)
    expect(page.get_by_role("button", name="Leave out keep 30")).to_be_visible()
    assert request_of(page)["prunes"] == [{"keep": 30}, {"keep": 15}]


def removed_share(stack: Stack, query: str) -> str:
    """What a prune removes over the run, as the form says it."""
    labels = "&".join(f"label={label}" for label in stack.http.get(f"/models/{MODEL}").json()["defaults"]["labels"])
    asked = stack.http.get(f"/metrics/{MODEL}/removal?{query}&{labels}", headers={"Prefer": "wait=60"})
    share = asked.raise_for_status().json()["prunes"][0]["removed"]["fraction"]
    return f"removes {100 * share:.1f} % over the run"


def test_a_share_at_any_steps_that_some_blocks_see_is_made_in_the_form(page: Page, stack: Stack) -> None:
    page.goto(f"/ui/new?model={MODEL}&threshold=0.05")
    page.get_by_role("radio", name="above a threshold").check(force=True)
    page.get_by_label("Given by").select_option("the share that goes")
    page.get_by_role("spinbutton", name="Share to remove, from 0 to 1").fill("0.3")
    page.get_by_role("radio", name="of what blocks read, SiLU(c)").check(force=True)
    page.get_by_role("radio", name="the mean over classes").check(force=True)
    page.get_by_label("Steps at which to prune").select_option("any steps")
    page.get_by_label("Which steps").fill("7, 0-3")
    page.get_by_label("Blocks that see it").fill("0-1 final")
    asked = {
        "model": MODEL, "side": "head", "remove_fraction": [0.3], "of": "read", "fill": "mean",
        "schedule": {"when": "at", "steps": [7, 0, 1, 2, 3]}, "blocks": [0, 1, "final"],
    }  # fmt: skip
    assert request_of(page) == asked
    query = "remove_fraction=0.3&side=head&of=read&fill=mean&when=at" + "".join(f"&step={n}" for n in (0, 1, 2, 3, 7))
    expect(page.get_by_text(removed_share(stack, query))).to_be_visible()
    page.get_by_label("Which steps").fill("7, x")
    expect(page.get_by_text("This is no list such as 0-3, 7.")).to_be_visible()
    page.get_by_label("Which steps").fill("50")
    expect(page.get_by_text("50 is not within 0 to 49.")).to_be_visible()
    page.get_by_label("Which steps").fill("0-3")
    page.get_by_role("spinbutton", name="Steps", exact=True).fill("6")
    page.get_by_role("button", name="Start the job").click()
    expect_status(page, "succeeded")
    job = stack.job(page.url.split("/")[-1].split("?")[0])
    assert (
        job["result"]["variants"][1]["name"] == "remove 0.3 of the head of SiLU(c), steps 0-3, blocks 0-1 final, mean"
    )


@pytest.mark.complains("422")
def test_a_block_that_the_model_does_not_have_is_said_at_its_field(page: Page) -> None:
    page.goto(f"/ui/new?model={MODEL}&threshold=0.05")
    page.get_by_label("Blocks that see it").fill("3-4")
    page.get_by_role("button", name="Start the job").click()
    expect(page.get_by_label("Blocks that see it")).to_be_focused()
    expect(page.locator(".fault").get_by_text("block 4 is outside 0 to 3")).to_be_visible()


def test_a_threshold_for_each_step_is_written_as_text(page: Page, stack: Stack) -> None:
    page.goto(f"/ui/new?model={MODEL}&threshold=0.05&request={json.dumps({'steps': 4})}")
    page.get_by_label("Given by").select_option("a threshold for each step")
    field = page.get_by_label("Threshold of each step")
    expect(field).to_have_value("0.05 x4")
    field.fill("0.1 x2, none")
    expect(page.get_by_text("3 of 4 steps have a threshold or none.")).to_be_visible()
    field.fill("0.1 x2, none, 1e-2")
    assert request_of(page) == {"model": MODEL, "threshold_by_step": [0.1, 0.1, None, 0.01], "steps": 4}
    query = "steps=4&threshold_by_step=0.1&threshold_by_step=0.1&threshold_by_step=none&threshold_by_step=0.01"
    expect(page.get_by_text(removed_share(stack, query))).to_be_visible()
    field.fill("0.1 x2, some")
    expect(page.get_by_text("This is no list such as 0.05 x25, none x25.")).to_be_visible()
    expect(page.get_by_label("Steps at which to prune")).to_have_count(0)


def test_components_are_kept_by_any_ranking_as_a_number_or_a_share(page: Page) -> None:
    page.goto(f"/ui/new?model={MODEL}&threshold=0.05")
    page.get_by_role("radio", name="all but some").check(force=True)
    assert request_of(page) == {"model": MODEL, "keep": [64]}
    page.get_by_label("Ranked by").select_option("deviation from the mean")
    page.get_by_label("Given by").select_option("the share that stays")
    page.get_by_role("spinbutton", name="Share to keep").fill("0.25")
    assert request_of(page) == {"model": MODEL, "keep_fraction": [0.25], "by": "deviation"}
    page.get_by_label("Ranked by").select_option("magnitude")
    page.get_by_role("radio", name="of what blocks read, SiLU(c)").check(force=True)
    assert request_of(page) == {"model": MODEL, "keep_fraction": [0.25], "by": "magnitude", "of": "read"}
    page.get_by_role("radio", name="below a threshold").check(force=True)
    assert request_of(page) == {"model": MODEL, "threshold": [0.05]}


AGAIN = [
    {"threshold": [0.03], "of": "read", "fill": "mean", "schedule": {"when": "at", "steps": [0, 3]}, "blocks": [0]},
    {"threshold_by_step": [0.1, None, 0.2, 0.1, 0.1, None], "side": "head", "blocks": ["final"]},
    {"remove_fraction": [0.2, 0.4], "side": "head"},
    {"keep": [30], "by": "magnitude", "of": "read", "fill": "zero"},
    {"keep_fraction": [0.3, 0.5], "by": "deviation", "schedule": {"when": "last", "count": 2}},
]


@pytest.mark.parametrize("prunes", AGAIN, ids=lambda prunes: next(iter(prunes)))
def test_a_job_that_is_run_again_keeps_every_field_of_its_prunes(
    page: Page, stack: Stack, prunes: dict[str, Any]
) -> None:
    job = stack.job(start(stack, "/prune-sample", **QUICK, **prunes))
    page.goto(f"/ui/jobs/{job['id']}")
    page.get_by_role("link", name="Change and run again").click()
    expect(page.get_by_label("Blocks that see it")).to_be_visible()
    page.get_by_label("Seed of the noise").fill("5")
    resolved = {name: each for name, each in job["request"].items() if each is not None}
    request = request_of(page)
    assert {name: request[name] for name in prunes} == prunes
    again = stack.http.post("/prune-sample", json=request).raise_for_status().json()["request"]
    assert {name: each for name, each in again.items() if each is not None} == resolved | {"seed": 5}


def test_a_study_that_is_run_again_keeps_every_prune(page: Page, stack: Stack) -> None:
    grid = {
        "thresholds": [0.03, 0.3], "remove_fractions": [0.5], "of": ["c", "read"], "fills": ["mean"],
        "schedules": [{"when": "every"}, {"when": "at", "steps": [0, 4]}],
    }  # fmt: skip
    prunes = [{"keep": 32, "by": "deviation"}, {"threshold_by_step": [0.1] * 6, "blocks": [0, "final"]}]
    search = {"measure": "drift", "budget": 0.1, "of": "read", "schedule": {"when": "at", "steps": [1]}}
    body = {"grid": grid, "prunes": prunes, "search": search, "measures": ["drift"]}
    job = stack.job(start(stack, "/studies", **QUICK, **body))
    page.goto(f"/ui/jobs/{job['id']}")
    page.get_by_role("link", name="Change and run again").click()
    expect(page.get_by_role("spinbutton", name="Share to remove")).to_have_value("0.5")
    expect(page.get_by_role("button", name="Change keep 32 by deviation")).to_be_visible()
    request = request_of(page)
    assert request["grid"] == grid
    again = stack.http.post("/studies", json=request).raise_for_status().json()["request"]
    assert {json.dumps(each, sort_keys=True) for each in again["prunes"]} == {
        json.dumps(each, sort_keys=True) for each in job["request"]["prunes"]
    }
    assert again["search"] == job["request"]["search"]


def test_a_search_by_modulation_error_samples_nothing(page: Page, stack: Stack) -> None:
    page.goto(f"/ui/new?model={MODEL}&kind=study&request={json.dumps({'grid': {'thresholds': [0.1]}})}")
    page.get_by_role("checkbox", name="Thresholds").uncheck()
    page.get_by_role("checkbox", name="Search for a threshold").check()
    page.get_by_label("Measure", exact=True).select_option("modulation error (samples nothing)")
    assert request_of(page)["search"] == {"measure": "modulation-error", "budget": 0.1}
    job = stack.job(start(stack, "/studies", **request_of(page)))
    page.goto(f"/ui/jobs/{job['id']}")
    expect(page.get_by_text("Nothing was sampled")).to_be_visible()
    expect(page.get_by_role("table", name="The trials, in their order").get_by_role("row")).to_have_count(8)


def test_a_single_prune_of_a_study_is_changed(page: Page) -> None:
    request = {"prunes": [{"keep": 16}, {"threshold": 0.05, "blocks": [0, 1]}], "measures": ["drift"]}
    page.goto(f"/ui/new?model={MODEL}&kind=study&request={json.dumps(request)}")
    page.get_by_role("button", name="Change tail 0.05, blocks 0-1").click()
    expect(page.get_by_label("Blocks that see it")).to_have_value("0-1")
    page.get_by_label("Blocks that see it").fill("final")
    page.get_by_label("Given by").select_option("the share that goes")
    page.get_by_role("button", name="Change the prune").click()
    assert request_of(page)["prunes"] == [{"keep": 16}, {"remove_fraction": 0.5, "blocks": ["final"]}]
    expect(page.get_by_role("button", name="Leave out remove 0.5, blocks final")).to_be_visible()


def test_every_rule_is_kept_from_one_kind_of_job_to_another(page: Page) -> None:
    given = {"remove_fraction": [0.5], "of": "read", "side": "head", "schedule": {"when": "at", "steps": [2]}}
    page.goto(f"/ui/new?model={MODEL}&request={json.dumps(given)}")
    page.get_by_role("radio", name="Study", exact=True).check(force=True)
    expect(page.get_by_role("checkbox", name="of SiLU(c)")).to_be_checked()
    grid = {"remove_fractions": [0.5], "sides": ["head"], "of": ["read"], "schedules": [given["schedule"]]}
    assert request_of(page) == {"model": MODEL, "grid": grid}
    page.get_by_role("radio", name="Prune and sample").check(force=True)
    expect(page.get_by_label("Which steps")).to_have_value("2")
    assert request_of(page) == {"model": MODEL, **given}
    page.get_by_label("Blocks that see it").fill("0")
    page.get_by_role("radio", name="Study", exact=True).check(force=True)
    one = {"remove_fraction": 0.5, "side": "head", "of": "read", "schedule": given["schedule"], "blocks": [0]}
    expect(page.get_by_role("button", name="Leave out remove 0.5 of the head")).to_be_visible()
    assert request_of(page)["prunes"] == [one]


@pytest.mark.parametrize("kind", ["prune-sample", "edit", "study", "compact"])
def test_each_form_is_accessible_in_both_themes(page: Page, kind: str) -> None:
    page.goto(f"/ui/new?model={MODEL}&kind={kind}&threshold=0.05")
    expect(page.get_by_role("button", name="Start the job")).to_be_visible()
    expect(page.locator(".loading")).to_have_count(0)
    assert_accessible_in_both_themes(page, f"new-{kind}")


@pytest.mark.parametrize("prunes", AGAIN, ids=lambda prunes: next(iter(prunes)))
def test_the_form_fits_a_narrow_screen_with_every_rule(page: Page, prunes: dict[str, Any]) -> None:
    page.set_viewport_size(PHONE)
    page.goto(f"/ui/new?model={MODEL}&request={json.dumps(prunes | {'steps': 6})}")
    expect(page.get_by_role("button", name="Start the job")).to_be_visible()
    assert_fits(page)
    assert_accessible(page)
    shot(page, f"new-phone-{next(iter(prunes))}")
