"""Pruning: which components of a condition vector are removed, what takes their place, and on which steps.

    tail:  c_k -> fill where |c_k| < tau            head:  c_k -> fill where |c_k| > tau
    keep:  c_k -> fill except for the k components whose SiLU(c) varies most over the classes

Tail and head with zeros are the pruning of arXiv 2602.21596, section 4, chosen vector by vector. `keep` is our own
rule: it looks at what the blocks read, `SiLU(c)`, and the classes' mean at that timestep stands in for the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tailprune.spec import InputError
from tailprune.spec.prune import Fill, PruneSpec, Side, When

__all__ = ["Population", "Prune"]


@dataclass(frozen=True)
class Population:
    """What the condition vectors of all classes have in common, at one time or at each of several."""

    mean: Tensor
    """The mean of `c`, with shape (..., d)."""
    variation: Tensor
    """The variance of `SiLU(c)` over the classes, with shape (..., d)."""

    def at(self, index: int) -> Population:
        """That of one of several times."""
        return Population(mean=self.mean[index], variation=self.variation[index])

    @classmethod
    def of(cls, vectors: Tensor) -> Population:
        """vectors, with shape (..., classes, d) -> tensors with shape (..., d)."""
        return cls(mean=vectors.mean(-2), variation=F.silu(vectors).var(-2, unbiased=False))


@dataclass(frozen=True)
class Prune:
    """An edit of condition vectors. `Prune("tail", 0.01)`, `Prune("head", 5.0)` or `Prune.keep(64)`.

    `schedule` says on which sampling steps: `every`, the `first` `count` (1 unless said) or the `last` `count`.
    Raises InputError for a threshold that is negative or not finite, an unknown word, or a count that is missing
    or does not apply.
    """

    side: Side | None
    threshold: float | None = None
    schedule: When = "every"
    count: int | None = None
    fill: Fill = "zero"
    kept: int | None = None
    """How many components `Prune.keep` keeps; None under a threshold."""

    def __post_init__(self) -> None:
        if self.kept is None:
            if self.side not in ("tail", "head"):
                raise InputError(f"side is 'tail' or 'head', not {self.side!r}")
            if self.threshold is None or not math.isfinite(self.threshold) or self.threshold < 0:
                raise InputError(f"threshold is a finite number of at least 0, not {self.threshold!r}")
        elif self.side is not None or self.threshold is not None:
            raise InputError("a number of components to keep takes neither side nor threshold")
        elif not isinstance(self.kept, int) or self.kept < 1:
            raise InputError(f"a whole number of components, at least 1, is kept, not {self.kept!r}")
        if self.fill not in ("zero", "mean"):
            raise InputError(f"fill is 'zero' or 'mean', not {self.fill!r}")
        if self.schedule not in ("every", "first", "last"):
            raise InputError(f"schedule is 'every', 'first' or 'last', not {self.schedule!r}")
        if self.schedule == "every" and self.count is not None:
            raise InputError("count goes with the schedules 'first' and 'last', not with 'every'")
        if self.schedule == "last" and self.count is None:
            raise InputError("the schedule 'last' needs a count of steps")
        if self.count is not None and self.count < 1:
            raise InputError(f"count is at least 1 step, not {self.count}")

    @classmethod
    def keep(
        cls,
        components: int,
        by: Literal["variance"] = "variance",
        fill: Fill = "mean",
        schedule: When = "every",
        count: int | None = None,
    ) -> Prune:
        """Keeps the `components` whose SiLU(c) varies most over the classes at each timestep."""
        if by != "variance":
            raise InputError(f"components are kept by 'variance', not by {by!r}")
        return cls(side=None, schedule=schedule, count=count, fill=fill, kept=components)

    @classmethod
    def of(cls, spec: PruneSpec) -> Prune:
        """The edit that a resolved prune of the grammar is."""
        assert spec.fill is not None, "a resolved prune has a fill"
        when, count = spec.schedule.when, spec.schedule.count
        if spec.keep is not None:
            return cls.keep(spec.keep, "variance", spec.fill, when, count)
        return cls(spec.side, spec.threshold, when, count, spec.fill)

    def active(self, step: int, steps: int) -> bool:
        """Whether sampling step `step` of `steps`, counted from 0, is edited."""
        if self.schedule == "first":
            return step < (self.count or 1)
        if self.schedule == "last":
            return step >= steps - (self.count or 1)
        return True

    @property
    def needs_population(self) -> bool:
        """Whether the edit depends on the vectors of all classes."""
        return self.kept is not None or self.fill == "mean"

    def removed(self, c: Tensor, population: Population | None = None) -> Tensor:
        """Which components go. c, with shape (..., N, d) -> bool, with the same shape.

        population: of the same times as `c`, shape (..., d); only `keep` asks for it.
        Raises InputError where it is missing, or where more components are to be kept than there are.
        """
        if self.kept is not None:
            if self.kept > c.shape[-1]:
                raise InputError(f"{self.kept} components cannot be kept of vectors that have {c.shape[-1]}")
            variation = self._known(population).variation
            gone = torch.ones_like(variation, dtype=torch.bool)
            gone.scatter_(-1, variation.topk(self.kept, dim=-1).indices, False)
            return gone.unsqueeze(-2).expand_as(c)
        assert self.threshold is not None
        return c.abs() < self.threshold if self.side == "tail" else c.abs() > self.threshold

    def __call__(self, c: Tensor, population: Population | None = None) -> Tensor:
        """The edited vectors. c, with shape (..., N, d) -> the same shape; population as in `removed`."""
        fill = self._known(population).mean.unsqueeze(-2) if self.fill == "mean" else torch.zeros_like(c)
        return torch.where(self.removed(c, population), fill, c)

    @staticmethod
    def _known(population: Population | None) -> Population:
        if population is None:
            raise InputError("the mean fill and the variance rule need the population: the vectors of all classes")
        return population
