"""Models whose classes have equal or hostile names, that have one class, or that take conditions in place of labels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Page, expect
from safetensors.torch import save_file

from tailprune.systems import SiT
from tailprune.systems.dit import DiTConfig
from tests.end_to_end.stack import Stack, running
from tests.pages.browser import assert_accessible, shot
from tests.pages.jobs import request_of
from tests.reference_models import BY_FEATURES, conditions_file, write_reference_models
from tests.registry import extend
from tests.tiny_model import SIT_ENTRY

HOSTILE = "<img src=x onerror=alert(1)>"
NAMES = ["crane", HOSTILE, "crane", "ring"]


def write_sit(folder: Path, name: str, classes: int) -> None:
    """A very small SiT of random weights."""
    config = DiTConfig(
        input_size=8, patch_size=4, hidden_size=32, depth=1, num_heads=2, in_channels=3, num_classes=classes,
        learn_sigma=False,
    )  # fmt: skip
    system = SiT(config)
    torch.nn.init.normal_(system.y_embedder.embedding_table.weight)
    save_file(system.state_dict(), folder / f"{name}.safetensors")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service with a model of twins, one of a single class, and the reference cases, of which two take conditions."""
    folder = tmp_path_factory.mktemp("unusual")
    registry = write_reference_models(folder / "models")
    torch.manual_seed(0)
    for name, classes in (("twins", len(NAMES)), ("single", 1)):
        write_sit(folder / "models", name, classes)
    (folder / "models" / "names.txt").write_text("\n".join(NAMES) + "\n")
    left_out = ("class_names", "card", "extractor", "classifier", "reference")
    entry = {name: value for name, value in SIT_ENTRY.items() if name not in left_out}
    twins = entry | {"checkpoint": "twins.safetensors", "class_names": "names.txt", "title": HOSTILE}
    single = entry | {
        "checkpoint": "single.safetensors", "classes": 1, "defaults": {"sampler": "euler", "steps": 4, "labels": [0]}
    }  # fmt: skip
    extend(registry, {"models": {"twins": twins, "single": single}})
    with running(folder / "stack", TAILPRUNE_REGISTRY=str(registry)) as stack:
        for family in BY_FEATURES:
            assert stack.http.post("/conditions", content=conditions_file(family)).is_success
        yield stack


def upload(stack: Stack, family: str) -> str:
    """The id of the conditions of a family."""
    return str(stack.http.post("/conditions", content=conditions_file(family)).json()["id"])


def test_classes_of_one_name_are_told_apart_and_hostile_names_are_text(page: Page) -> None:
    page.goto("/ui/models/twins?class=2&pair=0,2")
    expect(page.get_by_text("of all components, over the ")).to_be_visible()
    expect(page.get_by_role("heading", level=2, name="crane (0) and crane (2)")).to_be_visible()
    options = page.get_by_role("combobox", name="Class").locator("option").all_text_contents()
    assert options == ["0 · crane (0)", f"1 · {HOSTILE}", "2 · crane (2)", "3 · ring"]
    page.get_by_text(re.compile("^Data: the pairs")).click()
    table = page.get_by_role("table", name=re.compile("^the pairs"))
    expect(table).to_be_visible()
    pairs = {tuple(row.locator("th, td").all_inner_texts()[:2]) for row in table.locator("tbody tr").all()}
    assert len(pairs) == 6
    assert page.locator("img").count() == 0
    page.get_by_role("tab", name="t-SNE").click()
    page.get_by_text("Data: t-SNE").click()
    expect(page.get_by_role("table", name="t-SNE of the classes").get_by_text("crane (2)")).to_be_visible()


def test_a_name_that_several_classes_have_is_no_choice_of_one(page: Page) -> None:
    page.goto("/ui/new?model=twins")
    field = page.get_by_label("Add a class")
    field.fill("crane")
    field.press("Enter")
    expect(page.get_by_text("is the name of the classes 0, 2; give a number")).to_be_visible()
    field.fill("2")
    field.press("Enter")
    assert request_of(page)["labels"] == [2]


def test_a_model_of_one_class_has_every_view_without_pairs(page: Page) -> None:
    page.goto("/ui/models/single")
    expect(page.get_by_text("of all components, over the ")).to_be_visible()
    expect(page.get_by_text("One vector: there are no pairs.")).to_be_visible()
    for figure, says in (("Variance", "One vector does not vary."), ("t-SNE", "It is drawn of 4 vectors or more.")):
        page.get_by_role("tab", name=figure).click()
        expect(page.get_by_text(says)).to_be_visible()
    assert_accessible(page)
    page.goto("/ui/compare?a=single&b=twins")
    expect(page.get_by_role("heading", level=2, name="Numbers")).to_be_visible()
    expect(page.get_by_text("One vector: there are no pairs.")).to_be_visible()
    page.goto("/ui/compare?a=single&b=single")
    expect(page.get_by_text("One vector: there are no pairs.")).to_have_count(2)
    assert_accessible(page)


@pytest.mark.parametrize("family", BY_FEATURES)
@pytest.mark.complains("422")  # until conditions are chosen, there are no statistics
def test_a_model_that_takes_conditions_is_looked_at_by_those_that_were_uploaded(
    page: Page, stack: Stack, family: str
) -> None:
    conditions = upload(stack, family)
    refused: list[str] = []
    page.on("response", lambda response: None if response.ok else refused.append(response.url))
    page.goto("/ui/")
    expect(
        page.locator(f"section.card:has(h2 a:text-is('{family}'))").get_by_text("in place of classes")
    ).to_be_visible()
    assert not refused  # for the cards
    page.goto(f"/ui/models/{family}")
    page.get_by_role("combobox", name="Uploaded conditions").select_option(conditions)
    expect(page.get_by_text("of all components, over the ")).to_be_visible()
    expect(page).to_have_url(re.compile(f"conditions={conditions}"))
    expect(page.get_by_role("combobox", name="Condition", exact=True)).to_be_visible()
    page.get_by_role("main").get_by_role("link", name="Compare").click()
    expect(page.get_by_role("heading", level=2, name="Numbers")).to_be_visible()
    expect(page.get_by_role("combobox", name="Uploaded conditions").first).to_have_value(conditions)


def test_conditions_are_chosen_where_they_are_compared(page: Page, stack: Stack) -> None:
    conditions = upload(stack, "x-mdpt")
    page.goto("/ui/compare?a=x-mdpt&b=x-mdpt&part=y")
    first, second = (page.get_by_role("combobox", name="Uploaded conditions").nth(side) for side in (0, 1))
    first.select_option(conditions)
    expect(second).to_have_value(conditions)  # the same model is measured by the same, unless others are chosen
    expect(page.get_by_role("heading", level=2, name="Numbers")).to_be_visible()
    expect(page.get_by_role("application")).to_have_count(3)
    expect(page).to_have_url(re.compile(f"ca={conditions}"))
    shot(page, "compare-conditions")


def test_the_form_of_a_model_that_takes_conditions_counts_their_rows(page: Page, stack: Stack) -> None:
    conditions = upload(stack, "x-mdpt")
    page.goto("/ui/new?model=x-mdpt&threshold=0.5")
    expect(page.get_by_text("how long it takes depends on how many there are")).to_be_visible()
    page.get_by_role("combobox", name="Uploaded conditions").select_option(conditions)
    expect(page.get_by_text("2 conditions: 2 samples by each prune")).to_be_visible()
    expect(page.get_by_text(re.compile("^4 samples of 4 steps"))).to_be_visible()
    with page.expect_request(lambda request: "/removal" in request.url and "row=1" in request.url):
        page.get_by_label("Rows of the file").fill("1")
        page.get_by_label("Rows of the file").press("Tab")
    expect(page.get_by_text("1 condition: 1 sample by each prune")).to_be_visible()
    expect(page.get_by_text(re.compile(r"removes [\d.]+ % over the run"))).to_be_visible()
