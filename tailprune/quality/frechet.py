"""Frechet distance of two normal distributions; of Inception's features, the FID (arXiv 1706.08500).

    d^2 = |m_1 - m_2|^2 + Tr C_1 + Tr C_2 - 2 Tr (C_1 C_2)^(1/2)

With factors C_i = A_i A_i^T the last trace is the sum of the singular values of A_1^T A_2. Factors come from the
eigenvalues of each covariance, without those that are zero but for rounding: nothing is complex, nothing is added to a
diagonal, and a covariance of fewer samples than features is as good as any.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tailprune.quality.moments import Gaussian

__all__ = ["frechet_distance"]


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """The squared Frechet distance, from 0. Raises ValueError for distributions of different dimension."""
    if a.dim != b.dim:
        raise ValueError(f"a Frechet distance is between features of one kind, got {a.dim} and {b.dim} of them")
    mean = (a.mean - b.mean).square().sum()
    root = torch.linalg.svdvals(_factor(a.covariance).T @ _factor(b.covariance)).sum()
    return max(0.0, (mean + a.covariance.trace() + b.covariance.trace() - 2 * root).item())  # but for rounding


def _factor(covariance: Tensor) -> Tensor:
    """A with A A^T = covariance. covariance, with shape (d, d) -> (d, rank)."""
    values, vectors = torch.linalg.eigh(covariance)  # ascending
    rounding = len(values) * torch.finfo(values.dtype).eps * values[-1]
    kept = values > rounding
    return vectors[:, kept] * values[kept].sqrt()
