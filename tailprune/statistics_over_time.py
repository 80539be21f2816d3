"""Statistics of the condition vectors of all classes at many timesteps, from the two parts they are made of.

    c_i(t) = y_i + t = z_i + s,    m = mean of y,  z_i = y_i - m,  s = t + m
    c_i . c_j = z_i . z_j + z_i . s + z_j . s + s . s

so one Gram matrix of the classes serves every timestep, block of rows by block of rows. Subtracting the mean first
avoids cancellation where the classes are nearly equal. Components below a threshold are counted in sorted columns of y:

    |y_ik + t_k| < tau    where    -tau - t_k < y_ik < tau - t_k

Definitions are those of `tailprune.statistics`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tailprune.arguments import as_numbers, as_tensor
from tailprune.spec import InputError
from tailprune.spec.display import Shown

__all__ = ["DescriptionOverTime", "describe_over_time"]

CANCELLED = 1e-6
"""A squared norm below this share of its terms has cancelled, and is computed from the vector itself."""

PAIRS_AT_ONCE = 1 << 17
"""The size of a block: two float64 blocks of this many pairs fit in a processor's cache."""


@dataclass(frozen=True, repr=False)
class DescriptionOverTime(Shown):
    """Statistics of N vectors of d components at each of T timesteps; float64 tensors, with shape (T,)."""

    count: int
    dim: int
    cosine_mean: Tensor
    """The mean cosine over all pairs of distinct vectors; minimum and maximum follow. NaN for a single vector."""
    cosine_min: Tensor
    cosine_max: Tensor
    pr: Tensor
    """The mean participation ratio (sum_k |v_k|)^2 / sum_k v_k^2, in [1, d]."""
    npr: Tensor
    """pr / d, in [1 / d, 1]."""
    norm: Tensor
    """The mean Euclidean norm."""
    thresholds: tuple[float, ...]
    sparsity: Tensor
    """The fraction of components below each threshold, in [0, 1], with shape (T, thresholds)."""


@torch.no_grad()
def describe_over_time(y: Tensor, t: Tensor, thresholds: Sequence[float]) -> DescriptionOverTime:
    """Statistics of `y + t[k]` for every k.

    y: the input parts, `embed_inputs` of all classes, with shape (N, d), N >= 1, float32
    t: the time parts, `embed_time` of the timesteps, with shape (T, d), T >= 1, float32
    thresholds: magnitudes below which components are counted, each 0 or more

    The numbers agree with `describe(y + t[k])` within 1e-5 (relative for pr and norm), for zero vectors too, unless two
    vectors at the same time cancel to less than 1e-5 of their parts. Memory is O((N + T) d + N T).

    Raises InputError for other shapes or types, no vectors, a component that is not finite, or a
    threshold that is negative or not finite.
    """
    y, t = as_tensor("y", y), as_tensor("t", t)
    thresholds = as_numbers("thresholds", thresholds, least=0)
    _check(y, t)
    count, dim = y.shape
    mean = y.double().mean(0)
    z, s = y.double() - mean, t.double() + mean
    across, common = z @ s.T, s.square().sum(1)  # (N, T), (T,)
    norms, sums = _norms(y, t, z, across, common)  # (N, T) each
    inverse = torch.where(norms > 0, 1 / norms, 0.0)

    total = inverse.T @ z + inverse.sum(0)[:, None] * s  # (T, d), the sum of the unit vectors
    itself = (norms > 0).sum(0)
    if count > 1:
        cosine_mean = (total.square().sum(1) - itself) / (count * (count - 1))
        least, greatest = _extremes(z, across, common, inverse)
    else:
        cosine_mean = least = greatest = torch.full_like(common, math.nan)
    pr = (sums * inverse).square().mean(0)
    return DescriptionOverTime(
        count=count,
        dim=dim,
        cosine_mean=cosine_mean.clamp(-1, 1),  # rounding may exceed 1
        cosine_min=least.clamp(-1, 1),
        cosine_max=greatest.clamp(-1, 1),
        pr=pr,
        npr=pr / dim,
        norm=norms.mean(0),
        thresholds=tuple(thresholds),
        sparsity=_sparsity(y, t, thresholds),
    )


def _check(y: Tensor, t: Tensor) -> None:
    if y.ndim != 2 or t.ndim != 2 or y.shape[1] != t.shape[1] or not (y.numel() and len(t)):
        raise InputError(f"y must have shape (N, d) and t (T, d), not empty, not {tuple(y.shape)} and {tuple(t.shape)}")
    if y.dtype != torch.float32 or t.dtype != torch.float32:
        raise InputError(f"y and t must be float32, not {y.dtype} and {t.dtype}")
    if y.device != t.device:
        raise InputError(f"y and t must be on one device, not on {y.device} and {t.device}")
    for name, part in (("y", y), ("t", t)):
        if not torch.isfinite(part).all():
            raise InputError(f"{name} holds NaN or infinity: the checkpoint's condition tensors are damaged")


def _norms(y: Tensor, t: Tensor, z: Tensor, across: Tensor, common: Tensor) -> tuple[Tensor, Tensor]:
    """The Euclidean norm and the sum of magnitudes of every vector at every time -> (N, T) each, float64.

    y, t: as in `describe_over_time`
    z, across, common: z_i, z_i . s and s . s of the formula above, with shape (N, d), (N, T) and (T,)
    """
    own = z.square().sum(1, keepdim=True)
    squares = own + 2 * across + common
    cancelled = squares < CANCELLED * (own + common)
    affected = cancelled.any(0).tolist()
    sums = torch.empty(len(t), len(y), device=y.device)
    c = torch.empty_like(y)
    for k, time in enumerate(t):
        torch.add(y, time, out=c)
        if affected[k]:
            rows = cancelled[:, k]
            squares[rows, k] = c[rows].double().square().sum(1)
        torch.sum(c.abs_(), 1, out=sums[k])
    return squares.sqrt(), sums.T.double()


def _extremes(z: Tensor, across: Tensor, common: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """The minimum and maximum cosine over all pairs at every time -> (T,) each.

    z, across, common: as in `_norms`
    inverse: r = 1 / |c|, 0 for a vector of zeros, with shape (N, T)

    cos_ij = r_i (r_j (z_i . z_j + z_j . s + s . s) + r_j z_i . s); r_i is multiplied after the reduction over j.
    """
    count, times = across.shape
    rows_at_once = max(1, PAIRS_AT_ONCE // count)
    scale = inverse.T.contiguous()  # (T, N)
    share = scale * (across.T + common[:, None])
    least, greatest = common.new_full((times,), math.inf), common.new_full((times,), -math.inf)
    for start in range(0, count - 1, rows_at_once):
        rows = slice(start, start + rows_at_once)
        gram = z[rows] @ z[start:].T  # (rows, count - start)
        cosine = torch.empty_like(gram)
        low, high = gram.new_empty(times, len(gram)), gram.new_empty(times, len(gram))
        for k in range(times):
            torch.addcmul(share[k, start:], gram, scale[k, start:], out=cosine)
            cosine.addcmul_(across[rows, k, None], scale[k, start:])
            torch.amin(cosine, 1, out=low[k])  # the diagonal is 1, never the minimum
            cosine.diagonal().fill_(-math.inf)
            torch.amax(cosine, 1, out=high[k])
        least = least.minimum((low * scale[:, rows]).amin(1))
        greatest = greatest.maximum((high * scale[:, rows]).amax(1))
    return least, greatest


def _sparsity(y: Tensor, t: Tensor, thresholds: Sequence[float]) -> Tensor:
    """The fraction of components below each threshold at every time -> (T, thresholds), float64."""
    columns = y.T.contiguous().sort(dim=1).values.double()  # (d, N)
    moved = t.T.double().contiguous()  # (d, T)
    shares = moved.new_zeros(len(t), len(thresholds))
    for place, tau in enumerate(torch.tensor(thresholds, dtype=torch.float32).tolist()):  # as `sparsity` compares
        below = torch.searchsorted(columns, tau - moved)
        too_low = torch.searchsorted(columns, -tau - moved, right=True)
        shares[:, place] = (below - too_low).clamp_min(0).sum(0).double() / y.numel()  # nothing is below 0
    return shares
