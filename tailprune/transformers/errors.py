"""The error of a compacted model's modulations, relative to their part that depends on c.

It is the modulation error of `tailprune.modulation`, at the covered vectors and at some between them, and is summed
over the rows of all layers one after another. With s = SiLU(c) = A'a, e = B(s - m) the directions that the smaller
model reads, and [W', b'] what was written in place of a layer's W and the b that its bias grew by:

    W'e + b' - Ws  =  ([W', b'] - WA'L) [e, 1] - WA' (a - L [e, 1])

for any L. That of the least squares over what is covered, a ~ L [e, 1], makes both terms as small as the error is.
As the axes A are few, only the products of the columns [WA', [W', b'] - WA'L] with each other are summed over the rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tailprune.transformers.recognise import Model
from tailprune.transformers.source import TORCH

__all__ = ["Errors", "Products", "errors_of", "precise_type"]

ROUNDING = {torch.float32: 1e-8, torch.float64: 1e-12}
"""Axes along which vectors have less than this share of the most are left out, by the type that computes."""


def precise_type(model: Model) -> torch.dtype:
    """The type in which AdaLN is computed with: float32 if all of it is in half precision, otherwise float64."""
    stored = {TORCH[model.source.tensors[f"{name}.weight"].dtype] for name in model.names}
    return torch.float32 if stored <= {torch.float16, torch.bfloat16} else torch.float64


class Products:
    """What the squared errors at C vectors are computed of, without a product of every row with every vector.

    vectors: SiLU(c), with shape (C, d), float64
    covered: how many of them are, the first
    mean: m, with shape (d,), float64
    encode: B, with shape (r, d), float64
    wanted: vectors that the axes span besides, with shape (n, d), float64
    precise: the type that weights are computed with, see `precise_type`
    """

    def __init__(
        self,
        vectors: Tensor,
        covered: int,
        mean: Tensor,
        encode: Tensor,
        wanted: Tensor,
        precise: torch.dtype,
    ) -> None:
        first = torch.linalg.qr(F.normalize(wanted, dim=1).T).Q.T
        _, sizes, others = torch.linalg.svd(vectors - vectors @ first.T @ first, full_matrices=False)
        kept = sizes > ROUNDING[precise] * torch.linalg.matrix_norm(vectors)
        self.axes = torch.linalg.qr(torch.cat([first, others[kept]]).T).Q.T  # rounding left some of the first in others
        """A, orthonormal, with shape (k, d)."""
        self._whole = vectors @ self.axes.T  # a, with shape (C, k)
        self._encoded = torch.cat([(vectors - mean) @ encode.T, vectors.new_ones(len(vectors), 1)], dim=1)
        known = self._encoded[:covered], self._whole[:covered]
        self._fit = torch.linalg.lstsq(*known, driver="gelsd").solution  # with shape (r + 1, k)

    def zeros(self) -> Tensor:
        """Where `add` sums up."""
        return torch.zeros((sum(self._fit.shape),) * 2, dtype=torch.float64)

    def add(self, total: Tensor, along: Tensor, smaller: Tensor, added: Tensor) -> None:
        """Add those of some rows to `total`.

        along: the whole model's weight times the axes, WA', with shape (rows, k)
        smaller: the compacted one's weight, with shape (rows, r)
        added: what the compaction added to their biases, with shape (rows,)
        """
        change = torch.cat([smaller, added[:, None]], dim=1) - along @ self._fit.T.to(along.dtype)
        columns = torch.cat([along, change], dim=1)
        total += columns.T @ columns

    def squares(self, total: Tensor) -> Tensor:
        """The squared change of the modulations at each vector, and their squared size, with shape (2, C)."""
        k = len(self.axes)
        change = torch.cat([self._encoded @ self._fit - self._whole, self._encoded], dim=1)
        wrong = ((change @ total) * change).sum(1)
        whole = ((self._whole @ total[:k, :k]) * self._whole).sum(1)
        return torch.stack([wrong, whole]).clamp(min=0)


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
