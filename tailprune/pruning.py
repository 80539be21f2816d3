"""Pruning: which components of a condition vector are removed, what takes their place, and on which steps.

    tail:  c_k -> fill where |v_k| < tau            head:  c_k -> fill where |v_k| > tau
    keep:  c_k -> fill except for the k components of largest score, or for some that are named

`v` is `c`, or what the blocks read, `SiLU(c)`. Tail and head of `c` with zeros are the pruning of arXiv 2602.21596,
section 4, chosen vector by vector; the rest are our own rules. The scores of `keep`, for a mean m of `c` over the
classes at that timestep, are

    magnitude:  |v_k|                          vector by vector
    variance:   var over classes of SiLU(c_k)  the same for all vectors of a timestep
    deviation:  |SiLU(c_k) - SiLU(m_k)|        vector by vector; what a fill with the mean changes in what is read
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tailprune.arguments import as_number, as_numbers, as_whole
from tailprune.magnitudes import Magnitudes
from tailprune.spec import InputError
from tailprune.spec.prune import (
    FINAL,
    By,
    Fill,
    Of,
    PruneSpec,
    Side,
    When,
    as_blocks,
    as_steps,
    as_thresholds,
)

__all__ = ["Blocks", "Population", "Prune"]

Blocks = Sequence[int | Literal["final"]]
"""Blocks of a system by number, counted from 0 in the order in which they run, and `final`, its final layer."""


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
    threshold: a magnitude, 0 or more; or a list with one for each step of the run, None for a step that is not pruned.
        None where components are kept, or a share is removed
    schedule: the sampling steps that are pruned: `every` (the default), the `first` `count`, the `last` `count`, or
        those `at` `steps`
    count: a number of steps, 1 or more; 1 by default for `first`, required for `last`, None for the others
    fill: what takes the place of a removed component, `zero` (the default) or the `mean` over the classes
    of: whose magnitudes count, those of `c` (the default) or those of what the blocks `read`, SiLU(c)
    kept: how many components are kept, a number from 1, or a share between 0 and 1; `Prune.keep` and
        `Prune.keep_fraction` set it
    by: what the kept components are ranked by; None with a threshold
    removed_share: the share that is removed, between 0 and 1, as `Prune.remove_fraction` sets it
    steps: with `at`, the numbers of the pruned steps, counted from 0, the step at pure noise
    blocks: the blocks that see the edit, by number from 0 in the order in which they run, and `final`, the final layer;
        the others see c as it is. None, the default, for all
    only: the indices of the components that are kept of every vector, as `Prune.components` sets them

    Raises InputError for a threshold that is negative or not finite, a number or share out of its range, an unknown
    side, schedule, fill, ranking or `of`, or a count, steps or blocks that are missing, wrong or do not apply.
    """

    side: Side | None
    threshold: float | Sequence[float | None] | None = None
    schedule: When = "every"
    count: int | None = None
    fill: Fill = "zero"
    of: Of = "c"
    kept: float | None = None
    by: By | None = None
    removed_share: float | None = None
    steps: Sequence[int] | None = None
    blocks: Blocks | None = None
    only: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.only is not None:
            self._check_only()
        elif self.kept is not None:
            self._check_kept()
        else:
            if self.side not in ("tail", "head"):
                raise InputError(f"side must be 'tail' or 'head', as in Prune('tail', 0.05), not {self.side!r}")
            if self.by is not None:
                raise InputError(f"by {self.by!r} ranks components to keep, as in Prune.keep(64, by={self.by!r})")
            if self.removed_share is None:
                self._check_threshold()
            elif self.threshold is not None:
                raise InputError("a share that is removed has no threshold: leave one of the two out")
            else:
                _check_share("the share of components to remove", self.removed_share)
        if self.of not in ("c", "read"):
            raise InputError(f"of must be 'c' or 'read', not {self.of!r}")
        if self.fill not in ("zero", "mean"):
            raise InputError(f"fill must be 'zero' or 'mean', not {self.fill!r}")
        self._check_schedule()
        if self.blocks is not None:
            object.__setattr__(self, "blocks", as_blocks(map(_as_block, _listed("blocks", self.blocks))))

    def _check_threshold(self) -> None:
        if not _is_list(self.threshold):
            as_number("threshold", self.threshold, least=0)
            return
        if self.schedule != "every":
            raise InputError(
                f"the schedule {self.schedule!r} does not go with a threshold for each step: leave it out, and give "
                "None for steps that are not pruned"
            )
        given = _listed("threshold", self.threshold)
        as_numbers("threshold", [each for each in given if each is not None], least=0)
        object.__setattr__(self, "threshold", as_thresholds(given))

    def _check_schedule(self) -> None:
        if self.schedule not in ("every", "first", "last", "at"):
            raise InputError(f"schedule must be 'every', 'first', 'last' or 'at', not {self.schedule!r}")
        if self.schedule in ("every", "at") and self.count is not None:
            raise InputError(f"the schedule {self.schedule!r} has no count: leave count out, or use 'first' or 'last'")
        if self.schedule == "last" and self.count is None:
            raise InputError("the schedule 'last' needs count, the number of steps to prune")
        if self.count is not None:
            as_whole("count, the steps to prune,", self.count, least=1)
        if (self.schedule == "at") != (self.steps is not None):
            raise InputError("the schedule 'at' and steps go together, as in Prune('tail', 0.05, 'at', steps=[0, 3])")
        if self.steps is not None:
            steps = [as_whole("a step", each, least=0) for each in _listed("steps", self.steps)]
            object.__setattr__(self, "steps", as_steps(steps))

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

    def _check_only(self) -> None:
        rules = (self.side, self.threshold, self.kept, self.by, self.removed_share)
        if any(given is not None for given in rules):
            raise InputError("a prune that names its components has no other rule: leave side, threshold, kept, by out")
        if not self.only:
            raise InputError("components to keep are empty: name at least one")
        for index in self.only:
            as_whole("each component to keep", index, least=0)
        if len(set(self.only)) < len(self.only):
            raise InputError("components to keep are named more than once: name each once")

    @classmethod
    def components(
        cls, kept: Iterable[int], fill: Fill = "mean", schedule: When = "every", count: int | None = None
    ) -> Prune:
        """The prune that keeps some components, the same ones of every vector at every timestep.

        kept: their indices, from 0 to d - 1, in any order
        fill: what takes the place of a removed component, the `mean` over the classes (the default) or `zero`
        schedule, count: as in `Prune`

        Raises InputError for none, for an index twice, and for any other value.
        """
        if isinstance(kept, (str, bytes)) or not isinstance(kept, Iterable):
            raise InputError(f"components to keep must be indices in a list, such as [0, 5, 17], not {kept!r}")
        indices = [as_whole("each component to keep", index, least=0) for index in kept]
        return cls(None, None, schedule, count, fill, only=tuple(sorted(indices)))

    @classmethod
    def keep(
        cls,
        components: int,
        by: By = "variance",
        fill: Fill = "mean",
        schedule: When = "every",
        count: int | None = None,
        of: Of | None = None,
        steps: Sequence[int] | None = None,
        blocks: Blocks | None = None,
    ) -> Prune:
        """The prune that keeps a number of components of each vector.

        components: how many are kept, from 1 to d
        by: what they are ranked by: the `variance` of SiLU(c) over the classes (the default), the same components of
            all vectors of a timestep; or, vector by vector, their `magnitude`, or the `deviation` of SiLU(c) from the
            mean's
        fill: what takes the place of a removed component, the `mean` over the classes (the default) or `zero`
        schedule, count, steps, blocks: as in `Prune`
        of: with `magnitude`, as in `Prune`, `c` by default; variance and deviation are always those of what is read

        Raises InputError for any other value.
        """
        as_whole("components to keep", components, least=1)
        return cls(None, None, schedule, count, fill, _read_of(by, of), components, by, steps=steps, blocks=blocks)

    @classmethod
    def keep_fraction(
        cls,
        share: float,
        by: By = "variance",
        fill: Fill = "mean",
        schedule: When = "every",
        count: int | None = None,
        of: Of | None = None,
        steps: Sequence[int] | None = None,
        blocks: Blocks | None = None,
    ) -> Prune:
        """The prune that keeps a share of the components of each vector: share * d, rounded, and at least one.

        share: above 0 and below 1
        by, fill, schedule, count, of, steps, blocks: as in `Prune.keep`

        Raises InputError for any other value.
        """
        kept = as_number("the share of components to keep", share)
        return cls(None, None, schedule, count, fill, _read_of(by, of), kept, by, steps=steps, blocks=blocks)

    @classmethod
    def remove_fraction(
        cls,
        share: float,
        side: Side = "tail",
        schedule: When = "every",
        count: int | None = None,
        fill: Fill = "zero",
        of: Of = "c",
        steps: Sequence[int] | None = None,
        blocks: Blocks | None = None,
    ) -> Prune:
        """The prune of tail or head that removes a share of all components.

        Its threshold is that quantile of the magnitudes over all vectors of a run, at the steps that it prunes and
        without the null condition's: one threshold, so that some vectors lose more than others. Called on vectors
        alone, it is the quantile over these.

        share: above 0 and below 1
        side, schedule, count, fill, of, steps, blocks: as in `Prune`

        Raises InputError for any other value.
        """
        return cls(side, None, schedule, count, fill, of, removed_share=share, steps=steps, blocks=blocks)

    @classmethod
    def from_spec(cls, spec: PruneSpec) -> Prune:
        """The prune that a resolved `PruneSpec` describes."""
        assert spec.fill is not None, "a resolved prune has a fill"
        schedule = spec.schedule
        return cls(
            side=spec.side,
            threshold=spec.threshold if spec.threshold_by_step is None else spec.threshold_by_step,
            schedule=schedule.when,
            count=schedule.count,
            fill=spec.fill,
            of=spec.of or "c",
            kept=spec.keep if spec.keep_fraction is None else spec.keep_fraction,
            by=spec.by,
            removed_share=spec.remove_fraction,
            steps=schedule.steps,
            blocks=spec.blocks,
        )

    @property
    def every_step(self) -> bool:
        """Whether it is the same edit at every step."""
        return self.schedule == "every" and not isinstance(self.threshold, tuple)

    def check_steps(self, steps: int) -> None:
        """Raises InputError if the schedule, or a list of thresholds, does not fit a run of `steps` steps."""
        if self.count is not None and self.count > steps:
            raise InputError(
                f"a schedule counts {self.count}, more than the {steps} steps of this run: lower it, or give more steps"
            )
        if self.steps is not None and self.steps[-1] >= steps:
            raise InputError(
                f"a schedule has step {self.steps[-1]}, outside 0 to {steps - 1}, the {steps} steps of this run"
            )
        if isinstance(self.threshold, tuple) and len(self.threshold) != steps:
            raise InputError(
                f"there are {len(self.threshold)} thresholds by step for the {steps} steps of this run: give one for "
                "each, None where not to prune"
            )

    def active(self, step: int, steps: int) -> bool:
        """Whether sampling step `step` of `steps`, counted from 0, is edited."""
        return self.at(step, steps) is not None

    def at(self, step: int, steps: int) -> Prune | None:
        """The edit at sampling step `step` of `steps`, counted from 0: one for every step, or None for no edit there.

        Raises InputError if the schedule, or a list of thresholds, does not fit a run of so many steps.
        """
        if self.every_step:
            return self
        self.check_steps(steps)
        if isinstance(self.threshold, tuple):
            threshold = self.threshold[step]
            return None if threshold is None else replace(self, threshold=threshold)
        if (
            (self.schedule == "first" and step >= (self.count or 1))
            or (self.schedule == "last" and step < steps - (self.count or 1))
            or (self.steps is not None and step not in self.steps)
        ):
            return None
        return replace(self, schedule="every", count=None, steps=None)

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

        Raises InputError if it is missing, if more than d components are to be kept or one beyond them, or for a
        threshold for each step: `at` gives the edit at one.
        """
        if self.only is not None:
            if self.only[-1] >= c.shape[-1]:
                raise InputError(f"cannot keep component {self.only[-1]} of vectors that have {c.shape[-1]}, from 0")
            removed = torch.ones(c.shape[-1], dtype=torch.bool, device=c.device)
            removed[list(self.only)] = False
            return removed.expand_as(c)
        if self.kept is not None:
            scores = self._scores(c, population)
            removed = torch.ones_like(scores, dtype=torch.bool)
            removed.scatter_(-1, scores.topk(self.kept_of(c.shape[-1]), dim=-1).indices, False)
            return removed.expand_as(c)
        threshold = self.over(lambda: Magnitudes(lambda: [self.seen(c).float()])).threshold
        if isinstance(threshold, Sequence):
            raise InputError("a prune with a threshold for each step edits at a step: prune.at(step, steps)(c)")
        assert threshold is not None
        sizes = self.seen(c).abs()
        return sizes < threshold if self.side == "tail" else sizes > threshold

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


def _is_list(value: object) -> bool:
    """Whether a value is a list, an array or another collection of numbers, and not a number or text."""
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes)) and getattr(value, "ndim", 1) > 0


def _listed(name: str, values: Any) -> list[Any]:
    """The values of an argument that is a list. Raises InputError for anything else."""
    if not _is_list(values):
        raise InputError(f"{name} must be in a list, not {values!r}")
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _as_block(block: object) -> int | Literal["final"]:
    """A block by its number, or the final layer. Raises InputError for anything else."""
    if isinstance(block, str):
        if block == FINAL:
            return FINAL
        raise InputError(f"a block is a number, counted from 0, or {FINAL!r}, the final layer, not {block!r}")
    return as_whole("a block", block, least=0)


def _read_of(by: By, of: Of | None) -> Of:
    """Whose scores rank components to keep: of c only where magnitudes do."""
    return of or ("c" if by == "magnitude" else "read")


def _check_share(name: str, share: float) -> None:
    if not 0 < as_number(name, share) < 1:
        raise InputError(f"{name} must be above 0 and below 1, not {share!r}")
