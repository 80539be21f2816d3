"""Inception score (arXiv 1606.03498): whether each image is of one class, and all together of many.

    IS = exp( mean_i KL(p_i || p) ) = exp( H(p) - mean_i H(p_i) ),   p = mean_i p_i

from 1 to the number of classes. Sums of p_i and of H(p_i) are all it needs, and they merge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tailprune.spec import InputError

__all__ = ["InceptionScore", "Predictions", "inception_score", "joint_probabilities"]

SUMS_TO_ONE = 1e-3
"""How far the sum of probabilities in half precision may be from 1; logits are further."""


@dataclass(frozen=True)
class InceptionScore:
    """Mean and standard deviation of the score over `splits` parts of the images."""

    mean: float
    std: float
    splits: int


class Predictions:
    """Takes class probabilities batch by batch, or from other `Predictions`; float64 on the CPU."""

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
        """Takes a batch, with shape (B, K). Raises InputError for what are no probabilities of K classes."""
        if probabilities.ndim != 2 or probabilities.shape[1] != self.classes:
            raise InputError(
                f"these predictions take probabilities with shape (B, {self.classes}), got {tuple(probabilities.shape)}"
            )
        p = probabilities.detach().double().cpu()
        if not ((p >= 0).all() and ((p.sum(1) - 1).abs() < SUMS_TO_ONE).all()):
            raise InputError("probabilities are 0 or more and sum to 1 for each image; these may be logits")
        self.count += len(p)
        self.probabilities = self.probabilities + p.sum(0)
        self.entropy = self.entropy + torch.special.entr(p).sum()

    def merge(self, other: Predictions) -> None:
        """Takes what another has gathered. Raises InputError for another number of classes."""
        if other.classes != self.classes:
            raise InputError(f"predictions of {other.classes} classes cannot be merged into those of {self.classes}")
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
        """What `state` gave. Raises KeyError where a tensor is missing."""
        predictions = cls(len(state["probabilities"]))
        predictions.count = int(state["count"])
        predictions.probabilities = state["probabilities"].double().clone()
        predictions.entropy = state["entropy"].double().clone()
        return predictions

    def score(self) -> float:
        """The Inception score of all images taken. Raises InputError where there are none."""
        if not self.count:
            raise InputError("an Inception score needs at least one image")
        mean = self.probabilities / self.count
        return math.exp((torch.special.entr(mean).sum() - self.entropy / self.count).item())


def inception_score(probabilities: Tensor, splits: int = 10) -> InceptionScore:
    """The score of each of `splits` parts, one after the other. probabilities, with shape (N, K), N >= splits.

    As it is published: ten parts of 5 000 images in the order of sampling, and the deviation of the population.
    `joint_probabilities` makes (N, K) of a classifier in factors. Raises InputError for fewer images than splits.
    """
    if not 1 <= splits <= len(probabilities):
        raise InputError(f"{len(probabilities)} images cannot be split into {splits} parts: splits run from 1 to them")
    scores = []
    for part in probabilities.tensor_split(splits):
        predictions = Predictions(part.shape[1])
        predictions.add(part)
        scores.append(predictions.score())
    found = torch.tensor(scores, dtype=torch.float64)
    return InceptionScore(found.mean().item(), found.std(unbiased=False).item(), splits)


def joint_probabilities(first: Tensor, second: Tensor) -> Tensor:
    """Of a classifier in two factors, the classes `K_2 * first + second`. (B, K_1), (B, K_2) -> (B, K_1 * K_2)."""
    return (first[:, :, None] * second[:, None, :]).flatten(1)
