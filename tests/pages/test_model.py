"""The view of one model: its numbers are the interface's, and everything that is dragged has keys."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import safetensors.numpy
from playwright.sync_api import Browser, FloatRect, Locator, Page, Route, expect

from tests.end_to_end.stack import Stack, eventually
from tests.pages.browser import PHONE, assert_accessible, assert_accessible_in_both_themes, assert_fits, heading, shot
from tests.pages.jobs import finished, request_of, tab_to

MODEL = "/ui/models/shapes-sit"
ROUNDED = 0.000051
"""Half of the last of four decimals, and a little for float32."""


def open_model(page: Page, query: str = "", model: str = MODEL) -> None:
    """Open the view, and return when everything on it is there."""
    page.goto(f"{model}{query}")
    expect(page.get_by_role("application")).to_be_visible()
    expect(page.get_by_text("of all components, over the ")).to_be_visible()
    expect(page.locator(".loading, [aria-busy=true]")).to_have_count(0)


def number(page: Page, name: str) -> float:
    """A number of the page; the last of several, so the one after a change."""
    text = page.locator(f"[data-number='{name}']").inner_text()
    return float(re.findall(r"[\d.]+", text)[-1])


def statistics(stack: Stack, model: str = "shapes-sit", **query: Any) -> dict[str, Any]:
    """What the interface says."""
    answer = stack.http.get(f"/metrics/{model}", params=query, headers={"Prefer": "wait=60"}).raise_for_status()
    return dict(answer.json())


def grip(page: Page) -> Locator:
    """The threshold in the picture, which keys and pointers move."""
    return page.get_by_role("slider", name="Threshold", exact=True)


def test_a_model_is_accessible_in_both_themes(page: Page) -> None:
    open_model(page, "?pair=3,17")
    assert_accessible_in_both_themes(page, "model")


@pytest.mark.parametrize("figure", ["Sparsity", "Variance", "t-SNE"])
def test_every_figure_is_accessible_and_has_its_data_as_a_table(page: Page, figure: str) -> None:
    open_model(page)
    page.get_by_role("tab", name=figure).click()
    panel = page.get_by_role("tabpanel")
    expect(panel.get_by_role("img")).to_be_visible()
    panel.locator("summary").click()
    expect(panel.get_by_role("row").nth(5)).to_be_visible()
    assert_accessible(page)
    shot(page, f"model-{figure.lower()}")


def test_a_model_fits_a_narrow_screen(page: Page) -> None:
    page.set_viewport_size(PHONE)
    open_model(page, "?pair=3,17")
    assert_fits(page)
    shot(page, "model-phone")


@pytest.mark.parametrize(("model", "time"), [("shapes-sit", 0.0), ("shapes-sit", 0.5), ("shapes-dit", 500.0)])
def test_its_numbers_are_those_of_the_interface_at_every_time(
    page: Page, stack: Stack, model: str, time: float
) -> None:
    open_model(page, f"?t={time:g}&tau=0.038", f"/ui/models/{model}")
    expected = statistics(stack, model, timestep=time, threshold=0.038)
    assert number(page, "npr") == pytest.approx(expected["npr"], abs=ROUNDED)
    assert number(page, "cosine") == pytest.approx(expected["cosine"]["mean"], abs=ROUNDED)
    assert number(page, "removed-here") == pytest.approx(100 * expected["sparsity"][0]["fraction"], abs=0.051)


@pytest.mark.parametrize("time", ["0.34", "0.333"])
def test_a_time_that_float32_cannot_hold_is_shown_as_asked_and_is_no_step_of_the_run(page: Page, time: str) -> None:
    open_model(page, "?tau=0.038")
    run = number(page, "removed-run")
    open_model(page, f"?t={time}&tau=0.038")
    expect(page.get_by_role("spinbutton", name="Time t")).to_have_value(time)
    assert number(page, "removed-run") == run
    page.get_by_role("combobox", name="Class").select_option("3")
    expect(page).to_have_url(re.compile(rf"t={re.escape(time)}&class=3"))


def test_the_part_y_has_the_numbers_of_the_interface(page: Page, stack: Stack) -> None:
    open_model(page, "?tau=0.038")
    page.get_by_role("radio", name="y, the class alone").check(force=True)
    expected = statistics(stack, part="y")
    expect(page.locator("[data-number='npr']")).to_have_text(f"{expected['npr']:.4f}")
    assert number(page, "cosine") == pytest.approx(expected["cosine"]["mean"], abs=ROUNDED)
    expect(page).to_have_url(re.compile(r"part=y"))


@pytest.mark.parametrize("model", ["shapes-sit", "shapes-lightningdit", "shapes-dit"])
def test_what_a_prune_removes_over_the_run_is_over_the_steps_of_the_sampler(
    page: Page, stack: Stack, model: str
) -> None:
    """Some samplers take more steps at one end, where more, or less, is removed than on average over time."""
    asked = stack.http.get(f"/metrics/{model}/removal?threshold=0.038", headers={"Prefer": "wait=60"}).json()
    removed = asked["prunes"][0]["removed"]["fraction"]
    open_model(page, "?tau=0.038", f"/ui/models/{model}")
    assert number(page, "removed-run") == pytest.approx(100 * removed, abs=0.2)
    expect(page.get_by_text(f"over the {asked['steps']} steps of {asked['sampler']}.")).to_be_visible()


def test_the_modulation_error_follows_the_threshold_and_is_that_of_the_interface(page: Page, stack: Stack) -> None:
    labels = stack.http.get("/models/shapes-sit").json()["defaults"]["labels"]

    def expected(threshold: float) -> str:
        query = {"threshold": threshold, "label": labels}
        answer = stack.http.get("/metrics/shapes-sit/removal", params=query, headers={"Prefer": "wait=60"})
        error = answer.raise_for_status().json()["prunes"][0]["modulation"]["error"]
        return f"{100 * error:.1f} %"

    open_model(page, "?tau=0.1")
    card = page.locator("section", has=page.get_by_role("heading", name="What a prune changes in the modulations"))
    error = card.get_by_role("definition").first
    expect(error).to_contain_text(expected(0.1))
    page.get_by_role("spinbutton", name="Threshold τ").fill("0.3")
    expect(error).to_contain_text(expected(0.3))
    card.get_by_role("button", name="Compare rules by the share removed").click()
    expect(card.locator(".chart")).to_be_visible()
    card.locator("summary").click()
    expect(card.get_by_role("columnheader", name="deviation, mean")).to_be_visible()
    shot(page, "modulation")


def test_what_is_removed_at_one_time_is_another_share_than_over_the_run(page: Page) -> None:
    open_model(page, "?tau=0.038")
    assert number(page, "removed-here") < number(page, "removed-run") - 5


def test_the_threshold_is_moved_by_keys_slider_and_number_and_the_numbers_follow(page: Page, stack: Stack) -> None:
    open_model(page, "?tau=0.02")
    before = number(page, "removed-here")
    grip(page).focus()
    page.keyboard.press("ArrowUp")
    expect(grip(page)).to_have_attribute("aria-valuenow", "0.0204")
    page.keyboard.press("PageUp")
    expect(grip(page)).to_have_attribute("aria-valuenow", "0.0255")
    assert number(page, "removed-here") > before
    field = page.get_by_role("spinbutton", name="Threshold τ")
    expect(field).to_have_value("0.0255")
    field.fill("0.05")
    expect(grip(page)).to_have_attribute("aria-valuenow", "0.05")
    fraction = statistics(stack, threshold=0.05)["sparsity"][0]["fraction"]
    expect(page.locator("[data-number='removed-here']")).to_have_text(f"{100 * fraction:.1f} %")
    slider = page.get_by_role("slider", name="Threshold τ, slider")
    slider.press("Home")
    expect(page.locator("[data-number='removed-here']")).to_have_text("0.0 %")
    expect(page).to_have_url(re.compile(r"tau=0(&|$)"))


def test_the_threshold_is_dragged(page: Page) -> None:
    open_model(page, "?tau=0.02")
    box = grip(page).bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 100, y - 40, steps=4)
    page.mouse.up()
    expect(grip(page)).not_to_have_attribute("aria-valuenow", "0.02")
    assert float(grip(page).get_attribute("aria-valuenow") or 0) > 0.04


def test_a_finger_on_the_picture_scrolls_the_page_and_on_the_grip_moves_the_threshold(
    browser: Browser, stack: Stack
) -> None:
    context = browser.new_context(base_url=stack.url, viewport={"width": 400, "height": 500}, has_touch=True)
    page = context.new_page()
    page.goto(f"{MODEL}?tau=0.02")
    expect(grip(page)).to_be_visible()
    page.locator(".canvas-box").first.evaluate("(box) => box.scrollIntoView({ block: 'center' })")
    session = context.new_cdp_session(page)

    def drag(box: FloatRect | None, down: float, up: float) -> None:
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + down
        session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
        for step in range(1, 11):
            moved = {"type": "touchMove", "touchPoints": [{"x": x, "y": y - up * step / 10}]}
            session.send("Input.dispatchTouchEvent", moved)
            page.wait_for_timeout(30)
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    before = page.evaluate("scrollY")
    drag(page.locator(".canvas-box").first.bounding_box(), 200, 100)
    page.wait_for_function("(before) => scrollY > before + 20", arg=before)
    assert grip(page).get_attribute("aria-valuenow") == "0.02"
    page.wait_for_timeout(500)  # it has come to rest
    before = page.evaluate("scrollY")
    drag(grip(page).bounding_box(), 13, 60)
    expect(grip(page)).not_to_have_attribute("aria-valuenow", "0.02")
    assert float(grip(page).get_attribute("aria-valuenow") or 0) > 0.03
    assert page.evaluate("scrollY") == before
    context.close()


def test_the_threshold_stays_within_what_the_grip_says_is_its_range(page: Page) -> None:
    for tau in ("0", "1e-9", "500"):
        open_model(page, f"?tau={tau}")
        least, now, most = (float(grip(page).get_attribute(f"aria-value{end}") or "") for end in ("min", "now", "max"))
        assert least <= now <= most
        assert tau in (grip(page).get_attribute("aria-valuetext") or "")


def test_the_sorted_magnitudes_are_in_a_table(page: Page, stack: Stack) -> None:
    open_model(page, "?tau=0.038&class=3")
    page.get_by_text(re.compile(r"^Data: sorted \|c\|")).click()
    table = page.get_by_role("table", name=re.compile(r"^sorted \|c\|"))
    expect(table).to_be_visible()
    rows = [row.locator("th, td").all_inner_texts() for row in table.locator("tbody tr").all()]
    answer = stack.http.get(
        "/metrics/shapes-sit/vectors?label=3", headers={"Accept": "application/json", "Prefer": "wait=60"}
    ).json()
    sizes = [abs(value) for value in answer["c"][0][0]]
    order = sorted(range(len(sizes)), key=lambda k: -sizes[k])
    assert [int(row[1]) for row in rows] == order
    assert float(rows[0][2]) == pytest.approx(max(sizes), rel=1e-3)
    assert [row[3] for row in rows] == ["removed" if sizes[k] < 0.038 else "kept" for k in order]


def test_a_table_is_a_stop_of_the_tab_key_only_where_it_scrolls(page: Page) -> None:
    open_model(page)
    effects = page.get_by_role("table", name="What the prune does")
    assert effects.get_attribute("tabindex") is None
    page.get_by_text(re.compile(r"^Data: sorted \|c\|")).click()
    expect(page.get_by_role("region", name=re.compile(r"^sorted \|c\|"))).to_have_attribute("tabindex", "0")
    page.set_viewport_size({"width": 320, "height": 640})
    page.goto("/ui/compare?a=shapes-sit&b=shapes-dit")
    expect(page.get_by_role("region", name="Statistics of both")).to_have_attribute("tabindex", "0")


def test_the_training_of_a_model_is_charted_with_its_record_where_there_is_one(page: Page, stack: Stack) -> None:
    record = stack.http.get("/models/shapes-sit/training").json()
    open_model(page)
    card = page.locator("section.card", has=page.get_by_role("heading", level=2, name="Training"))
    expect(card.get_by_text(f"{record['recipe']['steps']:,}").first).to_be_visible()
    for value in (record["recipe"]["learning_rate"], float(f"{record['curve'][-1]['loss']:.4g}")):
        expect(card.get_by_text(str(value), exact=True)).to_be_visible()
    for chart, key in (("Cosine and nPR over training", "cosine"), ("Loss over training", "loss")):
        card.get_by_text(f"Data: {chart}").click()
        rows = card.get_by_role("table", name=chart).locator("tbody tr")
        expect(rows).to_have_count(len(record["curve"]))
        shown = float(rows.nth(3).locator("td").first.inner_text())
        assert shown == pytest.approx(record["curve"][3][key], rel=1e-2)


def test_a_model_without_a_record_of_its_training_has_no_chart_of_it(page: Page) -> None:
    def without(route: Route) -> None:
        model = route.fetch().json()
        model["links"].pop("training")
        route.fulfill(json=model)

    page.route(
        "**/models/shapes-sit", lambda route: without(route) if "/ui/" not in route.request.url else route.continue_()
    )
    open_model(page)
    expect(page.get_by_role("heading", level=2, name="Training")).to_have_count(0)


def test_of_the_times_that_a_slider_passes_only_the_last_is_computed(page: Page) -> None:
    """Each message to the worker is held for a while, as the cosines of a thousand classes take."""
    page.add_init_script(
        """window.asked = 0; const post = Worker.prototype.postMessage;
        Worker.prototype.postMessage = function (message, ...rest) {
          if (message.task === "cosine") window.asked += 1;
          setTimeout(() => post.call(this, message, ...rest), window.asked > 1 ? 1500 : 0);
        };"""
    )
    open_model(page)
    slider = page.get_by_role("slider", name="Time t, slider")
    slider.focus()
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    expect(page.locator("[aria-busy=true]")).to_be_visible()
    expect(page.get_by_text("Computing t = 0.24")).to_be_visible()
    expect(page.locator("[aria-busy=true]")).to_have_count(0)
    expect(page.get_by_text("Click a pair")).to_be_visible()
    assert page.evaluate("asked") < 8


def test_steps_of_a_run_have_no_ticks_between_them(page: Page, stack: Stack) -> None:
    job = finished(stack, "/prune-sample", model="shapes-sit", labels=[0], steps=4, threshold=0.1)
    page.add_init_script(
        """window.drawn = []; const fill = CanvasRenderingContext2D.prototype.fillText;
        CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
          window.drawn.push(text); return fill.call(this, text, ...rest); };"""
    )
    page.goto(f"/ui/jobs/{job['id']}")
    expect(page.get_by_role("img", name=re.compile("^Removed at each step"))).to_be_visible()
    eventually(lambda: "sampling step, counted from 0" in page.evaluate("drawn"), "the axis is drawn")
    drawn = page.evaluate("drawn")
    assert {"0", "1", "2", "3"} <= set(drawn)
    assert not {"0.5", "1.5"} & set(drawn)


def test_the_address_restores_the_view(page: Page) -> None:
    open_model(page, "?t=0.5&class=17&tau=0.05&rule=head&fill=mean&order=name&pair=3,17")
    expect(page.get_by_text("Modulation error", exact=True)).to_be_visible()
    found = page.locator("main").inner_text()
    assert page.get_by_role("combobox", name="Class").input_value() == "17"
    for radio in ("above τ", "mean of classes"):
        expect(page.get_by_role("radio", name=radio)).to_be_checked()
    expect(page.get_by_role("combobox", name="Order by")).to_have_value("name")
    expect(page.get_by_role("spinbutton", name="Time t")).to_have_value("0.5")
    expect(page.locator("[data-number='pair-cosine']")).to_be_visible()
    page.wait_for_timeout(300)  # the address is written
    open_model(page, page.url.partition("/shapes-sit")[2])
    expect(page.get_by_text("Modulation error", exact=True)).to_be_visible()
    assert page.locator("main").inner_text() == found


def test_a_pair_is_chosen_by_keys_and_its_cosine_is_that_of_the_interface(page: Page, stack: Stack) -> None:
    open_model(page)
    heatmap = page.get_by_role("application")
    heatmap.focus()
    for key in ("ArrowDown", "Shift+ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    names = stack.http.get("/models/shapes-sit").json()["class_names"]
    expect(page.get_by_role("heading", level=2, name=f"{names[1]} and {names[11]}")).to_be_visible()
    query = {"part": "c", "order": "class"}
    cosines = stack.http.get(
        "/metrics/shapes-sit/cosine", params=query, headers={"Prefer": "wait=60", "Accept": "application/json"}
    ).json()
    assert number(page, "pair-cosine") == pytest.approx(cosines["values"][1][11], abs=ROUNDED)
    expect(page.get_by_role("status").filter(has_text=f"{names[1]} and {names[11]}")).to_be_attached()


def test_a_click_marks_a_pair_and_pointing_names_one(page: Page, stack: Stack) -> None:
    open_model(page)
    heatmap = page.get_by_role("application")
    box = heatmap.bounding_box()
    assert box is not None
    cell = box["width"] / 100
    position = {"x": 20.5 * cell, "y": 10.5 * cell}
    heatmap.hover(position={"x": position["x"], "y": position["y"]})
    names = stack.http.get("/models/shapes-sit").json()["class_names"]
    expect(page.get_by_text(re.compile(f"{names[10]} · {names[20]}: 0.9"))).to_be_visible()
    heatmap.click(position={"x": position["x"], "y": position["y"]})
    expect(page.get_by_role("heading", level=2, name=f"{names[10]} and {names[20]}")).to_be_visible()


def test_keeping_the_most_varying_components_is_a_rule_with_its_own_fill(page: Page) -> None:
    open_model(page, "?keep=32&rule=keep")
    expect(page.locator("[data-number='removed-here']")).to_have_text("75.0 %")
    expect(page.locator("[data-number='removed-run']")).to_have_text("75.0 %")
    expect(page.get_by_role("radio", name="mean of classes")).to_be_checked()
    page.get_by_role("spinbutton", name="Components to keep").fill("128")
    expect(page.locator("[data-number='removed-here']")).to_have_text("0.0 %")
    expect(grip(page)).to_be_hidden()


@pytest.mark.parametrize(
    ("query", "prune"),
    [
        ("tau=0.05", {"threshold": [0.05]}),
        ("tau=0.05&rule=head&fill=mean", {"threshold": [0.05], "side": "head", "fill": "mean"}),
        ("rule=keep&keep=32", {"keep": [32]}),
        ("rule=keep&keep=32&fill=zero", {"keep": [32], "fill": "zero"}),
    ],
)
def test_the_prune_and_class_that_are_shown_go_to_a_new_job(page: Page, query: str, prune: dict[str, Any]) -> None:
    open_model(page, f"?{query}&class=17")
    page.get_by_role("link", name=re.compile("^Sample ")).click()
    expect(page.get_by_role("button", name="Start the job")).to_be_visible()
    assert request_of(page) == {"model": "shapes-sit", "labels": [17], **prune}


def test_one_vector_has_no_pairs(page: Page) -> None:
    page.route("**/vectors?*part=y*", lambda route: route.continue_(url=f"{route.request.url}&label=3"))
    page.goto(MODEL)
    expect(page.get_by_text("One vector: there are no pairs.")).to_be_visible()
    expect(page.get_by_text("of all components, over the ")).to_be_visible()
    expect(page.get_by_role("application")).to_have_count(0)


def test_uploaded_conditions_go_to_figures_and_to_a_new_job(page: Page) -> None:
    """The vectors are those of classes, sent as the service sends those of rows of a file."""
    conditions = "0" * 64

    def as_rows(route: Route) -> None:
        answer = route.fetch(url=route.request.url.replace(f"&conditions={conditions}", ""))
        tensors = safetensors.numpy.load(answer.body())
        tensors["conditions"] = tensors.pop("labels") + 5
        route.fulfill(response=answer, body=safetensors.numpy.save(tensors))

    page.route("**/vectors?*part=y*", as_rows)
    page.route("**/removal?*", lambda route: route.continue_(url=route.request.url.partition("&conditions")[0]))
    points = {"x": list(range(100)), "y": list(range(100)), "names": [f"condition {row}" for row in range(100)]}
    page.route("**/figures/tsne?*", lambda route: route.fulfill(json={"data": points}))
    open_model(page, f"?conditions={conditions}&class=2&tau=0.05")
    with page.expect_request(lambda request: "/figures/tsne" in request.url) as asked:
        page.get_by_role("tab", name="t-SNE").click()
    assert parse_qs(urlsplit(asked.value.url).query)["conditions"] == [conditions]
    link = page.get_by_role("link", name="Sample at this threshold").get_attribute("href") or ""
    query = parse_qs(urlsplit(link).query)
    assert json.loads(query["request"][0]) == {"conditions": conditions, "rows": [7]}
    assert query["threshold"] == ["0.05"]


def test_the_main_path_needs_the_keyboard_alone(page: Page) -> None:
    page.goto("/ui/")
    expect(page.get_by_role("link", name="shapes-sit", exact=True)).to_be_visible()
    tab_to(page, "shapes-sit$")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name="shapes-sit")).to_be_focused()
    assert heading(page) == "shapes-sit"
    expect(page.get_by_role("application")).to_be_visible()
    tab_to(page, "Threshold$")
    before = grip(page).get_attribute("aria-valuenow") or ""
    page.keyboard.press("PageUp")
    expect(grip(page)).not_to_have_attribute("aria-valuenow", before)
    for _ in range(60):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.textContent.trim().startsWith('Sample')"):
            break
    threshold = float(grip(page).get_attribute("aria-valuenow") or 0)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name="New job")).to_be_focused()
    expect(page.get_by_role("button", name="Start the job")).to_be_visible()
    assert request_of(page) == {"model": "shapes-sit", "threshold": [threshold], "labels": [0]}


@pytest.mark.complains("409")
def test_a_model_whose_files_are_missing_says_how_to_get_them(page: Page) -> None:
    page.goto("/ui/models/dit-xl-2-256")
    expect(page.get_by_role("alert")).to_contain_text("dit-xl-2-256")
    expect(page.get_by_role("link", name=re.compile("DiT-XL-2-256x256.pt$"))).to_be_visible()
    assert_accessible(page)


@pytest.mark.complains("404")
def test_an_unknown_model_is_a_problem_that_is_shown(page: Page) -> None:
    page.goto("/ui/models/absent")
    expect(page.get_by_role("alert")).to_contain_text("absent")
    assert_accessible(page)


@pytest.mark.complains("404")
def test_a_name_is_encoded_in_what_is_asked(page: Page) -> None:
    page.goto("/ui/models/absent%3Fpart=y")
    expect(page.get_by_role("alert")).to_contain_text("absent?part=y")


@pytest.mark.parametrize("address", [MODEL, "/ui/compare?a=shapes-sit&b=shapes-dit"])
@pytest.mark.complains("404")
def test_statistics_that_fail_say_so(page: Page, address: str) -> None:
    page.route("**/worker.js", lambda route: route.fulfill(status=404))
    page.goto(address)
    expect(page.get_by_role("alert").first).to_contain_text("The statistics failed")


def test_what_is_shown_first_is_small_and_takes_two_round_trips_after_the_page(page: Page) -> None:
    """All modules come at once, since the page names them; then what they ask for, at once again."""
    begun: list[str] = []
    page.on("request", lambda request: begun.append(urlsplit(request.url).path))
    page.route("**/metrics/**", lambda route: None)  # never answered: nothing of a third round trip comes before
    with page.expect_request(lambda request: "/vectors?part=y&part=t" in request.url):
        page.goto(MODEL)
    page.wait_for_timeout(500)
    named = page.evaluate(
        "Array.from(document.querySelectorAll('link[rel=modulepreload], link[rel=stylesheet], script'),"
        "(each) => new URL(each.href || each.src).pathname)"
    )
    asked = {path for path in begun if "/ui/" not in path and "favicon" not in path}
    assert asked == {"/models/shapes-sit", "/metrics/shapes-sit/vectors", "/health/ready"}
    assert {path for path in begun if "/ui/static/" in path} <= set(named)
    page.unroute("**/metrics/**")
    page.goto(MODEL)
    expect(grip(page)).to_be_visible()
    transferred = page.evaluate(
        "performance.getEntriesByType('resource').reduce((sum, each) => sum + each.encodedBodySize, 0)"
    )
    assert 100_000 < transferred < 300_000
