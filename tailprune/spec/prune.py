"""The grammar of prunes: which components of a condition vector are removed, their fill, and on which steps.

Requests resolve to a `PruneSpec`, workers apply it, results and exports show it. These are plain dataclasses, so that
the science needs no pydantic; `jobs` validates them with pydantic, by their annotations and the `metadata` of fields.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from tailprune.spec import InputError

__all__ = ["EVERY", "NO_RULE", "Fill", "PruneSpec", "Schedule", "Side", "When", "check_rule", "plain"]

Side = Literal["tail", "head"]
Fill = Literal["zero", "mean"]
When = Literal["every", "first", "last"]

NO_RULE = "give exactly one of threshold and keep"


def check_rule(threshold: object, keep: object, side: Side | None, by: str | None) -> None:
    """Raise InputError unless exactly one of threshold and keep is given, side with the first or by with the second."""
    if (threshold is None) == (keep is None):
        raise InputError(NO_RULE)
    if keep is not None and side is not None:
        raise InputError(f"side {side!r} goes with threshold, not with keep; leave it out")
    if threshold is not None and by is not None:
        raise InputError(f"by {by!r} goes with keep, not with threshold; leave it out")


def plain(number: float) -> str:
    """A number as text, without `.0`; two different numbers have different texts."""
    return repr(number).removesuffix(".0")


@dataclass(frozen=True)
class Schedule:
    """The sampling steps at which `c` is pruned."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    when: When = field(
        default="every",
        metadata={"description": "At every step, at the first steps only, or at the last steps only."},
    )
    count: int | None = field(
        default=None,
        metadata={
            "strict": True,
            "ge": 1,
            "description": "How many first or last steps: 1 by default for `first`; `last` needs it, `every` has none.",
        },
    )

    def __post_init__(self) -> None:
        if self.when == "first" and self.count is None:
            object.__setattr__(self, "count", 1)
        if self.when == "every" and self.count is not None:
            raise InputError(f"count {self.count} has no meaning with 'every'; leave it out, or use 'first' or 'last'")
        if self.when == "last" and self.count is None:
            raise InputError("'last' needs count, the number of last steps to prune at")

    @property
    def name(self) -> str:
        """The steps in words: `every step`, `first step`, `last 10 steps`."""
        return f"{self.when} step" if self.count in (None, 1) else f"{self.when} {self.count} steps"


EVERY = Schedule()


@dataclass(frozen=True)
class PruneSpec:
    """One prune: by `threshold` and `side`, or by `keep` and `by`."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "allow_inf_nan": False}

    threshold: float | None = field(
        default=None,
        metadata={"strict": True, "ge": 0, "description": "The magnitude at which components of c are cut."},
    )
    side: Side | None = field(
        default=None,
        metadata={"description": "With `threshold`: cut what is below it (tail, the default) or above it (head)."},
    )
    keep: int | None = field(
        default=None,
        metadata={"strict": True, "ge": 1, "description": "How many components are kept, in place of a threshold."},
    )
    by: Literal["variance"] | None = field(
        default=None,
        metadata={"description": "With `keep`: components are ranked by their variance over the classes."},
    )
    fill: Fill | None = field(
        default=None,
        metadata={
            "description": "What takes the place of a removed component: zero (the default with `threshold`) or the "
            "mean over the classes (the default with `keep`)."
        },
    )
    schedule: Schedule = EVERY

    def __post_init__(self) -> None:
        check_rule(self.threshold, self.keep, self.side, self.by)

    def resolved(self) -> PruneSpec:
        """The same prune with every default filled in."""
        if self.keep is not None:
            return replace(self, by="variance", fill=self.fill or "mean")
        return replace(self, side=self.side or "tail", fill=self.fill or "zero")

    @property
    def name(self) -> str:
        """The name of a resolved prune, unique to it: `tail 0.05, last 10 steps, mean`."""
        rule = f"keep {self.keep}" if self.threshold is None else f"{self.side} {plain(self.threshold)}"
        parts = [rule] if self.schedule == EVERY else [rule, self.schedule.name]
        usual = "mean" if self.threshold is None else "zero"
        return ", ".join(parts if self.fill == usual else [*parts, str(self.fill)])

    @property
    def needs_population(self) -> bool:
        """Whether a resolved prune depends on the vectors of all classes: on their mean, or on their variance."""
        return self.keep is not None or self.fill == "mean"
