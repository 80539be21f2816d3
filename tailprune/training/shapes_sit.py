"""The recipe of `shapes-sit`: a small SiT in pixels, flow matching on the linear path (arXiv 2401.08740).

x_t = t x_1 + (1 - t) x_0,   x_0 noise, x_1 data;     loss = |v(x_t, c) - (x_1 - x_0)|^2
t = sigmoid(n), n standard normal (logit-normal times, arXiv 2403.03206); a tenth of the labels dropped
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tailprune.statistics import participation_ratio, summarise_cosine
from tailprune.systems.dit import SiT
from tailprune.training.initialise import initialise
from tailprune.training.recipe import Recipe, ship, train
from tailprune.training.shapes import NUM_CLASSES, draw

__all__ = ["CONFIGURATION", "RECIPE", "flow_matching_loss", "main", "measure_condition"]

CONFIGURATION: dict[str, Any] = {
    "input_size": 16,
    "patch_size": 4,
    "in_channels": 3,
    "hidden_size": 128,
    "depth": 4,
    "num_heads": 4,
    "num_classes": NUM_CLASSES,
    "learn_sigma": False,
}
RECIPE = Recipe(steps=20_000, batch_size=64, learning_rate=3e-3)
LABEL_DROPOUT = 0.1


def flow_matching_loss(system: SiT, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """The loss of one batch. images, with shape (B, C, H, W), in [-1, 1]; labels, with shape (B,)."""
    count = len(images)
    noise = torch.randn(images.shape, generator=generator)
    t = torch.randn(count, generator=generator).sigmoid()
    dropped = torch.rand(count, generator=generator) < LABEL_DROPOUT
    labels = torch.where(dropped, system.num_classes, labels)
    device = system.pos_embed.device
    images, noise, t, labels = (a.to(device) for a in (images, noise, t, labels))
    w = t.view(-1, 1, 1, 1)
    velocity = system(w * images + (1 - w) * noise, system.condition(t, {"labels": labels}))
    return (velocity.float() - (images - noise)).square().mean()


@torch.no_grad()
def measure_condition(system: SiT) -> dict[str, float]:
    """nPR and cosine of `c` over all classes at t = 0 (pure noise), and the cosine of `y` alone."""
    labels = torch.arange(system.num_classes, device=system.pos_embed.device)
    y = system.embed_inputs({"labels": labels})
    c = system.condition(torch.zeros(len(labels), device=labels.device), {"labels": labels})
    return {
        "npr": participation_ratio(c).mean().item() / system.condition_dim,
        "cosine": summarise_cosine(c).mean,
        "cosine_y": summarise_cosine(y).mean,
    }


def main() -> None:
    """Trains `shapes-sit` and writes `model.safetensors` and `training.json` into a folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--folder", type=Path, default=Path("models/shapes-sit"))
    parser.add_argument("--work", type=Path, default=Path("build/shapes-sit"), help="where unfinished work is kept")
    parser.add_argument("--steps", type=int, default=RECIPE.steps)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    recipe = dataclasses.replace(RECIPE, steps=options.steps)

    torch.set_num_threads(options.threads)
    torch.manual_seed(recipe.seed)
    system = SiT(**CONFIGURATION)
    initialise(system)
    system.to(options.device)

    def loss_of(model: SiT, generator: torch.Generator) -> Tensor:
        labels = torch.randint(NUM_CLASSES, (recipe.batch_size,), generator=generator)
        return flow_matching_loss(model, draw(labels, generator, CONFIGURATION["input_size"]), labels, generator)

    average = train(system, recipe, loss_of, measure_condition, options.work)
    ship(average, options.work, options.folder, {"family": "sit", "num_heads": str(CONFIGURATION["num_heads"])})


if __name__ == "__main__":
    main()
