"""Inception score (arXiv 1606.03498): high if each image is of one class, and all images are of many.

    IS = exp( mean_i KL(p_i || p) ) = exp( H(p) - mean_i H(p_i) ),   p = mean_i p_i

from 1 to the number of classes. It is computed from the sums of p_i and of H(p_i), which shards can merge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tailprune.quality.few_samples import few_samples, warn_of_few
from tailprune.spec import InputError

__all__ = ["InceptionScore", "Predictions", "inception_score", "joint_probabilities"]

SUMS_TO_ONE = 1e-3
"""The tolerance for the sum of probabilities, which may be in half precision; logits are further from 1."""


@dataclass(frozen=True)
class InceptionScore:
    """Mean and standard deviation of the score over `splits` parts of the images."""

    mean: float
    std: float
    splits: int


class Predictions:
    """Sums of class probabilities and their entropies, gathered in batches and merged; float64, on the CPU."""

    def __init__(self, classes: int) -> None:
        self.count = 0
        self.probabilities = torch.zeros(classes, dtype=torch.float64)
        """Their sum, with shape (K,)."""
        self.entropy = torch.zeros((), dtype=torch.float64)
        """The sum of their entropies, in nats."""

    @property
    def classes(self) -> int:
        return len(self.probabilities)

    def add(self, probabilities: Tensor) -> None:
        """Add a batch, with shape (B, K). Raises InputError unless these are probabilities of K classes."""
        if probabilities.ndim != 2 or probabilities.shape[1] != self.classes:
            raise InputError(f"probabilities must have shape (B, {self.classes}), not {tuple(probabilities.shape)}")
        p = probabilities.detach().double().cpu()
        if not ((p >= 0).all() and ((p.sum(1) - 1).abs() < SUMS_TO_ONE).all()):
            raise InputError("probabilities must be 0 or more and sum to 1 for each image; these may be logits")
        self.count += len(p)
        self.probabilities = self.probabilities + p.sum(0)
        self.entropy = self.entropy + torch.special.entr(p).sum()

    def merge(self, other: Predictions) -> None:
        """Add what another has gathered. Raises InputError for another number of classes."""
        if other.classes != self.classes:
            raise InputError(f"cannot merge predictions of {other.classes} classes into predictions of {self.classes}")
        self.count += other.count
        self.probabilities = self.probabilities + other.probabilities
        self.entropy = self.entropy + other.entropy

    def state(self) -> dict[str, Tensor]:
        """Everything gathered: `count` (), int64, `probabilities` (K,) and `entropy` (), float64."""
        return {
            "count": torch.tensor(self.count),
            "probabilities": self.probabilities.clone(),
            "entropy": self.entropy.clone(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Predictions:
        """The predictions of a `state`. Raises KeyError for a missing tensor."""
        predictions = cls(len(state["probabilities"]))
        predictions.count = int(state["count"])
        predictions.probabilities = state["probabilities"].double().clone()
        predictions.entropy = state["entropy"].double().clone()
        return predictions

    def score(self) -> float:
        """The Inception score of all images. Raises InputError if there are none."""
        if not self.count:
            raise InputError("an Inception score needs at least one image")
        mean = self.probabilities / self.count
        return math.exp((torch.special.entr(mean).sum() - self.entropy / self.count).item())


def inception_score(probabilities: Tensor, splits: int = 10) -> InceptionScore:
    """The score of each of `splits` parts, one after the other. probabilities, with shape (N, K), N >= splits.

    Published scores are over ten parts of 5,000 images in the order of sampling, with the standard deviation of the
    population. For a classifier in two factors, see `joint_probabilities`. Warns (`FewSamplesWarning`) if a part has
    fewer than five images a class.

    Raises InputError for fewer images than splits.
    """
    if not 1 <= splits <= len(probabilities):
        raise InputError(f"splits must be from 1 to {len(probabilities)}, the number of images, not {splits}")
    warn_of_few("Inception score", few_samples(len(probabilities) // splits, classes=probabilities.shape[1]))
    scores = []
    for part in probabilities.tensor_split(splits):
        predictions = Predictions(part.shape[1])
        predictions.add(part)
        scores.append(predictions.score())
    found = torch.tensor(scores, dtype=torch.float64)
    return InceptionScore(found.mean().item(), found.std(unbiased=False).item(), splits)


def joint_probabilities(first: Tensor, second: Tensor) -> Tensor:
    """Probabilities of the classes `K_2 * first + second`, from two factors. (B, K_1), (B, K_2) -> (B, K_1 * K_2)."""
    return (first[:, :, None] * second[:, None, :]).flatten(1)
