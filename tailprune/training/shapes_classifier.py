"""The recipe of `shapes-classifier`: a small convolutional network that names shape and colour of an image.

It judges samples, so it learns from images as samples come: a little noise and blur on the drawn ones.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from tailprune.shapes.dataset import COLOURS, NUM_CLASSES, SHAPES, draw
from tailprune.training.recipe import Recipe, ship, train

__all__ = ["RECIPE", "ShapesClassifier", "accuracy", "load_classifier", "main"]

RECIPE = Recipe(steps=1_500, batch_size=128, learning_rate=2e-3, average=0.995, weight_decay=1e-2)
SIZE = 16


class ShapesClassifier(nn.Module):
    """Images, with shape (B, 3, H, W), in [-1, 1] -> logits of ten shapes and ten colours, (B, 10) each."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        widths = (3, width, 2 * width, 2 * width)
        self.feature_channels = widths[-1]
        """The channels of `feature_map`."""
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.GroupNorm(8, b) for b in widths[1:])
        self.hidden = nn.Linear(2 * width * 16, 2 * width)
        self.shape = nn.Linear(2 * width, len(SHAPES))
        self.colour = nn.Linear(2 * width, len(COLOURS))

    def feature_map(self, images: Tensor, grid: tuple[int, int] = (4, 4)) -> Tensor:
        """What the convolutions see in each place of a grid, row by row -> (B, h * w, 96)."""
        return self._convolved(images, grid).flatten(2).transpose(1, 2)

    def features(self, images: Tensor) -> Tensor:
        """What the two heads read -> (B, 96)."""
        return F.gelu(self.hidden(self._convolved(images, (4, 4)).flatten(1)))

    def _convolved(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        x = images
        for index, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            x = F.gelu(norm(layer(x)))
            if index < 2:
                x = F.max_pool2d(x, 2)
        return F.adaptive_avg_pool2d(x, grid)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(images)
        return self.shape(features), self.colour(features)

    @torch.inference_mode()
    def classify(self, images: Tensor) -> Tensor:
        """The class of each image, `10 * shape + colour`. images, with shape (B, 3, H, W), in [-1, 1] -> (B,)."""
        shape, colour = self(images)
        return shape.argmax(1) * len(COLOURS) + colour.argmax(1)


def load_classifier(path: str | os.PathLike[str]) -> ShapesClassifier:
    """The shipped classifier, ready to use."""
    classifier = ShapesClassifier()
    classifier.load_state_dict(load_file(path))
    return classifier.requires_grad_(False).eval()


def accuracy(classifier: ShapesClassifier, images: Tensor, labels: Tensor) -> float:
    """The share of images whose shape and colour are both right, in [0, 1]."""
    return (classifier.classify(images) == labels).double().mean().item()


def _augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    count = len(images)
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    blur = 0.5 * torch.rand(count, 1, 1, 1, generator=generator)
    noise = 0.12 * torch.rand(count, 1, 1, 1, generator=generator)
    mixed = (1 - blur) * images + blur * blurred
    return (mixed + noise * torch.randn(images.shape, generator=generator)).clamp(-1, 1)


def main() -> None:
    """Trains `shapes-classifier` and writes `model.safetensors` and `training.json` into a folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--folder", type=Path, default=Path("models/shapes-classifier"))
    parser.add_argument("--work", type=Path, default=Path("build/shapes-classifier"))
    parser.add_argument("--steps", type=int, default=RECIPE.steps)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
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
