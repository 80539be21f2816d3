"""The network that classifies shape and colour of an image, to judge samples and to compute features of them."""

from __future__ import annotations

import os
from itertools import pairwise

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from tailprune.shapes.dataset import COLOURS, SHAPES

__all__ = ["ShapesClassifier", "accuracy", "load_classifier"]


class ShapesClassifier(nn.Module):
    """A small convolutional network with two heads, one for the shape and one for the colour."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        widths = (3, width, 2 * width, 2 * width)
        self.feature_channels = widths[-1]
        """The number of channels of `feature_map`."""
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.GroupNorm(8, b) for b in widths[1:])
        self.hidden = nn.Linear(2 * width * 16, 2 * width)
        self.shape = nn.Linear(2 * width, len(SHAPES))
        self.colour = nn.Linear(2 * width, len(COLOURS))

    def feature_map(self, images: Tensor, grid: tuple[int, int] = (4, 4)) -> Tensor:
        """The output of the convolutions, pooled to a grid, row by row -> (B, h * w, 96)."""
        return self._convolved(images, grid).flatten(2).transpose(1, 2)

    def features(self, images: Tensor) -> Tensor:
        """The features that both heads read -> (B, 96)."""
        return F.gelu(self.hidden(self._convolved(images, (4, 4)).flatten(1)))

    def _convolved(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        x = images
        for index, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            x = F.gelu(norm(layer(x)))
            if index < 2:
                x = F.max_pool2d(x, 2)
        return F.adaptive_avg_pool2d(x, grid)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The logits of ten shapes and of ten colours. images, with shape (B, 3, H, W), in [-1, 1] -> (B, 10) each."""
        features = self.features(images)
        return self.shape(features), self.colour(features)

    @torch.inference_mode()
    def classify(self, images: Tensor) -> Tensor:
        """The class of each image, `10 * shape + colour`. images, with shape (B, 3, H, W), in [-1, 1] -> (B,)."""
        shape, colour = self(images)
        return shape.argmax(1) * len(COLOURS) + colour.argmax(1)


def load_classifier(path: str | os.PathLike[str]) -> ShapesClassifier:
    """The shipped classifier, ready to use, from its safetensors file."""
    classifier = ShapesClassifier()
    classifier.load_state_dict(load_file(path))
    return classifier.requires_grad_(False).eval()


def accuracy(classifier: ShapesClassifier, images: Tensor, labels: Tensor) -> float:
    """The share of images whose shape and colour are both right, in [0, 1]."""
    return (classifier.classify(images) == labels).double().mean().item()
