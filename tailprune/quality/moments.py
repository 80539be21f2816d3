"""Mean and covariance of features, gathered in batches in any order, and merged.

    count n,  mean m = sum_i x_i / n,  scatter S = sum_i (x_i - m)(x_i - m)^T

    of two parts a and b, with d = m_b - m_a:
    m = m_a + d n_b / n        S = S_a + S_b + d d^T n_a n_b / n        covariance = S / (n - 1)

Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979). Sums of
squares would lose digits where the mean is large; deviations do not.
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
    """The moments of a normal distribution: mean, with shape (d,), and covariance, with shape (d, d); float64."""

    mean: Tensor
    covariance: Tensor
    count: int | None = None
    """How many features they were computed of; None if that is not known."""

    @property
    def dim(self) -> int:
        return len(self.mean)


class FeatureMoments:
    """Mean and scatter of features, added in batches or merged from others; float64, on the CPU.

    However the features are split, the moments differ only by rounding, by less than 1e-12 of the largest entry.
    """

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.mean = torch.zeros(dim, dtype=torch.float64)
        self.scatter = torch.zeros(dim, dim, dtype=torch.float64)

    @property
    def dim(self) -> int:
        return len(self.mean)

    def add(self, features: Tensor) -> None:
        """Add the features of a batch, with shape (B, d). Raises InputError for another shape, NaN or infinity."""
        if features.ndim != 2 or features.shape[1] != self.dim:
            raise InputError(f"features must have shape (B, {self.dim}), not {tuple(features.shape)}")
        x = features.detach().double().cpu()
        if not x.isfinite().all():
            raise InputError("features hold NaN or infinity, and have no moments: look at their images")
        if len(x):
            mean = x.mean(0)
            x = x - mean
            self._move(len(x), mean)
            self.scatter.addmm_(x.T, x)

    def merge(self, other: FeatureMoments) -> None:
        """Add what another has gathered, which does not change. Raises InputError for another number of features."""
        if other.dim != self.dim:
            raise InputError(f"cannot merge moments of {other.dim} features into moments of {self.dim}")
        if other.count:
            self._move(other.count, other.mean)
            self.scatter += other.scatter

    def state(self) -> dict[str, Tensor]:
        """Everything gathered: `count` (), int64, `mean` (d,) and `scatter` (d, d), float64."""
        return {"count": torch.tensor(self.count), "mean": self.mean.clone(), "scatter": self.scatter.clone()}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> FeatureMoments:
        """The moments of a `state`. Raises KeyError for a missing tensor, InputError for shapes that do not fit."""
        count, mean, scatter = state["count"], state["mean"], state["scatter"]
        if mean.ndim != 1 or scatter.shape != (len(mean), len(mean)):
            raise InputError(
                f"mean and scatter must have shape (d,) and (d, d), not {tuple(mean.shape)} and {tuple(scatter.shape)}"
            )
        moments = cls(len(mean))
        moments.count = int(count)
        moments.mean, moments.scatter = (tensor.to(torch.float64, copy=True) for tensor in (mean, scatter))
        return moments

    def gaussian(self) -> Gaussian:
        """Mean and unbiased covariance. Raises InputError for fewer than two features."""
        if self.count < 2:
            raise InputError(f"a covariance needs the features of at least two images, not {self.count}")
        return Gaussian(self.mean.clone(), self.scatter / (self.count - 1), self.count)

    def _move(self, count: int, mean: Tensor) -> None:
        """Update the moments as if `count` features were added, all equal to their mean."""
        total = self.count + count
        difference = mean - self.mean
        self.mean += difference * (count / total)
        self.scatter.addr_(difference, difference, alpha=self.count * count / total)
        self.count = total
