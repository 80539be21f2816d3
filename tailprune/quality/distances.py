"""Distances of two sets of features: the Frechet distance of their moments, and a kernel distance.

Frechet distance of two normal distributions; of Inception's features, the FID (arXiv 1706.08500).

    d^2 = |m_1 - m_2|^2 + Tr C_1 + Tr C_2 - 2 Tr (C_1 C_2)^(1/2)

With factors C_i = A_i A_i^T the last trace is the sum of the singular values of A_1^T A_2. The factors come from the
eigenvalues of each covariance that are above rounding error: no number is complex, no diagonal needs an offset, and a
covariance may be singular, of fewer samples than features.

Kernel distance of two sets of features; of Inception's features, the KID (arXiv 1801.01401).

    k(x, y) = (x . y / d + 1)^3
    MMD^2   = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_ij k(x_i, y_j)

unbiased for independent samples, so that it can be negative; its mean and standard deviation are over subsets of both
sets.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tailprune.quality.few_samples import few_samples, warn_of_few
from tailprune.quality.moments import Gaussian
from tailprune.spec import InputError

__all__ = ["KernelDistance", "frechet_distance", "kernel_distance"]


def frechet_distance(a: Gaussian, b: Gaussian, warn: bool = True) -> float:
    """The squared Frechet distance, 0 or more.

    a, b: the moments of both sets of features
    warn: whether to warn (`FewSamplesWarning`) if either set has fewer features than `least_samples`; True by default

    It has no confidence interval: the distance of a resampled set is greater than that of the set itself.

    Raises InputError for distributions of different dimension.
    """
    if a.dim != b.dim:
        raise InputError(f"a Frechet distance needs the same number of features, not {a.dim} and {b.dim}")
    if warn:
        warn_of_few("Frechet distance", *(few_samples(each.count, each.dim) for each in (a, b)))
    mean = (a.mean - b.mean).square().sum()
    root = torch.linalg.svdvals(_factor(a.covariance).T @ _factor(b.covariance)).sum()
    return max(0.0, (mean + a.covariance.trace() + b.covariance.trace() - 2 * root).item())  # rounding may give less


def _factor(covariance: Tensor) -> Tensor:
    """A factor A with A A^T = covariance. covariance, with shape (d, d) -> (d, rank)."""
    values, vectors = torch.linalg.eigh(covariance)  # ascending
    rounding = len(values) * torch.finfo(values.dtype).eps * values[-1]
    kept = values > rounding
    return vectors[:, kept] * values[kept].sqrt()


@dataclass(frozen=True)
class KernelDistance:
    """Mean and standard deviation of MMD^2 over `subsets` subsets of `subset_size`."""

    mean: float
    std: float
    subsets: int
    subset_size: int


def kernel_distance(
    samples: Tensor, reference: Tensor, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> KernelDistance:
    """The kernel distance over subsets of both sets.

    samples: features, with shape (N, d)
    reference: features, with shape (M, d)
    subsets: the number of subsets of each set, 100 by default
    subset_size: the number of features of a subset, from 2 to the size of the smaller set, 1,000 by default
    seed: the seed of the subsets, 0 by default

    Subsets are drawn without replacement, and depend on the order of the features: merge shards in a fixed order.

    Raises InputError for a set smaller than a subset.
    """
    for what, features in (("samples", samples), ("reference", reference)):
        if not 2 <= subset_size <= len(features):
            raise InputError(
                f"cannot draw subsets of {subset_size} from the {len(features)} features of {what}: "
                "give a subset_size from 2 to the size of the smaller set"
            )
    generator = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(subsets):
        x, y = (
            features[torch.randperm(len(features), generator=generator)[:subset_size].to(features.device)].double()
            for features in (samples, reference)
        )
        values.append(_mean_of_pairs(x) + _mean_of_pairs(y) - 2 * _kernel(x, y).mean())
    found = torch.stack(values)
    return KernelDistance(found.mean().item(), found.std(unbiased=False).item(), subsets, subset_size)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """k(x_i, y_j). x, with shape (n, d); y, with shape (m, d) -> (n, m)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def _mean_of_pairs(x: Tensor) -> Tensor:
    """The mean of k(x_i, x_j) over i != j. x, with shape (n, d) -> ()."""
    kernel = _kernel(x, x)
    return (kernel.sum() - kernel.trace()) / (len(x) * (len(x) - 1))
