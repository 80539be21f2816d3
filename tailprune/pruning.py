"""Pruning: which components of a condition vector are removed, what takes their place, and on which steps.

    tail:  c_k -> fill where |c_k| < tau            head:  c_k -> fill where |c_k| > tau
    keep:  c_k -> fill except for the k components whose SiLU(c) varies most over the classes

Tail and head with zeros are the pruning of arXiv 2602.21596, section 4, chosen vector by vector. `keep` is our own
rule: it ranks the components of what the blocks read, `SiLU(c)`, and fills the others with the mean over the classes
at that timestep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tailprune.arguments import as_number, as_whole
from tailprune.spec import InputError
from tailprune.spec.prune import Fill, PruneSpec, Side, When

__all__ = ["Population", "Prune"]


@dataclass(frozen=True)
class Population:
    """Statistics of the condition vectors over all classes, at one time or at each of several."""

    mean: Tensor
    """The mean of `c`, with shape (..., d)."""
    variation: Tensor
    """The variance of `SiLU(c)` over the classes, with shape (..., d)."""

    def at(self, index: int) -> Population:
        """The statistics at one of several times."""
        return Population(mean=self.mean[index], variation=self.variation[index])

    @classmethod
    def of(cls, vectors: Tensor) -> Population:
        """The statistics of vectors with shape (..., classes, d); its tensors have shape (..., d)."""
        return cls(mean=vectors.mean(-2), variation=F.silu(vectors).var(-2, unbiased=False))


@dataclass(frozen=True)
class Prune:
    """An edit of condition vectors. `Prune("tail", 0.01)`, `Prune("head", 5.0)` or `Prune.keep(64)`.

    side: `tail` removes components below the threshold, `head` those above it; None with `kept`
    threshold: a magnitude, 0 or more; None with `kept`
    schedule: the sampling steps that are pruned: `every` (the default), the `first` `count` or the `last` `count`
    count: a number of steps, 1 or more; 1 by default for `first`, required for `last`, None for `every`
    fill: what takes the place of a removed component, `zero` (the default) or the `mean` over the classes
    kept: how many components are kept, 1 or more, as `Prune.keep` sets it; None with a threshold

    Raises InputError for a threshold that is negative or not finite, an unknown side, schedule or fill, or a count
    that is missing or does not apply.
    """

    side: Side | None
    threshold: float | None = None
    schedule: When = "every"
    count: int | None = None
    fill: Fill = "zero"
    kept: int | None = None

    def __post_init__(self) -> None:
        if self.kept is None:
            if self.side not in ("tail", "head"):
                raise InputError(f"side must be 'tail' or 'head', as in Prune('tail', 0.05), not {self.side!r}")
            as_number("threshold", self.threshold, least=0)
        elif self.side is not None or self.threshold is not None:
            raise InputError("a prune that keeps a number of components has neither side nor threshold: leave both out")
        else:
            as_whole("components to keep", self.kept, least=1)
        if self.fill not in ("zero", "mean"):
            raise InputError(f"fill must be 'zero' or 'mean', not {self.fill!r}")
        if self.schedule not in ("every", "first", "last"):
            raise InputError(f"schedule must be 'every', 'first' or 'last', not {self.schedule!r}")
        if self.schedule == "every" and self.count is not None:
            raise InputError("the schedule 'every' has no count: leave count out, or use 'first' or 'last'")
        if self.schedule == "last" and self.count is None:
            raise InputError("the schedule 'last' needs count, the number of steps to prune")
        if self.count is not None:
            as_whole("count, the steps to prune,", self.count, least=1)

    @classmethod
    def keep(
        cls,
        components: int,
        by: Literal["variance"] = "variance",
        fill: Fill = "mean",
        schedule: When = "every",
        count: int | None = None,
    ) -> Prune:
        """The prune that keeps the components whose SiLU(c) varies most over the classes at each timestep.

        components: how many are kept, from 1 to d
        by: the ranking, `variance` only
        fill: what takes the place of a removed component, the `mean` over the classes (the default) or `zero`
        schedule, count: as in `Prune`

        Raises InputError for any other value.
        """
        if by != "variance":
            raise InputError(f"components to keep are ranked by 'variance', not by {by!r}")
        return cls(side=None, schedule=schedule, count=count, fill=fill, kept=components)

    @classmethod
    def of(cls, spec: PruneSpec) -> Prune:
        """The prune that a resolved `PruneSpec` describes."""
        assert spec.fill is not None, "a resolved prune has a fill"
        when, count = spec.schedule.when, spec.schedule.count
        if spec.keep is not None:
            return cls.keep(spec.keep, "variance", spec.fill, when, count)
        return cls(spec.side, spec.threshold, when, count, spec.fill)

    def check_steps(self, steps: int) -> None:
        """Raises InputError if the schedule counts more steps than a run of `steps` has."""
        if self.count is not None and self.count > steps:
            raise InputError(
                f"a schedule counts {self.count}, more than the {steps} steps of this run: lower it, or give more steps"
            )

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
        """Which components are removed. c, with shape (..., N, d) -> bool, with the same shape.

        population: the statistics at the same times as `c`, with shape (..., d); only `keep` needs it

        Raises InputError if it is missing, or if more than d components are to be kept.
        """
        if self.kept is not None:
            if self.kept > c.shape[-1]:
                raise InputError(f"cannot keep {self.kept} components of vectors that have {c.shape[-1]}")
            variation = self._required(population).variation
            removed = torch.ones_like(variation, dtype=torch.bool)
            removed.scatter_(-1, variation.topk(self.kept, dim=-1).indices, False)
            return removed.unsqueeze(-2).expand_as(c)
        assert self.threshold is not None
        return c.abs() < self.threshold if self.side == "tail" else c.abs() > self.threshold

    def __call__(self, c: Tensor, population: Population | None = None) -> Tensor:
        """The edited vectors. c, with shape (..., N, d) -> the same shape; population as in `removed`."""
        fill = self._required(population).mean.unsqueeze(-2) if self.fill == "mean" else torch.zeros_like(c)
        return torch.where(self.removed(c, population), fill, c)

    @staticmethod
    def _required(population: Population | None) -> Population:
        if population is None:
            raise InputError("the mean fill and the variance rule need a population: give the vectors of all classes")
        return population
