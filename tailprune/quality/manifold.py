"""Improved precision and recall (arXiv 1904.06991).

The manifold of a set of features is the union of balls, one around each feature, whose radius is the distance to its
k-th nearest neighbour in the set. Precision is the share of samples in the manifold of the reference, recall the share
of the reference in the manifold of the samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tailprune.quality.few_samples import few_samples, warn_of_few
from tailprune.spec import InputError

__all__ = ["Manifold", "PrecisionRecall", "precision_recall"]

ROUNDING = 1e-12
"""The share of |x|^2 + |y|^2 below which a squared distance is rounding error: x and y are equal."""


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision and recall, from 0 to 1, for the k-th nearest neighbour."""

    precision: float
    recall: float
    k: int


class Manifold:
    """The manifold of a set of features.

    features: with shape (N, d), N > k
    k: the neighbour whose distance is the radius of a ball, from 1, 3 by default
    rows_at_once: the number of features whose distances to all others are in memory at once, 256 by default
    squared_radii: the radii of an earlier manifold of the same features and k, with shape (N,), if known

    Distances are computed in float64 on the device of the features. Raises InputError for too few features.
    """

    def __init__(
        self, features: Tensor, k: int = 3, rows_at_once: int = 256, squared_radii: Tensor | None = None
    ) -> None:
        if not 1 <= k < len(features):
            raise InputError(f"k must be at least 1 and less than the number of features, {len(features)}, not {k}")
        self.k = k
        self.rows_at_once = rows_at_once
        x = features.detach().double()
        self._centre = x.mean(0)  # far from the origin, distances lose digits
        self._points = x - self._centre
        self.squared_radii = self._to_neighbour() if squared_radii is None else squared_radii
        """With shape (N,)."""

    def covers(self, features: Tensor) -> Tensor:
        """Which features lie in the manifold. features, with shape (M, d) -> (M,), bool, on the CPU."""
        x = features.detach().to(self._points) - self._centre
        covered = [(distances <= self.squared_radii).any(1) for _, distances in self._distances(x)]
        return torch.cat(covered).cpu() if covered else torch.zeros(0, dtype=torch.bool)

    def _to_neighbour(self) -> Tensor:
        """The squared distance of each feature to its k-th nearest neighbour, with shape (N,)."""
        nearest = []
        for start, distances in self._distances(self._points):
            rows = torch.arange(len(distances), device=distances.device)
            distances[rows, start + rows] = torch.inf  # a feature is not its own neighbour
            nearest.append(distances.kthvalue(self.k, dim=1).values)
        return torch.cat(nearest)

    def _distances(self, x: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Squared distances of some rows of x to all N features, (rows, N), with the index of the first row."""
        squares = self._points.square().sum(1)
        for start in range(0, len(x), self.rows_at_once):
            rows = x[start : start + self.rows_at_once]
            scale = rows.square().sum(1, keepdim=True) + squares
            distances = scale - 2 * rows @ self._points.T
            yield start, torch.where(distances > ROUNDING * scale, distances, 0.0)


def precision_recall(samples: Tensor, reference: Tensor, k: int = 3, rows_at_once: int = 256) -> PrecisionRecall:
    """Precision and recall of samples.

    samples: features, with shape (N, d), N > k
    reference: features, with shape (M, d), M > k
    k, rows_at_once: as in `Manifold`

    Values are comparable only for equal N and M: more samples make smaller balls. Warns (`FewSamplesWarning`) if
    either set has fewer features than `least_samples`.
    """
    warn_of_few("Precision and recall", *(few_samples(len(each), each.shape[1]) for each in (samples, reference)))
    precision, recall = (
        Manifold(balls, k, rows_at_once).covers(points).double().mean().item()
        for balls, points in ((reference, samples), (samples, reference))
    )
    return PrecisionRecall(precision, recall, k)
