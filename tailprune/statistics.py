"""Statistics of condition vectors: how parallel they are, and how few components carry them.

    cosine      mean over pairs i != j of  v_i . v_j / (|v_i| |v_j|)
    PR(v)       (sum_k |v_k|)^2 / sum_k v_k^2,  from 1 (one component) to d (all alike)
    nPR         PR / d, a fraction from 1 / d to 1
    sparsity    fraction of components with |v_k| < tau
    variance    of each component over the vectors, and how few components hold 90, 95, 99 % of it

Definitions as in "A Hidden Semantic Bottleneck in Conditional Embeddings of Diffusion Transformers"
(arXiv 2602.21596), sections 3 and 4. Another participation ratio, (sum_k v_k^2)^2 / sum_k v_k^4, is of squares instead
of magnitudes, and smaller; it is not used here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tailprune.arguments import as_number, as_tensor
from tailprune.extras import require
from tailprune.spec import InputError
from tailprune.spec.display import Shown

__all__ = [
    "CosineSummary",
    "Description",
    "Histogram",
    "cosine_matrix",
    "describe",
    "magnitude_histogram",
    "order_by_likeness",
    "participation_ratio",
    "sparsity",
    "summarise_cosine",
]

VARIANCE_SHARES = (0.9, 0.95, 0.99)


@dataclass(frozen=True, repr=False)
class CosineSummary(Shown):
    """Mean, minimum and maximum of the cosine over all pairs of distinct vectors; NaN for a single vector."""

    mean: float
    min: float
    max: float


@dataclass(frozen=True, repr=False)
class Histogram(Shown):
    """Counts of |v_k| in bins evenly spaced in log10; `edges` has one entry more than `counts`.

    The first bin also counts smaller magnitudes, zeros included, and the last bin larger ones.
    """

    edges: list[float]
    counts: list[int]


@dataclass(frozen=True, repr=False)
class Description(Shown):
    """Statistics of N vectors of d components, from `describe`."""

    count: int
    dim: int
    cosine: CosineSummary
    pr: float
    """The mean participation ratio (sum_k |v_k|)^2 / sum_k v_k^2, in [1, d]."""
    npr: float
    """pr / d, in [1 / d, 1]."""
    norm: float
    histogram: Histogram = field(repr=False)
    variance: Tensor = field(repr=False)
    """The variance of each component over the vectors, with shape (d,)."""
    components_for_variance: dict[float, int]
    """The smallest number of components that hold each share of the total variance."""
    magnitudes: Tensor = field(repr=False)
    """|v|, with shape (N, d)."""

    def sparsity(self, tau: float) -> float:
        """The fraction of components below `tau`, in [0, 1]."""
        return sparsity(self.magnitudes, tau)


def participation_ratio(vectors: Tensor) -> Tensor:
    """PR of each vector, (sum_k |v_k|)^2 / sum_k v_k^2; divided by d it is nPR.

    vectors, with shape (..., d) -> (...), in [1, d]; 0 for a vector of zeros
    """
    magnitudes = vectors.double().abs()
    squares = magnitudes.square().sum(-1)
    return torch.where(squares > 0, magnitudes.sum(-1).square() / squares.clamp_min(1e-300), 0.0)


def sparsity(vectors: Tensor, tau: float) -> float:
    """The fraction of components with |v_k| < tau, in [0, 1]. Raises InputError for a tau that is negative or NaN."""
    as_number("threshold", tau, least=0)
    return (vectors.abs() < tau).double().mean().item()


def cosine_matrix(vectors: Tensor) -> Tensor:
    """Cosine of every pair. vectors, with shape (N, d) -> (N, N). A vector of zeros has cosine 0 with every other."""
    unit = _unit(vectors)
    return unit @ unit.T


def order_by_likeness(cosine: Tensor) -> list[int]:
    """The rows of a matrix of cosines in an order in which vectors that are alike are near one another.

    cosine: of every pair of N vectors, with shape (N, N), N >= 1

    The order of the leaves of a clustering by average linkage, with the distance 1 - cosine (scipy).
    """
    require("quality", "scipy")
    from scipy.cluster.hierarchy import leaves_list, linkage

    if len(cosine) < 2:
        return list(range(len(cosine)))
    above = torch.triu_indices(len(cosine), len(cosine), offset=1)
    distances = (1 - cosine.double()[above[0], above[1]]).clamp_min(0)
    return [int(row) for row in leaves_list(linkage(distances.cpu().numpy(), "average"))]


def summarise_cosine(vectors: Tensor, rows_at_once: int = 256) -> CosineSummary:
    """Cosine over all pairs, without the N x N matrix. vectors, with shape (N, d), N >= 2.

    The mean comes from the sum of the unit vectors, since sum_ij u_i . u_j = |sum_i u_i|^2; minimum and
    maximum from blocks of `rows_at_once` rows, so the memory is O(N).

    Raises InputError for fewer than two vectors.
    """
    count = len(vectors)
    if count < 2:
        raise InputError(f"pairwise cosine needs at least two vectors, not {count}")
    unit = _unit(vectors)
    itself = unit.square().sum().item()  # 1 for each vector that is not zero
    mean = (unit.sum(0).square().sum().item() - itself) / (count * (count - 1))
    least, greatest = 1.0, -1.0
    for start in range(0, count - 1, rows_at_once):
        rows = unit[start : start + rows_at_once]
        pairs = rows @ unit[start:].T  # (rows, count - start)
        above_diagonal = torch.ones_like(pairs, dtype=torch.bool).triu(1)
        values = pairs[above_diagonal]
        least = min(least, values.min().item())
        greatest = max(greatest, values.max().item())
    mean, least, greatest = (min(1.0, max(-1.0, value)) for value in (mean, least, greatest))  # rounding may exceed 1
    return CosineSummary(mean=mean, min=least, max=greatest)


def magnitude_histogram(vectors: Tensor, low: float = 1e-5, high: float = 1e2, bins_a_decade: int = 10) -> Histogram:
    """A histogram of |v_k| over all components of all vectors.

    vectors: any shape
    low, high: where the first bin begins and the last one ends, above 0
    bins_a_decade: how many bins there are for each factor of 10, evenly spaced in log10
    """
    decades = torch.tensor([low, high], dtype=torch.float64).log10()
    bins = round((decades[1] - decades[0]).item() * bins_a_decade)
    edges = torch.logspace(decades[0].item(), decades[1].item(), bins + 1, dtype=torch.float64)
    magnitudes = vectors.double().abs().flatten().clamp(low, high).cpu()
    place = torch.bucketize(magnitudes, edges, right=True) - 1
    counts = torch.bincount(place.clamp(0, bins - 1), minlength=bins)
    return Histogram(edges=edges.tolist(), counts=counts.tolist())


def components_for_variance(variance: Tensor, shares: Sequence[float] = VARIANCE_SHARES) -> dict[float, int]:
    """The smallest number of components that hold each share of the total variance. variance, with shape (d,)."""
    held = variance.double().sort(descending=True).values.cumsum(0)
    total = held[-1].item()
    return {share: int((held < share * total).sum().item()) + 1 if total > 0 else 0 for share in shares}


def describe(vectors: Tensor) -> Description:
    """All statistics of condition vectors. vectors, with shape (N, d), N >= 1.

    PR, nPR and norm are means over the vectors; the variance over the vectors divides by N, not by N - 1. A single
    vector has no pairs, so its cosine is NaN.

    Raises InputError for another shape, no vectors, or a component that is not finite.
    """
    vectors = as_tensor("condition vectors", vectors)
    if vectors.ndim != 2 or not vectors.numel():
        raise InputError(f"condition vectors must have shape (N, d), N >= 1, not {tuple(vectors.shape)}")
    if vectors.dtype == torch.bool or vectors.is_complex():
        raise InputError(f"condition vectors must be real numbers, not {vectors.dtype}")
    if not torch.isfinite(vectors).all():
        raise InputError("condition vectors hold NaN or infinity: the checkpoint's condition tensors are damaged")
    count, dim = vectors.shape
    pr = participation_ratio(vectors).mean().item()
    variance = vectors.double().var(0, unbiased=False)
    return Description(
        count=count,
        dim=dim,
        cosine=summarise_cosine(vectors) if count > 1 else CosineSummary(math.nan, math.nan, math.nan),
        pr=pr,
        npr=pr / dim,
        norm=vectors.double().norm(dim=1).mean().item(),
        histogram=magnitude_histogram(vectors),
        variance=variance,
        components_for_variance=components_for_variance(variance),
        magnitudes=vectors.abs(),
    )


def _unit(vectors: Tensor) -> Tensor:
    v = vectors.double()
    return v / v.norm(dim=1, keepdim=True).clamp_min(1e-300)
