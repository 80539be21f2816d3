"""Kernel distance of two sets of features; of Inception's features, the KID (arXiv 1801.01401).

    k(x, y) = (x . y / d + 1)^3
    MMD^2   = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_ij k(x_i, y_j)

unbiased, so it can fall below 0; over subsets of both sets, its mean and standard deviation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["KernelDistance", "kernel_distance"]


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
    """samples, with shape (N, d); reference, with shape (M, d).

    Each subset is drawn without replacement, by `seed` alone, from the sets in the order given: merge shards in a fixed
    order. Raises ValueError for a set smaller than a subset.
    """
    from torchmetrics.image.kid import poly_mmd

    for what, features in (("samples", samples), ("reference", reference)):
        if not 2 <= subset_size <= len(features):
            raise ValueError(
                f"subsets of {subset_size} cannot be drawn from the {len(features)} features of {what}: "
                "subset_size runs from 2 to the smaller set"
            )
    generator = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(subsets):
        x, y = (
            features[torch.randperm(len(features), generator=generator)[:subset_size].to(features.device)].double()
            for features in (samples, reference)
        )
        values.append(poly_mmd(y, x))
    found = torch.stack(values)
    return KernelDistance(found.mean().item(), found.std(unbiased=False).item(), subsets, subset_size)
