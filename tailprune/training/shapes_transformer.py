"""A transformer of diffusers on *shapes* in which c is of the time alone: the class comes as tokens, as a prompt does.

`python -m tailprune.training.shapes_transformer` trains a small Qwen-Image, and a LoRA with which it draws negatives,
and writes both to `models/shapes-qwen`, as diffusers does; the transformer in bfloat16, as most are published.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from tailprune.extras import require
from tailprune.shapes.classifier import accuracy, load_classifier
from tailprune.shapes.dataset import COLOURS, NUM_CLASSES, SHAPES, draw
from tailprune.spec.transformers import CLASSES
from tailprune.training.objectives import LABEL_DROPOUT
from tailprune.training.recipe import Recipe, train
from tailprune.training.shapes_models import CLASSIFIER
from tailprune.transformers.recognise import pattern_of

__all__ = ["FOLDER", "GUIDANCE", "LORA", "add_lora", "build", "main", "plain_sigmas", "sample", "tokens_of"]

FOLDER = Path("models/shapes-qwen")
LORA = "negatives.safetensors"
"""The file of the LoRA, in the folder."""
GUIDANCE = 4.0

SIZE, PATCH = 16, 4
GRID = SIZE // PATCH
CONFIGURATION: dict[str, Any] = {
    "patch_size": PATCH,
    "in_channels": 3 * PATCH * PATCH,
    "out_channels": 3,
    "num_layers": 4,
    "num_attention_heads": 4,
    "attention_head_dim": 32,
    "axes_dims_rope": (4, 14, 14),
    "joint_attention_dim": len(COLOURS) + len(SHAPES),
}
RECIPE = Recipe(steps=14_000, batch_size=32, learning_rate=3e-3, measure_every=1000)
LORA_RECIPE = Recipe(steps=4_000, batch_size=32, learning_rate=3e-3, warmup=50, average=0.99)
LORA_RANK = 8
ATTENTION = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0")


def build() -> Any:
    """A new network, of which every block leaves its input as it is: AdaLN starts from zeros, and so does the output.

    Raises ModuleNotFoundError without diffusers.
    """
    require("decoders", "diffusers")
    from diffusers import QwenImageTransformer2DModel

    model: Any = QwenImageTransformer2DModel(**CONFIGURATION)
    for name, layer in model.named_modules():
        if _is_adaln(name) or name == "proj_out":
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    return model


def tokens_of(labels: Tensor) -> Tensor:
    """What stands for a prompt: one token for the colour and one for the shape -> (B, 2, 20).

    labels: with shape (B,), from 0 to 99; another number stands for no class, whose tokens are zeros
    """
    known = (labels >= 0) & (labels < NUM_CLASSES)
    shape, colour = labels // len(COLOURS), labels % len(COLOURS)
    places = torch.stack([colour, len(COLOURS) + shape], dim=1) * known[:, None]
    return F.one_hot(places, len(COLOURS) + len(SHAPES)).float() * known[:, None, None]


def velocity(transformer: Any, x: Tensor, sigma: Tensor, tokens: Tensor) -> Tensor:
    """The velocity of the linear path towards noise, by a transformer of diffusers -> (B, 3, 16, 16).

    x: (1 - sigma) images + sigma noise, with shape (B, 3, 16, 16)
    sigma: the share of noise, with shape (B,), in [0, 1]
    tokens: of the classes, with shape (B, 2, 20)
    """
    count = len(x)
    patches = x.view(count, 3, GRID, PATCH, GRID, PATCH).permute(0, 2, 4, 1, 3, 5).reshape(count, GRID * GRID, -1)
    (found,) = transformer(
        patches,
        encoder_hidden_states=tokens,
        timestep=sigma,
        img_shapes=[[(1, GRID, GRID)]] * count,
        return_dict=False,
    )
    pieces: Tensor = found.view(count, GRID, GRID, 3, PATCH, PATCH)
    return pieces.permute(0, 3, 1, 4, 2, 5).reshape(x.shape)


def plain_sigmas(steps: int) -> Tensor:
    """The sigmas of a plain schedule, from 1 to 1 / steps, and 0 -> (steps + 1,)."""
    return torch.cat([torch.linspace(1, 1 / steps, steps, dtype=torch.float64), torch.zeros(1)]).float()


@torch.no_grad()
def sample(transformer: Any, labels: Tensor, noise: Tensor, steps: int, guidance: float = GUIDANCE) -> Tensor:
    """Samples by Euler's method in plain steps -> (B, 3, 16, 16).

    transformer: of diffusers, whole or compacted
    labels: with shape (B,), from 0 to 99
    noise: with shape (B, 3, 16, 16)
    steps: how many steps
    guidance: the scale of classifier-free guidance
    """
    sigmas = plain_sigmas(steps)
    tokens = torch.cat([tokens_of(labels), tokens_of(torch.full_like(labels, NUM_CLASSES))])
    x = noise
    for now, following in pairwise(sigmas):
        with_class, without = velocity(transformer, x.repeat(2, 1, 1, 1), now.expand(len(tokens)), tokens).chunk(2)
        x = x + (following - now) * (without + guidance * (with_class - without))
    return x


class LowRank(nn.Module):
    """A linear layer with a LoRA: W x + b + up(down(x)), of which only up and down are trained."""

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x) + self.up(self.down(x))
        return found


def add_lora(transformer: Any, tensors: dict[str, Tensor] | None = None) -> dict[str, LowRank]:
    """Put a LoRA into AdaLN and the images' part of attention; the layers by name.

    transformer: whole; it is changed, and nothing but the LoRA is trained any more
    tensors: those of a file by diffusers' names, such as `transformer.norm_out.linear.lora_A.weight`; a new LoRA, which
        changes nothing yet, by default
    """
    transformer.requires_grad_(False)
    names = [name for name, _ in transformer.named_modules() if _is_adaln(name) or name.endswith(ATTENTION)]
    layers: dict[str, LowRank] = {}
    for name in names:
        parent, _, own = name.rpartition(".")
        layers[name] = LowRank(transformer.get_submodule(name), LORA_RANK)
        setattr(transformer.get_submodule(parent), own, layers[name])
        if tensors is not None:
            layers[name].down.weight.data.copy_(tensors[f"transformer.{name}.lora_A.weight"])
            layers[name].up.weight.data.copy_(tensors[f"transformer.{name}.lora_B.weight"])
    return layers


def _is_adaln(name: str) -> bool:
    """Whether a layer of the transformer reads SiLU(c)."""
    cls = next(each for each in CLASSES if each.name == "QwenImageTransformer2DModel")
    return any(pattern_of(linears.name).fullmatch(name) for linears in cls.linears)


def _loss(sign: float) -> Callable[[Any, torch.Generator], Tensor]:
    """The loss of flow matching with logit-normal times, of pictures or, with the sign -1, of their negatives."""

    def loss_of(transformer: Any, generator: torch.Generator) -> Tensor:
        labels = torch.randint(NUM_CLASSES, (RECIPE.batch_size,), generator=generator)
        images = sign * draw(labels, generator, SIZE)
        noise = torch.randn(images.shape, generator=generator)
        sigma = torch.randn(len(images), generator=generator).sigmoid()
        labels = torch.where(torch.rand(len(labels), generator=generator) < LABEL_DROPOUT, NUM_CLASSES, labels)
        share = sigma.view(-1, 1, 1, 1)
        found = velocity(transformer, (1 - share) * images + share * noise, sigma, tokens_of(labels))
        return (found - (noise - images)).square().mean()

    return loss_of


def _measure(sign: float) -> Callable[[Any], dict[str, float]]:
    """The accuracy of one sample a class in ten steps."""
    classifier = load_classifier(CLASSIFIER)
    labels = torch.arange(NUM_CLASSES)
    noise = torch.randn(NUM_CLASSES, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))

    def measure(transformer: Any) -> dict[str, float]:
        found = sign * sample(transformer, labels, noise, steps=10, guidance=2.5)
        return {"accuracy": accuracy(classifier, found.clamp(-1, 1), labels)}

    return measure


def main() -> None:
    """Train the transformer and its LoRA."""
    parser = argparse.ArgumentParser(prog="python -m tailprune.training.shapes_transformer", description=main.__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"the folder to write to, {FOLDER} by default")
    parser.add_argument("--work", type=Path, default=Path("build/shapes-qwen"), help="the folder of unfinished work")
    parser.add_argument("--steps", type=int, default=RECIPE.steps, help=f"training steps, {RECIPE.steps} by default")
    parser.add_argument("--lora-steps", type=int, default=LORA_RECIPE.steps, help="those of the LoRA")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(RECIPE.seed)

    recipe = dataclasses.replace(RECIPE, steps=options.steps)
    average = train(build(), recipe, _loss(1.0), _measure(1.0), options.work / "whole")
    copy.deepcopy(average).to(torch.bfloat16).save_pretrained(options.folder)

    recipe = dataclasses.replace(LORA_RECIPE, steps=options.lora_steps)
    add_lora(average)
    with_lora = train(average, recipe, _loss(-1.0), _measure(-1.0), options.work / "lora")
    found = {name: layer for name, layer in with_lora.named_modules() if isinstance(layer, LowRank)}
    tensors = {f"transformer.{name}.lora_A.weight": layer.down.weight.data for name, layer in found.items()}
    tensors |= {f"transformer.{name}.lora_B.weight": layer.up.weight.data for name, layer in found.items()}
    save_file(tensors, options.folder / LORA)
    curves = {what: json.loads((options.work / what / "training.json").read_text()) for what in ("whole", "lora")}
    (options.folder / "training.json").write_text(json.dumps(curves, indent=1) + "\n")
    for file in options.folder.glob("*.safetensors"):
        file.chmod(0o644)  # safetensors writes a file only its owner can read


if __name__ == "__main__":
    main()
