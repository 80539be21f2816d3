"""The data of figures of condition vectors: vectors of one part of a model's condition, with their names."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tailprune.spec import InputError

__all__ = ["LabelledVectors", "picked", "shared_words", "spread"]


@dataclass(frozen=True)
class LabelledVectors:
    """N vectors of d components, each of one class, one uploaded condition or, for part t, one time.

    Raises InputError for another shape, NaN or infinity.
    """

    values: Tensor
    """With shape (N, d)."""
    model: str
    """The name of the model, for the subtitle."""
    part: Literal["c", "y", "t"]
    time: float | None
    """The time at which c was measured; None for the other parts."""
    kind: Literal["class", "condition", "time"]
    """What each vector belongs to."""
    names: Sequence[str]
    """The names of the N vectors."""

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or len(self.values) != len(self.names):
            raise InputError(f"{len(self.names)} vectors must have shape (N, d), not {tuple(self.values.shape)}")
        if not torch.isfinite(self.values).all():
            raise InputError("condition vectors hold NaN or infinity: the checkpoint's condition tensors are damaged")

    @property
    def source(self) -> str:
        """The model, the part and the time, such as `shapes-sit, c at t = 0.25`."""
        at = "" if self.time is None else f" at t = {self.time:g}"
        return f"{self.model}, {self.part}{at}"

    @property
    def size(self) -> str:
        """The numbers of vectors and components, such as `100 classes, 128 components`."""
        count, dim = self.values.shape
        plural = {"class": "classes", "condition": "conditions", "time": "times"}[self.kind]
        return f"{count} {plural if count != 1 else self.kind}, {dim} components"


def shared_words(names: Sequence[str]) -> list[list[str]]:
    """The words that names share, such as the colours and the shapes of "red circle", "blue circle", "red star" …

    names: of N vectors

    A list for each place in a name whose words tell the names apart and occur twice on average, with the N words there;
    empty for names of different numbers of words.
    """
    split = [name.split() for name in names]
    if len({len(words) for words in split}) != 1:
        return []
    places = [list(words) for words in zip(*split, strict=True)]
    return [words for words in places if 2 <= len(set(words)) <= len(words) / 2]


def picked(total: int, count: int, seed: int) -> list[int]:
    """`count` of `total` rows, drawn at random from the seed, in ascending order."""
    return sorted(random.Random(seed).sample(range(total), count))


def spread(total: int, count: int) -> list[int]:
    """`count` of `total` rows, evenly spaced from first to last; all of them if there are fewer."""
    if count == 1:
        return [0]
    return sorted({round(step * (total - 1) / (count - 1)) for step in range(count)})
