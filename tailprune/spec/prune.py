"""The grammar of prunes: which components of a condition vector are removed, their fill, and on which steps.

Requests resolve to a `PruneSpec`, workers apply it, results and exports show it. These are plain dataclasses, so that
the science needs no pydantic; `jobs` validates them with pydantic, by their annotations and the `metadata` of fields.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

from tailprune.spec import InputError

__all__ = [
    "BLOCKS",
    "EVERY",
    "FINAL",
    "MOST_BLOCKS",
    "MOST_STEPS",
    "RULES",
    "STEPS",
    "THRESHOLD_BY_STEP",
    "Block",
    "By",
    "Fill",
    "Of",
    "PruneSpec",
    "Schedule",
    "Side",
    "Step",
    "StepThreshold",
    "When",
    "as_blocks",
    "as_steps",
    "as_thresholds",
    "blocks_in_words",
    "check_rule",
    "plain",
]

Side = Literal["tail", "head"]
Of = Literal["c", "read"]
By = Literal["magnitude", "variance", "deviation"]
Fill = Literal["zero", "mean"]
When = Literal["every", "first", "last", "at"]

FINAL: Literal["final"] = "final"
"""The name of the final layer among the blocks that see an edit."""
MOST_STEPS = 4096
"""The most steps that a schedule names, or that have a threshold each."""
MOST_BLOCKS = 1024
"""The most blocks that a prune names."""
MOST_RUNS = 8
"""The most runs of numbers that a name lists; with more it has a digest of them."""

RULES = ("threshold", "threshold_by_step", "remove_fraction", "keep", "keep_fraction")

STEPS = "With `at`: the steps at which to prune, each by its number, counted from 0, the step at pure noise."
BLOCKS = (
    "The blocks that see the pruned c; the others see c as it is. Each by its number, counted from 0 in the order in "
    "which they run, or `final`, the final layer. All by default."
)
THRESHOLD_BY_STEP = (
    "In place of a threshold, one for each step of the run, the step at pure noise first; null for a step that is not "
    "pruned. It goes with every step as `schedule`."
)


class _NotNegative:
    """For pydantic: a number in a list, of at least 0; no text, and neither true nor false."""

    @staticmethod
    def __get_pydantic_core_schema__(source: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return {**handler(source), "strict": True, "ge": 0}


class _NumberOrFinal:
    """For pydantic: one message of what is neither."""

    @staticmethod
    def __get_pydantic_core_schema__(source: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return {
            "type": "custom-error",
            "schema": handler(source),
            "custom_error_type": "block",
            "custom_error_message": "Input should be the number of a block, counted from 0, or 'final'",
        }


Step = Annotated[int, _NotNegative]
StepThreshold = Annotated[float, _NotNegative] | None
Block = Annotated[Annotated[int, _NotNegative] | Literal["final"], _NumberOrFinal]

UNIQUE = {"uniqueItems": True}


def check_rule(
    rules: Mapping[str, object], side: Side | None, by: str | None, of: Of | None, schedule: Schedule | None = None
) -> str:
    """The rule of a prune: the name of the only one of `rules` that is given.

    rules: what is given of threshold, threshold_by_step, remove_fraction, keep and keep_fraction, by name; None for
        what is not
    side, by, of, schedule: what is given beside it

    Raises InputError unless it is exactly one, or if something is given that does not go with it: side goes with the
    first three, by with the last two, of `c` not with the rankings by variance and deviation, and a schedule not with
    thresholds by step.
    """
    given = [name for name, value in rules.items() if value is not None]
    if len(given) != 1:
        *most, last = rules
        raise InputError(f"give exactly one of {', '.join(most)} and {last}")
    (rule,) = given
    if rule.startswith("keep") and side is not None:
        raise InputError(f"side {side!r} goes with threshold, not with {rule}; leave it out")
    if not rule.startswith("keep") and by is not None:
        raise InputError(f"by {by!r} goes with keep, not with {rule}; leave it out")
    if rule.startswith("keep") and of == "c" and by != "magnitude":
        raise InputError(f"{by or 'variance'} is that of what the blocks read, not of c: leave of out")
    if rule == "threshold_by_step" and schedule is not None and schedule.when != "every":
        raise InputError(
            f"schedule {schedule.when!r} does not go with threshold_by_step, which has null for steps that are not "
            "pruned; leave schedule out"
        )
    return rule


def as_steps(steps: Iterable[int]) -> tuple[int, ...]:
    """Numbers of steps in their order. Raises InputError for none, or one that is given twice."""
    found = tuple(sorted(steps))
    if not found:
        raise InputError("steps are empty: give the numbers of the steps to prune at, counted from 0")
    _check_once("step", found)
    return found


def layers_of(blocks: Iterable[Block] | None, count: int) -> list[bool]:
    """Which layers are among these blocks, the final layer last.

    blocks: numbers, counted from 0, and `final`, the final layer; None for all
    count: how many blocks there are

    Raises InputError for a block that there is not.
    """
    if blocks is None:
        return [True] * (count + 1)
    named = set(blocks)
    for block in named:
        if block != FINAL and block >= count:
            raise InputError(
                f"block {block} is outside 0 to {count - 1}, the blocks of this system: give one of these, or "
                f"{FINAL!r} for the final layer"
            )
    return [block in named for block in [*range(count), FINAL]]


def as_blocks(blocks: Iterable[int | Literal["final"]]) -> tuple[int | Literal["final"], ...]:
    """Blocks in their order, the final layer last. Raises InputError for none, or one that is given twice."""
    found = tuple(sorted(blocks, key=lambda block: (block == FINAL, block)))
    if not found:
        raise InputError("blocks are empty: give the blocks that see the prune, or leave blocks out for all")
    _check_once("block", found)
    return found


def as_thresholds(thresholds: Iterable[float | None]) -> tuple[float | None, ...]:
    """Thresholds by step. Raises InputError if no step has one."""
    found = tuple(None if threshold is None else float(threshold) for threshold in thresholds)
    if all(threshold is None for threshold in found):
        raise InputError("no step has a threshold: give a number for each step, and null for those that are not pruned")
    return found


def _check_once(what: str, ordered: Sequence[object]) -> None:
    for one, other in pairwise(ordered):
        if one == other:
            raise InputError(f"{what} {one} is given more than once; give each {what} once")


def plain(number: float) -> str:
    """A number as text, without `.0`; two different numbers have different texts."""
    return repr(number).removesuffix(".0")


def _in_runs(numbers: Sequence[int]) -> str:
    """Ascending numbers as text: `0-3 7`; of many runs, how many numbers, their ends and a digest of all."""
    starts = [number for place, number in enumerate(numbers) if not place or numbers[place - 1] != number - 1]
    if len(starts) > MOST_RUNS:
        return f"{len(numbers)} of {numbers[0]}-{numbers[-1]} {_digest(numbers)}"
    ends = [number for place, number in enumerate(numbers, 1) if numbers[place : place + 1] != (number + 1,)]
    return " ".join(f"{start}-{end}" if end > start else f"{start}" for start, end in zip(starts, ends, strict=True))


def _digest(values: Sequence[float | None]) -> str:
    """A short text that other values do not have."""
    return hashlib.blake2s(repr(tuple(values)).encode(), digest_size=5).hexdigest()


@dataclass(frozen=True)
class Schedule:
    """The sampling steps at which `c` is pruned."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    when: When = field(
        default="every",
        metadata={"description": "At every step, at the first steps only, at the last steps only, or at any `steps`."},
    )
    count: int | None = field(
        default=None,
        metadata={
            "strict": True,
            "ge": 1,
            "description": "How many first or last steps: 1 by default for `first`; `last` needs it, `every` and `at` "
            "have none.",
        },
    )
    steps: tuple[Step, ...] | None = field(
        default=None,
        metadata={"max_length": MOST_STEPS, "json_schema_extra": UNIQUE, "description": STEPS},
    )

    def __post_init__(self) -> None:
        if self.when == "first" and self.count is None:
            object.__setattr__(self, "count", 1)
        if self.when in ("every", "at") and self.count is not None:
            raise InputError(
                f"count {self.count} has no meaning with {self.when!r}; leave it out, or use 'first' or 'last'"
            )
        if self.when == "last" and self.count is None:
            raise InputError("'last' needs count, the number of last steps to prune at")
        if self.when == "at" and self.steps is None:
            raise InputError("'at' needs steps, the numbers of the steps to prune at, counted from 0")
        if self.steps is not None:
            if self.when != "at":
                raise InputError(f"steps have no meaning with {self.when!r}; leave them out, or use 'at'")
            object.__setattr__(self, "steps", as_steps(self.steps))

    @property
    def name(self) -> str:
        """The steps in words: `every step`, `first step`, `last 10 steps`, `steps 0-3 7`."""
        if self.steps is not None:
            return f"step{'' if len(self.steps) == 1 else 's'} {_in_runs(self.steps)}"
        return f"{self.when} step" if self.count in (None, 1) else f"{self.when} {self.count} steps"

    def fault(self, steps: int) -> tuple[str, str] | None:
        """What does not fit a run of so many steps, as a field and a message; None if all does."""
        if self.count is not None and self.count > steps:
            return "count", f"count {self.count} is more than the {steps} steps"
        if self.steps is not None and self.steps[-1] >= steps:
            return "steps", f"step {self.steps[-1]} is outside 0 to {steps - 1}, the {steps} steps of the run"
        return None


EVERY = Schedule()


@dataclass(frozen=True)
class PruneSpec:
    """One prune: by `threshold`, `threshold_by_step` or `remove_fraction`, or by `keep` or `keep_fraction`."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "allow_inf_nan": False}

    threshold: float | None = field(
        default=None,
        metadata={"strict": True, "ge": 0, "description": "The magnitude at which components of c are cut."},
    )
    threshold_by_step: tuple[StepThreshold, ...] | None = field(
        default=None,
        metadata={"max_length": MOST_STEPS, "description": THRESHOLD_BY_STEP},
    )
    remove_fraction: float | None = field(
        default=None,
        metadata={
            "strict": True,
            "gt": 0,
            "lt": 1,
            "description": "In place of a threshold, the share of the components to remove: the threshold is that "
            "quantile over the vectors of the whole run.",
        },
    )
    side: Side | None = field(
        default=None,
        metadata={"description": "With these: cut what is below (tail, the default) or above it (head)."},
    )
    keep: int | None = field(
        default=None,
        metadata={"strict": True, "ge": 1, "description": "How many components are kept, in place of a threshold."},
    )
    keep_fraction: float | None = field(
        default=None,
        metadata={"strict": True, "gt": 0, "lt": 1, "description": "The same as a share of the components."},
    )
    by: By | None = field(
        default=None,
        metadata={
            "description": "With these two, what components are ranked by: their `variance` over the classes (the "
            "default), which keeps the same ones of all vectors; or, vector by vector, their `magnitude`, or their "
            "`deviation` from the mean over the classes."
        },
    )
    of: Of | None = field(
        default=None,
        metadata={
            "description": "Whose magnitudes count: those of `c` (the default), or of what the blocks `read`, SiLU(c). "
            "Variance and deviation are always those of what is read."
        },
    )
    fill: Fill | None = field(
        default=None,
        metadata={
            "description": "What takes the place of a removed component: zero (the default with thresholds and "
            "`remove_fraction`) or the mean over the classes (the default with `keep` and `keep_fraction`)."
        },
    )
    schedule: Schedule = EVERY
    blocks: tuple[Block, ...] | None = field(
        default=None,
        metadata={"max_length": MOST_BLOCKS, "json_schema_extra": UNIQUE, "description": BLOCKS},
    )

    def __post_init__(self) -> None:
        check_rule({name: getattr(self, name) for name in RULES}, self.side, self.by, self.of, self.schedule)
        if self.threshold_by_step is not None:
            object.__setattr__(self, "threshold_by_step", as_thresholds(self.threshold_by_step))
        if self.blocks is not None:
            object.__setattr__(self, "blocks", as_blocks(self.blocks))

    @property
    def keeps(self) -> bool:
        """Whether it keeps a number, or a share, of the components of each vector."""
        return self.keep is not None or self.keep_fraction is not None

    def resolved(self) -> PruneSpec:
        """The same prune with every default filled in."""
        if self.keeps:
            by = self.by or "variance"
            of: Of = (self.of or "c") if by == "magnitude" else "read"
            return replace(self, by=by, of=of, fill=self.fill or "mean")
        return replace(self, side=self.side or "tail", of=self.of or "c", fill=self.fill or "zero")

    @property
    def name(self) -> str:
        """The name of a resolved prune, unique to it: `tail 0.05, last 10 steps, mean`."""
        if self.keeps:
            rule = f"keep {self.keep}" if self.keep_fraction is None else f"keep {plain(self.keep_fraction)}"
            ranked = "" if self.by == "variance" else f" by {self.by}"
        elif self.remove_fraction is not None:
            rule = f"remove {plain(self.remove_fraction)}" + (" of the head" if self.side == "head" else "")
            ranked = ""
        else:
            rule, ranked = f"{self.side} {self._thresholds}", ""
        if self.of == "read" and self.by in (None, "magnitude"):
            ranked += " of SiLU(c)"
        parts = [rule + ranked] if self.schedule == EVERY else [rule + ranked, self.schedule.name]
        if self.blocks is not None:
            parts.append(blocks_in_words(self.blocks))
        usual = "mean" if self.keeps else "zero"
        return ", ".join(parts if self.fill == usual else [*parts, str(self.fill)])

    @property
    def way(self) -> str:
        """The name of a resolved prune without its threshold, share or number: `tail, last 10 steps`."""
        rule = f"kept by {self.by}" if self.keeps else str(self.side)
        if self.threshold_by_step is not None:
            rule += " by step"
        if self.of == "read" and self.by in (None, "magnitude"):
            rule += " of SiLU(c)"
        parts = [rule, self.schedule.name]
        if self.blocks is not None:
            parts.append(blocks_in_words(self.blocks))
        if self.fill != ("mean" if self.keeps else "zero"):
            parts.append("filled with the mean" if self.fill == "mean" else "filled with zeros")
        return ", ".join(parts)

    @property
    def _thresholds(self) -> str:
        """The threshold in words; of several, the ends and a digest of all: `0.02 to 0.1 by step 5a1e09c2d4`."""
        if self.threshold_by_step is None:
            return plain(self.threshold or 0.0)
        found = [threshold for threshold in self.threshold_by_step if threshold is not None]
        return f"{plain(min(found))} to {plain(max(found))} by step {_digest(self.threshold_by_step)}"

    @property
    def needs_population(self) -> bool:
        """Whether a resolved prune depends on the vectors of all classes: on their mean, or on their variance."""
        return self.by in ("variance", "deviation") or self.fill == "mean"


def blocks_in_words(blocks: Sequence[int | Literal["final"]]) -> str:
    """Blocks as text: `block 3`, `blocks 0-2 final`, `the final layer`."""
    numbers = tuple(block for block in blocks if block != FINAL)
    if not numbers:
        return "the final layer"
    last = " final" if FINAL in blocks else ""
    return f"block{'' if len(blocks) == 1 else 's'} {_in_runs(numbers)}{last}"
