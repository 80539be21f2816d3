"""The transformer of shapes whose c is of the time alone: its recipe, and what was shipped."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import tailprune
from tailprune.shapes.classifier import accuracy, load_classifier
from tailprune.shapes.dataset import CLASS_NAMES, COLOURS, NUM_CLASSES, SHAPES
from tailprune.training import shapes_transformer
from tailprune.training.shapes_transformer import (
    LORA,
    LowRank,
    add_lora,
    build,
    plain_sigmas,
    sample,
    tokens_of,
    velocity,
)
from tailprune.transformers import anatomy, compact, project_lora

ROOT = Path(__file__).parents[3]
MODEL = ROOT / "models" / "shapes-qwen"
STEPS = 6
EXACT = 1e-5


def noise(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def shipped() -> Any:
    from diffusers import QwenImageTransformer2DModel

    return QwenImageTransformer2DModel.from_pretrained(MODEL, low_cpu_mem_usage=False).float().eval()


class Unchanged:
    """Returns the patches that it is given, in the order of the output's: rows, columns, channels first."""

    def __call__(self, patches: Tensor, **_: object) -> tuple[Tensor]:
        return (patches,)


def test_a_class_is_a_token_of_its_colour_and_one_of_its_shape() -> None:
    label = CLASS_NAMES.index("blue star")
    (colour, shape), (nothing, neither) = tokens_of(torch.tensor([label, NUM_CLASSES]))
    assert list(COLOURS)[int(colour.argmax())] == "blue"
    assert colour.sum() == 1
    assert SHAPES[int(shape.argmax()) - len(COLOURS)] == "star"
    assert shape.sum() == 1
    assert not nothing.any()
    assert not neither.any()


def test_patches_go_back_to_where_they_came_from() -> None:
    x = noise(2)
    assert torch.equal(velocity(Unchanged(), x, torch.zeros(2), tokens_of(torch.arange(2))), x)


def test_a_new_network_and_a_new_lora_change_nothing() -> None:
    torch.manual_seed(0)
    transformer, x, labels = build(), noise(2), torch.tensor([3, 55])
    sigma = torch.tensor([0.2, 0.9])
    with torch.no_grad():
        assert not velocity(transformer, x, sigma, tokens_of(labels)).any()
        for parameter in transformer.parameters():
            nn.init.normal_(parameter, std=0.05)
        before = velocity(transformer, x, sigma, tokens_of(labels))
        layers = add_lora(transformer)
        assert torch.equal(velocity(transformer, x, sigma, tokens_of(labels)), before)
        layers["norm_out.linear"].up.weight.fill_(0.1)
        assert not torch.allclose(velocity(transformer, x, sigma, tokens_of(labels)), before)
    trained = {name for name, parameter in transformer.named_parameters() if parameter.requires_grad}
    assert trained == {f"{name}.{part}.weight" for name in layers for part in ("down", "up")}
    assert {"transformer_blocks.3.txt_mod.1", "transformer_blocks.0.attn.to_out.0"} < layers.keys()


def test_steps_lead_from_noise_to_data() -> None:
    assert plain_sigmas(4).tolist() == [1, 0.75, 0.5, 0.25, 0]
    goal, x = noise(3, seed=1), noise(3)

    class Straight:
        """The velocity of the straight path from the noise to the goal, the same at every time."""

        def __call__(self, patches: Tensor, **_: object) -> tuple[Tensor]:
            towards = (x - goal).view(3, 3, 4, 4, 4, 4).permute(0, 2, 4, 1, 3, 5).reshape(3, 16, -1)
            return (towards.repeat(2, 1, 1),)

    torch.testing.assert_close(sample(Straight(), torch.arange(3), x, steps=5), goal)


@pytest.mark.slow
def test_the_recipe_writes_a_model_and_a_lora_that_compact_and_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    monkeypatch.chdir(ROOT)
    arguments = ["--steps", "2", "--lora-steps", "2", "--folder", str(folder), "--work", str(tmp_path / "work")]
    monkeypatch.setattr(sys, "argv", ["shapes_transformer", *arguments])
    threads = torch.get_num_threads()
    try:
        shapes_transformer.main()
    finally:
        torch.set_num_threads(threads)
    curves = json.loads((folder / "training.json").read_text())
    assert [curves[what]["curve"][-1]["step"] for what in ("whole", "lora")] == [2, 2]
    assert anatomy(folder).name == "QwenImageTransformer2DModel"
    compact(folder, tmp_path / "small", steps=STEPS)
    projected = project_lora(folder / LORA, tmp_path / "small", tmp_path / "lora.safetensors")
    assert (projected.adaln_layers, projected.other_layers) == (9, 16)


@pytest.mark.slow
def test_what_was_shipped_draws_its_classes_whole_and_by_an_exact_table(tmp_path: Path) -> None:
    whole, altered = shipped(), shipped()
    whole.save_pretrained(tmp_path / "whole")  # in float32, in which the table is exact
    compact(tmp_path / "whole", tmp_path / "small", steps=STEPS)
    project_lora(MODEL / LORA, tmp_path / "small", tmp_path / "merged", merge=True)
    add_lora(altered, load_file(MODEL / LORA))
    classifier, labels = load_classifier(ROOT / "models" / "shapes-classifier" / "model.safetensors"), torch.arange(100)
    for transformer, folder, sign, least in ((whole, "small", 1, 0.7), (altered, "merged", -1, 0.4)):
        found = sample(transformer, labels, noise(100), STEPS)
        assert accuracy(classifier, sign * found.clamp(-1, 1), labels) > least
        smaller = sample(tailprune.load_transformer(tmp_path / folder), labels, noise(100), STEPS)
        assert (found - smaller).norm() < EXACT * found.norm()


def test_the_shipped_lora_is_of_all_of_adaln() -> None:
    tensors = load_file(MODEL / LORA)
    transformer = shipped()
    layers = add_lora(transformer, tensors)
    assert len(tensors) == 2 * len(layers)
    assert all(isinstance(layer, LowRank) and layer.up.weight.any() for layer in layers.values())
    assert sum("mod" in name or name == "norm_out.linear" for name in layers) == 9
