"""The recipe of `shapes-classifier`, the shipped `tailprune.shapes.classifier`.

It judges samples, so it is trained on images like them, with a little noise and blur.
`python -m tailprune.training.shapes_classifier` trains it and writes it to `models/`.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from tailprune.shapes.classifier import ShapesClassifier, accuracy
from tailprune.shapes.dataset import COLOURS, NUM_CLASSES, draw
from tailprune.training.recipe import Recipe, ship, train

__all__ = ["RECIPE", "main"]

RECIPE = Recipe(steps=1_500, batch_size=128, learning_rate=2e-3, average=0.995, weight_decay=1e-2)
SIZE = 16


def _augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    count = len(images)
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    blur = 0.5 * torch.rand(count, 1, 1, 1, generator=generator)
    noise = 0.12 * torch.rand(count, 1, 1, 1, generator=generator)
    mixed = (1 - blur) * images + blur * blurred
    return (mixed + noise * torch.randn(images.shape, generator=generator)).clamp(-1, 1)


def main() -> None:
    """Train `shapes-classifier` and write `model.safetensors` and `training.json` to its folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--folder", type=Path, default=Path("models/shapes-classifier"), help="the folder to write to")
    parser.add_argument(
        "--work", type=Path, default=Path("build/shapes-classifier"), help="the folder of unfinished work"
    )
    parser.add_argument("--steps", type=int, default=RECIPE.steps, help="training steps")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    options = parser.parse_args()
    recipe = dataclasses.replace(RECIPE, steps=options.steps)
    torch.set_num_threads(options.threads)
    torch.manual_seed(recipe.seed)
    classifier = ShapesClassifier()

    def loss_of(model: ShapesClassifier, generator: torch.Generator) -> Tensor:
        labels = torch.randint(NUM_CLASSES, (recipe.batch_size,), generator=generator)
        shape, colour = model(_augmented(draw(labels, generator, SIZE), generator))
        return F.cross_entropy(shape, labels // len(COLOURS)) + F.cross_entropy(colour, labels % len(COLOURS))

    held_out = torch.Generator().manual_seed(recipe.seed + 1)
    labels = torch.arange(NUM_CLASSES).repeat(20)
    images = draw(labels, held_out, SIZE)

    def measure(average: ShapesClassifier) -> dict[str, float]:
        return {"accuracy": accuracy(average, images, labels)}

    average = train(classifier, recipe, loss_of, measure, options.work)
    ship(average, options.work, options.folder)


if __name__ == "__main__":
    main()
