"""Mean and covariance of features, gathered anywhere and in any order, and merged.

    count n,  mean m = sum_i x_i / n,  scatter S = sum_i (x_i - m)(x_i - m)^T

    of two parts a and b, with d = m_b - m_a:
    m = m_a + d n_b / n        S = S_a + S_b + d d^T n_a n_b / n        covariance = S / (n - 1)

Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979). Sums of
squares would lose what the squares of large means hide; deviations do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tailprune.spec import InputError

__all__ = ["FeatureMoments", "Gaussian"]


@dataclass(frozen=True)
class Gaussian:
    """The normal distribution with these moments. mean, with shape (d,); covariance, with shape (d, d); float64."""

    mean: Tensor
    covariance: Tensor

    @property
    def dim(self) -> int:
        return len(self.mean)


class FeatureMoments:
    """Takes features batch by batch, or from other `FeatureMoments`.

    Float64 on the CPU. However the features are split, the moments differ by rounding alone: by less than 1e-12 of the
    largest entry (tested).
    """

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.mean = torch.zeros(dim, dtype=torch.float64)
        self.scatter = torch.zeros(dim, dim, dtype=torch.float64)

    @property
    def dim(self) -> int:
        return len(self.mean)

    def add(self, features: Tensor) -> None:
        """Takes the features of a batch, with shape (B, d). Raises InputError for another shape, NaN or infinity."""
        if features.ndim != 2 or features.shape[1] != self.dim:
            raise InputError(f"these moments take features with shape (B, {self.dim}), got {tuple(features.shape)}")
        x = features.detach().double().cpu()
        if not x.isfinite().all():
            raise InputError("features hold NaN or infinity, and have no moments: look at the images they are of")
        if len(x):
            mean = x.mean(0)
            x = x - mean
            self._move(len(x), mean)
            self.scatter.addmm_(x.T, x)

    def merge(self, other: FeatureMoments) -> None:
        """Takes what another has gathered, which is left as it is. Raises InputError for features of another length."""
        if other.dim != self.dim:
            raise InputError(f"moments of {other.dim} features cannot be merged into those of {self.dim}")
        if other.count:
            self._move(other.count, other.mean)
            self.scatter += other.scatter

    def state(self) -> dict[str, Tensor]:
        """Everything gathered: `count` (), int64, `mean` (d,) and `scatter` (d, d), float64."""
        return {"count": torch.tensor(self.count), "mean": self.mean.clone(), "scatter": self.scatter.clone()}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> FeatureMoments:
        """What `state` gave. Raises KeyError where a tensor is missing, ValueError where their shapes disagree."""
        count, mean, scatter = state["count"], state["mean"], state["scatter"]
        if mean.ndim != 1 or scatter.shape != (len(mean), len(mean)):
            raise InputError(
                f"moments have mean (d,) and scatter (d, d), got {tuple(mean.shape)} and {tuple(scatter.shape)}"
            )
        moments = cls(len(mean))
        moments.count = int(count)
        moments.mean, moments.scatter = (tensor.to(torch.float64, copy=True) for tensor in (mean, scatter))
        return moments

    def gaussian(self) -> Gaussian:
        """Mean and unbiased covariance. Raises InputError for fewer than two features."""
        if self.count < 2:
            raise InputError(f"a covariance needs the features of at least two images, got {self.count}")
        return Gaussian(self.mean.clone(), self.scatter / (self.count - 1))

    def _move(self, count: int, mean: Tensor) -> None:
        """Takes `count` more features, all of them at their mean."""
        total = self.count + count
        difference = mean - self.mean
        self.mean += difference * (count / total)
        self.scatter.addr_(difference, difference, alpha=self.count * count / total)
        self.count = total
