"""What each family is trained on: the loss of a batch, as a module that holds the system and what only training needs.

x_1 data, x_0 noise, n standard normal, sigma the logistic function, c the condition; a tenth of the labels are dropped.

    flow matching     x_a = a x_1 + (1 - a) x_0,  |u(x_a, c) - (x_1 - x_0)|^2,  a = sigmoid(n)
                      (SiT, arXiv 2401.08740; logit-normal times, arXiv 2403.03206)
    alignment         + 0.5 (1 - cos(projector(h), f)),  h a middle block's tokens, f an encoder's features of x_1
                      (REPA, arXiv 2410.06940)
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailprune.systems import REPA, SiT
from tailprune.systems.layers import unpatchify
from tailprune.training.shapes_classifier import ShapesClassifier

__all__ = ["Alignment", "FlowMatching"]

LABEL_DROPOUT = 0.1


class FlowMatching(nn.Module):
    """A system under training for the velocity of the linear path, in its own time."""

    def __init__(self, system: SiT) -> None:
        super().__init__()
        self.system: Any = system
        self._sign = 1.0 if system.data_time > system.noise_time else -1.0

    def loss(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of one batch; everything random comes from the generator, a CPU one.

        images, with shape (B, C, H, W), in [-1, 1]; labels, with shape (B,).
        """
        noise = torch.randn(images.shape, generator=generator)
        progress = torch.randn(len(images), generator=generator).sigmoid()
        dropped = torch.rand(len(labels), generator=generator) < LABEL_DROPOUT
        labels = torch.where(dropped, self.system.num_classes, labels)
        device = next(self.parameters()).device
        images, noise, progress, labels = (a.to(device) for a in (images, noise, progress, labels))
        w = progress.view(-1, 1, 1, 1)
        return self.velocity_loss(w * images + (1 - w) * noise, images - noise, progress, labels, images)

    def velocity_loss(self, x: Tensor, target: Tensor, progress: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """The loss at these places of the path; `progress` is 0 at noise and 1 at data, (B,)."""
        return (self.velocity(x, progress, labels) - target).square().mean()

    def velocity(self, x: Tensor, progress: Tensor, labels: Tensor) -> Tensor:
        """Towards the data -> (B, C, H, W)."""
        return self._sign * self.system(x, self.condition(progress, labels))

    def condition(self, progress: Tensor, labels: Tensor) -> Tensor:
        """c at these places of the path -> (B, d)."""
        t = progress if self._sign > 0 else 1 - progress
        return self.system.condition(t, {"labels": labels})


class Alignment(FlowMatching):
    """Flow matching, with the tokens after `depth` blocks aligned to the classifier's features of the clean image."""

    WEIGHT = 0.5

    def __init__(self, system: REPA, classifier: ShapesClassifier, depth: int = 2, width: int = 256) -> None:
        super().__init__(system)
        self.depth = depth
        self.projector = nn.Sequential(
            nn.Linear(system.condition_dim, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, classifier.feature_channels),
        )
        self._encoder = [classifier]  # in a list: not a part that is trained or averaged

    def velocity_loss(self, x: Tensor, target: Tensor, progress: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        system, c = self.system, self.condition(progress, labels)
        tokens = system.x_embedder(x) + system.pos_embed
        middle = tokens
        for place, block in enumerate(system.blocks):
            tokens = block(tokens, c)
            if place + 1 == self.depth:
                middle = tokens
        velocity = self._sign * unpatchify(system.final_layer(tokens, c), system.patch_size, system.grid)
        with torch.no_grad():
            features = self._encoder[0].feature_map(images, system.grid)  # (B, N, channels)
        alignment = 1 - F.cosine_similarity(self.projector(middle), features, dim=-1).mean()
        return (velocity - target).square().mean() + self.WEIGHT * alignment
