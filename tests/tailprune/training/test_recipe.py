"""The recipes' loop, and what was shipped."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tailprune
from tailprune import Prune
from tailprune.shapes.classifier import ShapesClassifier, accuracy, load_classifier
from tailprune.shapes.dataset import NUM_CLASSES, draw
from tailprune.systems import SYSTEMS, System
from tailprune.training import card
from tailprune.training.initialise import initialise
from tailprune.training.recipe import Recipe, ship, train
from tailprune.training.shapes_models import SHAPES_MODELS
from tests.tailprune.parity import read

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
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


@pytest.mark.parametrize(
    ("family", "fixed"),
    [
        ("dit", {"pos_embed"}),
        ("mdt", {"pos_embed", "decoder_pos_embed", "relative_position_index"}),
        ("lightningdit", {"pos_embed", "freqs_cos", "freqs_sin"}),
    ],
)
def test_positions_are_those_of_the_published_files(family: str, fixed: set[str]) -> None:
    case = read(ROOT / "tests" / "reference" / f"{family}-a.pt.xz")
    cls = SYSTEMS[family]
    system = cls(cls.config_class(**case["config"]))
    initialise(system)  # type: ignore[arg-type]
    buffers = dict(system.named_buffers())
    assert {name.split(".")[-1] for name in buffers} == fixed
    for name, ours in buffers.items():
        torch.testing.assert_close(ours, case["state_dict"][name], rtol=0, atol=1e-6)


def test_the_learning_rate_rises_and_falls() -> None:
    recipe = Recipe(steps=1000, batch_size=1, learning_rate=1.0, warmup=100)
    assert recipe.rate(0) == pytest.approx(0.01)
    assert recipe.rate(99) == pytest.approx(1 - 0.95 * 0.099)
    assert recipe.rate(999) == pytest.approx(0.05, abs=0.001)


def test_embedders_have_learning_rates_of_their_own(tmp_path: Path) -> None:
    model = SHAPES_MODELS["shapes-sit"].build()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    recipe = Recipe(steps=1, batch_size=1, learning_rate=0.1, time_rate=0.3, label_rate=0.0, warmup=1)

    def loss_of(model: nn.Module, _: torch.Generator) -> Tensor:
        return torch.stack([parameter.sum() for parameter in model.parameters()]).sum()

    train(model, recipe, loss_of, lambda _: {}, tmp_path)
    for name, parameter in model.named_parameters():  # the first step of Adam is as long as its rate
        rate = 0.03 if "t_embedder" in name else 0.0 if "y_embedder" in name else 0.1
        torch.testing.assert_close(before[name] - parameter.detach(), torch.full_like(parameter, rate))


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


def test_averaging_leaves_fixed_positions_as_they_are(tmp_path: Path) -> None:
    model = SHAPES_MODELS["shapes-mdt"].build()
    positions = {name: buffer.clone() for name, buffer in model.named_buffers()}
    recipe = Recipe(steps=200, batch_size=1, learning_rate=1e-3)
    average = train(model, recipe, lambda model, _: next(model.parameters()).square().sum(), lambda _: {}, tmp_path)
    for name, buffer in average.named_buffers():
        torch.testing.assert_close(buffer, positions[name])


@pytest.mark.parametrize("name", SHAPES_MODELS)
def test_a_few_steps_of_a_recipe_lower_the_loss_of_one_batch(name: str) -> None:
    torch.manual_seed(0)
    objective = SHAPES_MODELS[name].build()
    optimizer = torch.optim.AdamW(objective.parameters(), lr=2e-3)
    labels = torch.randint(NUM_CLASSES, (16,), generator=seeded(0))
    images, losses = draw(labels, seeded(0)), []
    for _ in range(12):
        loss = objective.loss(images, labels, seeded(1))  # the same times and the same noise
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(map(math.isfinite, losses))
    assert losses[-1] < 0.8 * losses[0]


def test_what_ships_is_small() -> None:
    assert all(file.stat().st_size < 8e6 for file in (ROOT / "models").glob("*/*.safetensors"))


@pytest.mark.parametrize("name", SHAPES_MODELS)
def test_a_shipped_model_draws_what_it_is_told_and_its_card_says_how_well(
    name: str, classifier: ShapesClassifier
) -> None:
    model, folder = SHAPES_MODELS[name], ROOT / "models" / name
    found = json.loads((folder / "evaluation.json").read_text())
    how, judged = (
        ("unguided", found["unguided"]) if model.guidance == 1 else (f"guidance {model.guidance}", found["guided"])
    )
    assert judged["accuracy"] >= 0.9
    assert f"| {how} | {judged['accuracy']:.1%} |" in (folder / "README.md").read_text()
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


def test_shapes_sit_draws_what_it_is_told_and_pruning_does_what_its_card_says(
    shapes_sit: System, classifier: ShapesClassifier
) -> None:
    rows = {row["name"]: row for row in json.loads((MODEL / "evaluation.json").read_text())["variants"]}
    prunes = [None, Prune("tail", rows["strong"]["threshold"]), Prune("head", rows["head-5"]["threshold"])]
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
    said = json.loads((MODEL / "evaluation.json").read_text())["condition"]
    assert description.npr == pytest.approx(said["npr"], rel=1e-4)
    assert description.cosine.mean == pytest.approx(said["cosine"], rel=1e-4)


def test_the_card_says_what_was_measured() -> None:
    text, found = (MODEL / "README.md").read_text(), json.loads((MODEL / "evaluation.json").read_text())
    assert f"guidance {found['guidance']} | {found['guided']['accuracy']:.1%}" in text
    assert f"nPR {found['condition']['npr']:.3f}" in text
    assert found["guided"]["accuracy"] >= 0.95
    curve = json.loads((MODEL / "training.json").read_text())["curve"]
    assert re.search(rf"\b{curve[-1]['step']:,} steps", text)


@pytest.mark.parametrize(
    ("name", "rows", "says"),
    [
        ("shapes-dit", ["guidance 4.0", "unguided"], ["A DiT", "from 999 (noise) to 0 (data)", "v_t = "]),
        (
            "shapes-mg",
            ["unguided"],
            ["as MG does", "from 1 (noise) to 0 (data)", "one evaluation of the network a step"],
        ),
    ],
)
def test_a_card_tells_how_its_model_was_trained_and_is_sampled(
    name: str, rows: list[str], says: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = dataclasses.replace(SHAPES_MODELS[name], steps=2)
    monkeypatch.setitem(SHAPES_MODELS, name, model)
    monkeypatch.setattr(card, "SAMPLES_PER_CLASS", 1)
    monkeypatch.setattr(card, "PRUNED_SAMPLES_PER_CLASS", 1)
    monkeypatch.setattr("sys.argv", ["card", name, "--folder", str(tmp_path)])
    monkeypatch.chdir(ROOT)
    point = {"step": 1, "seconds": 60.0, "loss": 1.0, "npr": 0.1, "cosine": 0.9, "cosine_y": 0.1}
    training = {"recipe": dataclasses.asdict(model.recipe), "curve": [point]}
    (tmp_path / "training.json").write_text(json.dumps(training))
    ship(model.build().system, tmp_path, tmp_path, {"family": model.system.family, "num_heads": "4"})
    card.main()
    text = (tmp_path / "README.md").read_text()
    assert re.findall(r"^\| (guidance [\d.]+|unguided) \|", text, re.MULTILINE) == rows
    assert all(part in text.replace("\n", " ") for part in says)
    assert max(map(len, text.splitlines())) <= 120
    assert not re.search(r"^ |\n\n\n", text, re.MULTILINE)
    assert {"evaluation.json", "classes.txt", "training.png", "samples.png"} <= {
        file.name for file in tmp_path.iterdir()
    }


def test_a_family_without_an_introduction_goes_by_its_own_name() -> None:
    assert card.introduction("mg") == "A SiT with its guidance trained in, as MG does (arXiv 2502.12154)"
    assert card.introduction("mdsgen") == "A model of the family mdsgen"
