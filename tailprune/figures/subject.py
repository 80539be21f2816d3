"""What figures are of: the vectors of one part of a model's condition, and what to call them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Subject", "picked", "spread"]


@dataclass(frozen=True)
class Subject:
    """N vectors of d components, one a class, an uploaded condition or, of part t, a time.

    Raises ValueError where they have another shape, or hold NaN or infinity.
    """

    values: Tensor
    """With shape (N, d)."""
    model: str
    part: Literal["c", "y", "t"]
    time: float | None
    """When c was measured; None for the other parts."""
    of: Literal["class", "condition", "time"]
    """What there is a vector of each of."""
    names: Sequence[str]
    """What each of the N is called."""

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or len(self.values) != len(self.names):
            raise ValueError(f"{len(self.names)} vectors have shape (N, d), not {tuple(self.values.shape)}")
        if not torch.isfinite(self.values).all():
            raise ValueError("condition vectors hold NaN or infinity: the checkpoint's condition tensors are damaged")

    @property
    def said(self) -> str:
        """The model, the part and the time."""
        at = "" if self.time is None else f" at t = {self.time:g}"
        return f"{self.model}, {self.part}{at}"

    @property
    def counted(self) -> str:
        """How many vectors there are, and of how many components."""
        return f"{self.plural(len(self.values))}, {self.values.shape[1]} components"

    def plural(self, count: int) -> str:
        """So many of them."""
        word = {"class": "classes", "condition": "conditions", "time": "times"}[self.of]
        return f"{count} {word if count != 1 else self.of}"


def picked(of: int, count: int, seed: int) -> list[int]:
    """`count` of `of` places in order, drawn by the seed alone."""
    return sorted(random.Random(seed).sample(range(of), count))


def spread(of: int, count: int) -> list[int]:
    """`count` of `of` places, evenly from the first to the last; fewer where there are not so many."""
    if count == 1:
        return [0]
    return sorted({round(step * (of - 1) / (count - 1)) for step in range(count)})
