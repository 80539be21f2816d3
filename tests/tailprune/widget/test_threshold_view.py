"""The view of a notebook: its traits in Python, and itself in a browser that has no network."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Browser, Page

import tailprune
from tailprune.spec import InputError
from tailprune.widget import ThresholdView, bundled
from tests.pages.browser import assert_accessible, chromium, shot, watch

ROOT = Path(__file__).parents[3]

PAGE = """<!doctype html><html lang="en"><title>A notebook</title><body data-jp-theme-light="{light}">
<main><h1>A notebook</h1><div id="view"></div></main>
<script type="module">
{bundled}
const state = {state};
const bytes = Uint8Array.from(atob(state._values), (letter) => letter.charCodeAt(0));
state._values = new DataView(bytes.buffer);
const listeners = {{}};
window.saved = [];
window.model = {{
  get: (name) => state[name],
  set(name, value) {{ state[name] = value; (listeners["change:" + name] ?? []).forEach((listener) => listener()); }},
  save_changes: () => window.saved.push({{ threshold: state.threshold, side: state.side, row: state.row }}),
  on: (event, listener) => (listeners[event] ??= []).push(listener),
  off: (event, listener) => (listeners[event] = listeners[event].filter((other) => other !== listener)),
}};
window.end = __default.render({{
  model: window.model, el: document.querySelector("#view")
}});
</script>"""


def page_of(view: ThresholdView, theme: str) -> str:
    """A page that shows a view as a notebook does, with its traits in place of a kernel."""
    state = {name: getattr(view, name) for name in ("_dim", "threshold", "side", "row", "names")}
    state["_values"] = base64.b64encode(view._values).decode()
    module = bundled().replace("export default", "const __default =")
    return PAGE.format(bundled=module, state=json.dumps(state), light="true" if theme == "light" else "false")


@pytest.fixture(scope="module")
def browser(processes: None) -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a view in a page that reaches nothing, and fails a test that leaves a fault."""
    faults: list[str] = []
    asked: list[str] = []
    context = browser.new_context(offline=True, viewport={"width": 900, "height": 620})

    def opened(view: ThresholdView, theme: str = "light") -> Page:
        page = context.new_page()
        watch(page, faults)
        page.on("request", lambda request: asked.append(request.url))
        page.set_content(page_of(view, theme))
        page.get_by_role("status").wait_for()
        return page

    yield opened
    context.close()
    assert faults == []
    assert asked == []


@pytest.fixture(scope="module")
def vectors() -> torch.Tensor:
    system = tailprune.load(ROOT / "models" / "shapes-sit")
    return system.condition(0.0, system.all_inputs())


def status(page: Page) -> str:
    return page.get_by_role("status").inner_text()


def saved(page: Page) -> dict[str, Any]:
    return dict(page.evaluate("window.saved.at(-1)"))


def test_a_system_is_shown_by_the_vectors_of_its_classes_at_the_time_where_sampling_starts(
    vectors: torch.Tensor,
) -> None:
    view = ThresholdView(tailprune.load(ROOT / "models" / "shapes-sit"))
    assert view._values == vectors.numpy().tobytes()
    assert view.names[17] == "class 17"
    below = (vectors.abs() < view.threshold).double().mean().item()
    assert 0.48 < below < 0.52
    assert view.prune == tailprune.Prune("tail", view.threshold)
    assert repr(view) == f"ThresholdView(100 vectors of 128 components, tail {view.threshold:g})"


def test_the_prune_follows_what_the_view_is_set_to() -> None:
    view = ThresholdView([[1.0, 0.25, 0.5]], threshold=0.3)
    view.side, view.threshold = "head", 0.4
    assert view.prune == tailprune.Prune("head", 0.4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"vectors": torch.zeros(2, 3, 4)}, "shape"),
        ({"vectors": [[1.0, float("nan")]]}, "finite"),
        ({"vectors": torch.zeros(0, 3)}, "shape"),
        ({"vectors": torch.zeros(1, 1).expand(1 << 13, (1 << 11) + 1)}, "more than the 16,777,216"),
        ({"vectors": [[1.0]], "threshold": -1}, "threshold"),
        ({"vectors": [[1.0]], "side": "middle"}, "side"),
        ({"vectors": [[1.0], [2.0]], "names": ["one"]}, "a name for each of the 2 vectors"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ThresholdView(**arguments)


def test_a_row_that_the_view_does_not_have_is_refused() -> None:
    with pytest.raises(InputError, match="outside 0 to 0"):
        ThresholdView([[1.0, 2.0]]).row = 1


@pytest.mark.parametrize("side", ["tail", "head"])
def test_the_numbers_of_the_view_are_those_of_python(
    opened: Callable[..., Page], vectors: torch.Tensor, side: Any
) -> None:
    page = opened(ThresholdView(vectors, threshold=0.1, side=side))
    pruned = tailprune.Prune(side, 0.1)(vectors)
    before, after = tailprune.describe(vectors), tailprune.describe(pruned)
    here, all_ = (pruned[0] == 0).sum().item(), (pruned == 0).double().mean().item()
    assert before.cosine is not None
    assert after.cosine is not None
    assert status(page) == (
        f"Removes {here} of 128 components of this vector, {100 * all_:.1f} % of all 100 at this one time. "
        f"nPR {before.npr:.3f}, then {after.npr:.3f}; cosine {before.cosine.mean:.3f}, then {after.cosine.mean:.3f}."
    )


def test_keys_a_number_and_the_mouse_move_the_threshold_and_python_is_told(
    opened: Callable[..., Page], vectors: torch.Tensor
) -> None:
    page = opened(ThresholdView(vectors, threshold=0.1))
    slider = page.get_by_role("slider")
    slider.press("PageUp")
    assert saved(page)["threshold"] == 0.125
    page.get_by_label("Threshold, as a number").fill("0.05")
    assert saved(page)["threshold"] == 0.05
    assert slider.get_attribute("aria-valuenow") is not None
    box = page.get_by_role("img").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 60, steps=4)
    page.mouse.up()
    assert saved(page)["threshold"] > 0.5
    page.get_by_role("combobox", name="Remove").select_option("above: the head")
    page.get_by_role("combobox", name="Vector").select_option("vector 17")
    assert saved(page)["side"] == "head"
    assert saved(page)["row"] == 17


def test_python_moves_the_view(opened: Callable[..., Page], vectors: torch.Tensor) -> None:
    page = opened(ThresholdView(vectors, threshold=0.1))
    before = status(page)
    page.evaluate("window.model.set('threshold', 5)")
    assert status(page) != before
    assert page.get_by_label("Threshold, as a number").input_value() == "5"
    page.evaluate("window.end()")
    assert page.get_by_role("slider").count() == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_view_is_accessible_and_can_be_looked_at(
    opened: Callable[..., Page], vectors: torch.Tensor, theme: str
) -> None:
    page = opened(ThresholdView(vectors, threshold=0.038), theme)
    assert_accessible(page)
    shot(page, f"threshold-view-{theme}")
