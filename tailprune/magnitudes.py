"""Order statistics of more magnitudes than fit into memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

__all__ = ["Magnitudes"]

HALF_BITS = 16
HALF = 2**HALF_BITS


class Magnitudes:
    """|v_k| over all components of many vectors, in ascending order, without holding them.

    The bits of float32 numbers that are not negative, read as whole numbers, are in the order of the numbers. So the
    one at a place is found by counting: which upper halves there are, then which lower halves below the one chosen.

    pieces: the vectors in pieces of any shapes, float32 and finite; called, and gone through, once for each statistic
    """

    def __init__(self, pieces: Callable[[], Iterable[Tensor]]) -> None:
        self._pieces = pieces
        self._upper = torch.zeros(HALF, dtype=torch.long)
        for bits in self._bits():
            self._upper += _counts(bits >> HALF_BITS)
        self._count = int(self._upper.sum())

    def __len__(self) -> int:
        return self._count

    def at(self, place: int) -> float:
        """The magnitude at a place, from 0, the smallest, to the number of them less one."""
        upper, place = _bin(self._upper, place)
        lower = torch.zeros(HALF, dtype=torch.long)
        for bits in self._bits():
            lower += _counts(bits[bits >> HALF_BITS == upper] & (HALF - 1))
        whole = upper << HALF_BITS | _bin(lower, place)[0]
        return torch.tensor(whole, dtype=torch.int32).view(torch.float32).item()

    def quantile(self, share: float) -> float:
        """The quantile of a share, in [0, 1], between the two nearest magnitudes as `numpy.quantile` has it."""
        exact = share * (len(self) - 1)
        low = math.floor(exact)
        below, above = self.at(low), self.at(min(low + 1, len(self) - 1))
        return below + (above - below) * (exact - low)

    def fraction(self, chosen: Callable[[Tensor], Tensor]) -> float:
        """The fraction of the components that are chosen. chosen: vectors, of any shape -> bool, the same shape."""
        return sum(int(chosen(piece).sum()) for piece in self._pieces()) / len(self)

    def _bits(self) -> Iterable[Tensor]:
        for piece in self._pieces():
            yield piece.abs().contiguous().view(torch.int32).flatten()


def _counts(halves: Tensor) -> Tensor:
    """How often each number from 0 to `HALF` - 1 occurs."""
    return torch.bincount(halves, minlength=HALF).cpu()


def _bin(counts: Tensor, place: int) -> tuple[int, int]:
    """The bin that holds the number at a place, and its place within the bin."""
    ends = counts.cumsum(0)
    index = int(torch.searchsorted(ends, place, right=True))
    return index, place - int(ends[index] - counts[index])
