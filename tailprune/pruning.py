"""Pruning: which components of a condition vector are removed, what takes their place, and on which steps.

    tail:  c_k -> fill where |v_k| < tau            head:  c_k -> fill where |v_k| > tau
    keep:  c_k -> fill except for the k components of largest score

`v` is `c`, or what the blocks read, `SiLU(c)`. Tail and head of `c` with zeros are the pruning of arXiv 2602.21596,
section 4, chosen vector by vector; the rest are our own rules. The scores of `keep`, for a mean m of `c` over the
classes at that timestep, are

    magnitude:  |v_k|                          vector by vector
    variance:   var over classes of SiLU(c_k)  the same for all vectors of a timestep
    deviation:  |SiLU(c_k) - SiLU(m_k)|        vector by vector; what a fill with the mean changes in what is read
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from tailprune.arguments import as_number, as_whole
from tailprune.magnitudes import Magnitudes
from tailprune.spec import InputError
from tailprune.spec.prune import By, Fill, Of, PruneSpec, Side, When

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
    """An edit of condition vectors: `Prune("tail", 0.01)`, `Prune.keep(64)` or `Prune.remove_fraction(0.66)`.

    side: `tail` removes components below the threshold, `head` those above it; None where components are kept
    threshold: a magnitude, 0 or more; None where components are kept, or a share is removed
    schedule: the sampling steps that are pruned: `every` (the default), the `first` `count` or the `last` `count`
    count: a number of steps, 1 or more; 1 by default for `first`, required for `last`, None for `every`
    fill: what takes the place of a removed component, `zero` (the default) or the `mean` over the classes
    of: whose magnitudes count, those of `c` (the default) or those of what the blocks `read`, SiLU(c)
    kept: how many components are kept, a number from 1, or a share between 0 and 1; `Prune.keep` and
        `Prune.keep_fraction` set it
    by: what the kept components are ranked by; None with a threshold
    removed_share: the share that is removed, between 0 and 1, as `Prune.remove_fraction` sets it

    Raises InputError for a threshold that is negative or not finite, a number or share out of its range, an unknown
    side, schedule, fill, ranking or `of`, or a count that is missing or does not apply.
    """

    side: Side | None
    threshold: float | None = None
    schedule: When = "every"
    count: int | None = None
    fill: Fill = "zero"
    of: Of = "c"
    kept: float | None = None
    by: By | None = None
    removed_share: float | None = None

    def __post_init__(self) -> None:
        if self.kept is not None:
            self._check_kept()
        else:
            if self.side not in ("tail", "head"):
                raise InputError(f"side must be 'tail' or 'head', as in Prune('tail', 0.05), not {self.side!r}")
            if self.by is not None:
                raise InputError(f"by {self.by!r} ranks components to keep, as in Prune.keep(64, by={self.by!r})")
            if self.removed_share is None:
                as_number("threshold", self.threshold, least=0)
            elif self.threshold is not None:
                raise InputError("a share that is removed has no threshold: leave one of the two out")
            else:
                _check_share("the share of components to remove", self.removed_share)
        if self.of not in ("c", "read"):
            raise InputError(f"of must be 'c' or 'read', not {self.of!r}")
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

    def _check_kept(self) -> None:
        if self.side is not None or self.threshold is not None or self.removed_share is not None:
            raise InputError(
                "a prune that keeps a number of components has neither side nor threshold, and removes no share: "
                "leave them out"
            )
        if isinstance(self.kept, float):
            _check_share("the share of components to keep", self.kept)
        else:
            as_whole("components to keep", self.kept, least=1)
        if self.by not in ("magnitude", "variance", "deviation"):
            raise InputError(
                f"components to keep are ranked by 'magnitude', 'variance' or 'deviation', not by {self.by!r}"
            )
        if self.of == "c" and self.by != "magnitude":
            raise InputError(f"{self.by} is that of what the blocks read, not of c: give of='read', or none to keep")

    @classmethod
    def keep(
        cls,
        components: int,
        by: By = "variance",
        fill: Fill = "mean",
        schedule: When = "every",
        count: int | None = None,
        of: Of | None = None,
    ) -> Prune:
        """The prune that keeps a number of components of each vector.

        components: how many are kept, from 1 to d
        by: what they are ranked by: the `variance` of SiLU(c) over the classes (the default), the same components of
            all vectors of a timestep; or, vector by vector, their `magnitude`, or the `deviation` of SiLU(c) from the
            mean's
        fill: what takes the place of a removed component, the `mean` over the classes (the default) or `zero`
        schedule, count: as in `Prune`
        of: with `magnitude`, as in `Prune`, `c` by default; variance and deviation are always those of what is read

        Raises InputError for any other value.
        """
        as_whole("components to keep", components, least=1)
        return cls(None, None, schedule, count, fill, _read_of(by, of), components, by)

    @classmethod
    def keep_fraction(
        cls,
        share: float,
        by: By = "variance",
        fill: Fill = "mean",
        schedule: When = "every",
        count: int | None = None,
        of: Of | None = None,
    ) -> Prune:
        """The prune that keeps a share of the components of each vector: share * d, rounded, and at least one.

        share: above 0 and below 1
        by, fill, schedule, count, of: as in `Prune.keep`

        Raises InputError for any other value.
        """
        return cls(
            None, None, schedule, count, fill, _read_of(by, of), as_number("the share of components to keep", share), by
        )

    @classmethod
    def remove_fraction(
        cls,
        share: float,
        side: Side = "tail",
        schedule: When = "every",
        count: int | None = None,
        fill: Fill = "zero",
        of: Of = "c",
    ) -> Prune:
        """The prune of tail or head that removes a share of all components.

        Its threshold is that quantile of the magnitudes over all vectors of a run, at the steps that it prunes and
        without the null condition's: one threshold, so that some vectors lose more than others. Called on vectors
        alone, it is the quantile over these.

        share: above 0 and below 1
        side, schedule, count, fill, of: as in `Prune`

        Raises InputError for any other value.
        """
        return cls(side, None, schedule, count, fill, of, removed_share=share)

    @classmethod
    def from_spec(cls, spec: PruneSpec) -> Prune:
        """The prune that a resolved `PruneSpec` describes."""
        assert spec.fill is not None, "a resolved prune has a fill"
        when, count = spec.schedule.when, spec.schedule.count
        of: Of = spec.of or "c"
        if spec.keeps:
            kept = spec.keep if spec.keep_fraction is None else spec.keep_fraction
            return cls(None, None, when, count, spec.fill, of, kept, spec.by)
        return cls(spec.side, spec.threshold, when, count, spec.fill, of, removed_share=spec.remove_fraction)

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
        return self.by in ("variance", "deviation") or self.fill == "mean"

    def over(self, magnitudes: Callable[[], Magnitudes]) -> Prune:
        """The same prune with the threshold that removes its share; itself if it does not remove one.

        magnitudes: called for those of all vectors that the share is of, `c` or what is read
        """
        if self.removed_share is None:
            return self
        found = magnitudes()
        count = round(self.removed_share * len(found))
        below = count if self.side == "tail" else len(found) - count  # so many are below the threshold
        below = min(max(below, 1), len(found) - 1)
        # Half way between two, so that rounding elsewhere does not change which components are removed.
        threshold = (found.at(below - 1) + found.at(below)) / 2
        return replace(self, threshold=threshold, removed_share=None)

    def seen(self, c: Tensor) -> Tensor:
        """The vectors whose magnitudes count: c, or SiLU(c), with the same shape."""
        return c if self.of == "c" else F.silu(c)

    def removed(self, c: Tensor, population: Population | None = None) -> Tensor:
        """Which components are removed. c, with shape (..., N, d) -> bool, with the same shape.

        population: the statistics at the same times as `c`, with shape (..., d); the rankings by variance and
            deviation need it

        Raises InputError if it is missing, or if more than d components are to be kept.
        """
        if self.kept is not None:
            scores = self._scores(c, population)
            removed = torch.ones_like(scores, dtype=torch.bool)
            removed.scatter_(-1, scores.topk(self.kept_of(c.shape[-1]), dim=-1).indices, False)
            return removed.expand_as(c)
        prune = self.over(lambda: Magnitudes(lambda: [self.seen(c).float()]))
        assert prune.threshold is not None
        sizes = self.seen(c).abs()
        return sizes < prune.threshold if self.side == "tail" else sizes > prune.threshold

    def kept_of(self, components: int) -> int:
        """How many of so many components are kept. Raises InputError if these are fewer."""
        assert self.kept is not None, "this prune keeps a number or a share"
        if isinstance(self.kept, float):
            return max(1, round(self.kept * components))
        if self.kept > components:
            raise InputError(f"cannot keep {self.kept} components of vectors that have {components}")
        return self.kept

    def __call__(self, c: Tensor, population: Population | None = None) -> Tensor:
        """The edited vectors. c, with shape (..., N, d) -> the same shape; population as in `removed`."""
        fill = self._required(population).mean.unsqueeze(-2) if self.fill == "mean" else torch.zeros_like(c)
        return torch.where(self.removed(c, population), fill, c)

    def _scores(self, c: Tensor, population: Population | None) -> Tensor:
        """What components are ranked by, with the shape of c; (..., 1, d) where it is the same for all vectors."""
        if self.by == "variance":
            return self._required(population).variation.unsqueeze(-2)
        if self.by == "deviation":
            return (F.silu(c) - F.silu(self._required(population).mean).unsqueeze(-2)).abs()
        return self.seen(c).abs()

    @staticmethod
    def _required(population: Population | None) -> Population:
        if population is None:
            raise InputError(
                "the mean fill and the rankings by variance and deviation need a population: give the vectors of all "
                "classes"
            )
        return population


def _read_of(by: By, of: Of | None) -> Of:
    """Whose scores rank components to keep: of c only where magnitudes do."""
    return of or ("c" if by == "magnitude" else "read")


def _check_share(name: str, share: float) -> None:
    if not 0 < as_number(name, share) < 1:
        raise InputError(f"{name} must be above 0 and below 1, not {share!r}")
