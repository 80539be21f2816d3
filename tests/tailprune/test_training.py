"""The data set, the recipes' loop, and what was shipped."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tailprune
from tailprune import Prune
from tailprune.systems import System
from tailprune.systems.layers import sincos_positions
from tailprune.training.recipe import Recipe, train
from tailprune.training.shapes import CLASS_NAMES, NUM_CLASSES, draw
from tailprune.training.shapes_classifier import ShapesClassifier, accuracy, load_classifier
from tailprune.training.shapes_models import SHAPES_MODELS
from tests.tailprune.parity import read

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "shapes-sit"
CLASSIFIER = ROOT / "models" / "shapes-classifier" / "model.safetensors"


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def classifier() -> ShapesClassifier:
    return load_classifier(CLASSIFIER)


@pytest.fixture(scope="module")
def shapes_sit() -> System:
    return tailprune.load(MODEL)


@pytest.mark.parametrize("size", [16, 32, 40])
def test_images_of_any_size_are_a_function_of_labels_and_seed(size: int) -> None:
    labels = torch.arange(NUM_CLASSES)
    images = draw(labels, seeded(3), size)
    assert images.shape == (NUM_CLASSES, 3, size, size)
    assert -1 <= images.min() < -0.5 < 0.5 < images.max() <= 1
    assert torch.equal(images, draw(labels, seeded(3), size))
    assert not torch.equal(images, draw(labels, seeded(4), size))


def test_two_images_of_a_class_differ() -> None:
    first, second = draw(torch.tensor([55, 55]), seeded(0))
    assert (first - second).abs().mean() > 0.02


@pytest.mark.parametrize("label", [-1, 100])
def test_a_label_of_no_shape_is_refused(label: int) -> None:
    with pytest.raises(ValueError, match="0 to 99"):
        draw(torch.tensor([label]), seeded(0))


def test_positions_are_those_of_the_published_files() -> None:
    case = read(ROOT / "tests" / "reference" / "dit-a.pt.xz")
    published = case["state_dict"]["pos_embed"]
    ours = sincos_positions(published.shape[2], 4)
    assert torch.allclose(ours, published, atol=1e-6)


def test_the_learning_rate_rises_and_falls() -> None:
    recipe = Recipe(steps=1000, batch_size=1, learning_rate=1.0, warmup=100)
    assert recipe.rate(0) == pytest.approx(0.01)
    assert recipe.rate(99) == pytest.approx(1 - 0.95 * 0.099)
    assert recipe.rate(999) == pytest.approx(0.05, abs=0.001)


class Stop(Exception):
    pass


def test_training_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    recipe = Recipe(steps=8, batch_size=4, learning_rate=0.1, warmup=2, measure_every=2)

    def run(folder: Path, stop_at: int | None = None) -> Tensor:
        torch.manual_seed(0)
        model, calls = nn.Linear(3, 1), 0

        def loss_of(model: nn.Linear, generator: torch.Generator) -> Tensor:
            nonlocal calls
            calls += 1
            if calls == stop_at:
                raise Stop
            return model(torch.randn(recipe.batch_size, 3, generator=generator)).square().mean()

        average = train(model, recipe, loss_of, lambda average: {"norm": average.weight.norm().item()}, folder)
        return average.weight.detach()

    whole = run(tmp_path / "whole")
    with pytest.raises(Stop):
        run(tmp_path / "parts", stop_at=6)
    assert torch.equal(run(tmp_path / "parts"), whole)
    whole_curve, curve = (
        json.loads((tmp_path / name / "training.json").read_text())["curve"] for name in ("whole", "parts")
    )
    assert [point["norm"] for point in curve] == [point["norm"] for point in whole_curve]
    assert [point["step"] for point in curve] == [2, 4, 6, 8]


@pytest.mark.parametrize("name", SHAPES_MODELS)
def test_a_few_steps_of_a_recipe_lower_its_loss(name: str) -> None:
    torch.manual_seed(0)
    objective = SHAPES_MODELS[name].build()
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    generator, losses = seeded(0), []
    for _ in range(25):
        labels = torch.randint(NUM_CLASSES, (32,), generator=generator)
        loss = objective.loss(draw(labels, generator), labels, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_what_ships_is_small() -> None:
    assert all(file.stat().st_size < 8e6 for file in (ROOT / "models").glob("*/*.safetensors"))


@pytest.mark.parametrize("name", SHAPES_MODELS)
def test_a_shipped_model_draws_what_it_is_told_and_its_card_says_how_well(
    name: str, classifier: ShapesClassifier
) -> None:
    model, folder = SHAPES_MODELS[name], ROOT / "models" / name
    found = json.loads((folder / "evaluation.json").read_text())
    assert found["guided"]["accuracy"] >= 0.9
    assert f"guidance {model.guidance} | {found['guided']['accuracy']:.1%}" in (folder / "README.md").read_text()
    labels = torch.arange(1, NUM_CLASSES, 2)
    latents = tailprune.sample(
        tailprune.load(folder),
        {"labels": labels},
        sampler=model.sampler,
        steps=25,
        guidance=model.guidance,
        seeds=[(5, int(label)) for label in labels],
    )
    assert isinstance(latents, Tensor)
    assert accuracy(classifier, latents.clamp(-1, 1), labels) >= 0.85  # 50 samples of one that is right 9 times in 10


def test_the_classifier_knows_drawings_it_has_not_seen(classifier: ShapesClassifier) -> None:
    labels = torch.arange(NUM_CLASSES).repeat(5)
    assert accuracy(classifier, draw(labels, seeded(12345)), labels) >= 0.99


def test_shapes_sit_draws_what_it_is_told_and_pruning_does_what_its_card_says(
    shapes_sit: System, classifier: ShapesClassifier
) -> None:
    card = {row["name"]: row for row in json.loads((MODEL / "evaluation.json").read_text())["variants"]}
    prunes = [None, Prune("tail", card["strong"]["threshold"]), Prune("head", card["head-5"]["threshold"])]
    labels = torch.arange(0, NUM_CLASSES, 3)
    seeds = [(99, int(label)) for label in labels]
    found = tailprune.sample(shapes_sit, {"labels": labels}, steps=25, guidance=2.5, prune=prunes, seeds=seeds)
    baseline, tail, head = (accuracy(classifier, latents.clamp(-1, 1), labels) for latents in found)
    assert baseline >= 0.95
    assert tail >= 0.9
    assert head <= 0.5


def test_the_shipped_condition_vectors_are_sparse_and_parallel(shapes_sit: System) -> None:
    c = shapes_sit.condition(torch.zeros(NUM_CLASSES), shapes_sit.all_inputs())
    description = tailprune.describe(c)
    assert description.npr <= 0.15
    assert description.cosine.mean >= 0.9
    card = json.loads((MODEL / "evaluation.json").read_text())["condition"]
    assert description.npr == pytest.approx(card["npr"], rel=1e-4)
    assert description.cosine.mean == pytest.approx(card["cosine"], rel=1e-4)


def test_the_card_says_what_was_measured() -> None:
    text, found = (MODEL / "README.md").read_text(), json.loads((MODEL / "evaluation.json").read_text())
    assert f"guidance {found['guidance']} | {found['guided']['accuracy']:.1%}" in text
    assert f"nPR {found['condition']['npr']:.3f}" in text
    assert found["guided"]["accuracy"] >= 0.95
    curve = json.loads((MODEL / "training.json").read_text())["curve"]
    assert re.search(rf"\b{curve[-1]['step']:,} steps", text)


def test_class_names_of_the_registry_are_those_of_the_data_set() -> None:
    assert tuple((MODEL / "classes.txt").read_text().splitlines()) == CLASS_NAMES
