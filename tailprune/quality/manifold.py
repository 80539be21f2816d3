"""Improved precision and recall (arXiv 1904.06991).

The manifold of a set of features is the union of balls, one about each, that reach to its k-th nearest neighbour in
the set. Precision is the share of samples in the manifold of the reference, recall the share of the reference in the
manifold of the samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tailprune.spec import InputError

__all__ = ["Manifold", "PrecisionRecall", "precision_recall"]

ROUNDING = 1e-12
"""Share of |x|^2 + |y|^2 below which a squared distance in float64 is rounding: x and y are equal."""


@dataclass(frozen=True)
class PrecisionRecall:
    """Both from 0 to 1; `k` is the neighbour that the balls reach to."""

    precision: float
    recall: float
    k: int


class Manifold:
    """The balls about some features.

    features: shape (N, d), N > k
    k: the neighbour that the balls reach to, from 1
    rows_at_once: how many features have their distances to all others in memory, which is O(rows_at_once * N)
    squared_radii: those of an earlier manifold of the same features and k, where they are known, shape (N,)

    Distances are computed in float64 on the device of the features. Raises InputError for too few features.
    """

    def __init__(
        self, features: Tensor, k: int = 3, rows_at_once: int = 256, squared_radii: Tensor | None = None
    ) -> None:
        if not 1 <= k < len(features):
            raise InputError(
                f"the neighbour k = {k} needs more than {k} features, and k >= 1; there are {len(features)}"
            )
        self.k = k
        self.rows_at_once = rows_at_once
        x = features.detach().double()
        self._centre = x.mean(0)  # distances from far away lose digits
        self._points = x - self._centre
        self.squared_radii = self._to_neighbour() if squared_radii is None else squared_radii
        """With shape (N,)."""

    def covers(self, features: Tensor) -> Tensor:
        """Which of other features lie in a ball. features, with shape (M, d) -> (M,), bool, on the CPU."""
        x = features.detach().to(self._points) - self._centre
        covered = [(distances <= self.squared_radii).any(1) for _, distances in self._distances(x)]
        return torch.cat(covered).cpu() if covered else torch.zeros(0, dtype=torch.bool)

    def _to_neighbour(self) -> Tensor:
        """The squared distance of each point to its k-th nearest, with shape (N,)."""
        nearest = []
        for start, distances in self._distances(self._points):
            rows = torch.arange(len(distances), device=distances.device)
            distances[rows, start + rows] = torch.inf  # itself is no neighbour
            nearest.append(distances.kthvalue(self.k, dim=1).values)
        return torch.cat(nearest)

    def _distances(self, x: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Squared distances to all points, (rows, N), with the index of their first row."""
        squares = self._points.square().sum(1)
        for start in range(0, len(x), self.rows_at_once):
            rows = x[start : start + self.rows_at_once]
            scale = rows.square().sum(1, keepdim=True) + squares
            distances = scale - 2 * rows @ self._points.T
            yield start, torch.where(distances > ROUNDING * scale, distances, 0.0)


def precision_recall(samples: Tensor, reference: Tensor, k: int = 3, rows_at_once: int = 256) -> PrecisionRecall:
    """The share of samples in the manifold of the reference, and the other way round.

    samples: features, shape (N, d), N > k
    reference: features, shape (M, d), M > k
    k: the neighbour that the balls reach to, from 1
    rows_at_once: as of `Manifold`

    Comparable between runs of the same N and M alone: more samples make smaller balls.
    """
    precision, recall = (
        Manifold(balls, k, rows_at_once).covers(points).double().mean().item()
        for balls, points in ((reference, samples), (samples, reference))
    )
    return PrecisionRecall(precision, recall, k)
