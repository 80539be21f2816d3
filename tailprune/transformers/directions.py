"""The directions that AdaLN reads in place of SiLU(c): for a schedule all that its vectors span, or the r best.

    x = B (s - m),    W s + b  ->  (W D) x + (b + W m),    s = SiLU(c), m its mean over the covered vectors

    schedule    B = V', D = V, of the singular value decomposition of the covered s - m = P S V'
    rank r      the modulations A = (s - m) W' of the covered vectors, of rows that are drawn, have the eigenvectors P
                and the values S^2 in A A'; B = S^-2 P' A W and D = (s - m)' P of the r largest

The algebra is in the space of the covered vectors: no matrix of d x d is made. With all rows drawn rank r is optimal,
as in `tailprune.compaction`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tailprune.spec import InputError
from tailprune.transformers.ranks import errors_by_rank, gram, sampled_rows
from tailprune.transformers.recognise import Model
from tailprune.transformers.schedule import Covered

__all__ = ["Directions", "all_directions", "best_directions"]

EXACT = 1e-8
"""Directions in which the covered vectors vary by less than this, of the most, are left out of an exact table."""
MARGIN = 0.9
"""Of a wanted error, what the estimate from drawn rows may take."""


@dataclass(frozen=True)
class Directions:
    """What takes the place of SiLU(c), in float64."""

    mean: Tensor
    """m, with shape (d,)."""
    encode: Tensor
    """B, with shape (r, d)."""
    decode: Tensor
    """D, with shape (d, r)."""


def all_directions(covered: Covered) -> Directions:
    """Those that the covered vectors span, which is exact for them."""
    mean = covered.read.mean(0)
    _, values, directions = torch.linalg.svd(covered.read - mean, full_matrices=False)
    kept = directions[values > EXACT * values[0]] if len(values) else directions
    return Directions(mean, kept, kept.T)


def best_directions(model: Model, covered: Covered, rank: int | None, error: float | None) -> Directions:
    """The `rank` with the least error of all modulations, or as many as an error needs.

    Raises InputError for more than there are.
    """
    mean = covered.read.mean(0)
    around = covered.read - mean
    weights, shares = sampled_rows(model)
    products, whole = gram((covered.read.float() @ weights.T) * shares)
    squares, vectors = torch.linalg.eigh(products)
    most = int((squares > 1e-14 * squares[-1]).sum())
    if rank is None:
        assert error is not None, "one of rank and error is given"
        rank = min(max(1, int((errors_by_rank(squares, whole) > MARGIN * error).sum())), most)
    if rank > most:
        raise InputError(f"the covered vectors have {most} directions that matter, which is less than rank {rank}")
    squares, vectors = squares[-rank:].flip(0), vectors[:, -rank:].flip(1)
    read_by = ((vectors.T @ around).float() @ weights.T) * shares**2  # P' A, with each row as often as it stands for
    encode = (read_by @ weights).double() / squares[:, None]
    return Directions(mean, encode, around.T @ vectors)
