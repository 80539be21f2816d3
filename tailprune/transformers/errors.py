"""The error of a compacted model's modulations, relative to their part that depends on c.

It is the modulation error of `tailprune.modulation`, at the covered vectors and at some between them, and is summed
over the rows of all layers one after another.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Errors", "errors_of", "precise_type", "spanned", "squared_errors"]

FEW = 128
"""Of no more vectors the layers' products are computed as they are."""
ROUNDING = 1e-8
"""Directions in which vectors have less than this share of the most are left out of these products."""


def precise_type(stored: torch.dtype) -> torch.dtype:
    """The type in which weights are computed with: float32 for those in half precision, float64 for all others."""
    return torch.float32 if stored in (torch.float16, torch.bfloat16) else torch.float64


def spanned(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """What many vectors are made of: coordinates and axes, with shapes (C, k) and (k, d), whose product they are.

    Vectors of a curve, or of some texts at many times, need few axes.

    vectors: with shape (C, d), float64
    """
    if len(vectors) <= FEW:
        return torch.eye(len(vectors), dtype=vectors.dtype), vectors
    left, sizes, axes = torch.linalg.svd(vectors, full_matrices=False)
    kept = sizes > ROUNDING * sizes[0]
    return left[:, kept] * sizes[kept], axes[kept]


def squared_errors(exact: Tensor, smaller: Tensor, added: Tensor, encoded: Tensor) -> Tensor:
    """The squared change of some rows' modulations at C vectors, and their squared size, with shape (2, C), float64.

    exact: the rows of the whole model's weight times the vectors, with shape (rows, C)
    smaller: the rows of the compacted one's weight, with shape (rows, r)
    added: what the compaction added to their biases, with shape (rows,)
    encoded: the directions of the vectors, with shape (C, r)
    """
    wrong = smaller @ encoded.T + added[:, None] - exact
    return torch.stack([wrong.double().square().sum(0), exact.double().square().sum(0)])


@dataclass(frozen=True)
class Errors:
    """The error of modulations, relative to their part that depends on c."""

    mean: float
    """The root mean square over what is covered."""
    worst: float
    """At the worst of it."""
    between: float | None
    """At the worst of the times between; None if it was not measured."""


def errors_of(squares: Tensor, covered: int) -> Errors:
    """The errors from the squares at all checked vectors, with shape (2, C), of which the first are covered."""
    relative = (squares[0] / squares[1]).sqrt()
    wrong, whole = squares[:, :covered].sum(1)
    between = float(relative[covered:].max()) if len(relative) > covered else None
    return Errors(float((wrong / whole).sqrt()), float(relative[:covered].max()), between)
