"""The grammar of prunes: which components of a condition vector are removed, their fill, and on which steps.

Requests resolve to a `PruneSpec`, workers apply it, results and exports show it. These are plain dataclasses, so that
the science needs no pydantic; `jobs` validates them with pydantic, by their annotations and the `metadata` of fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from tailprune.spec import InputError

__all__ = [
    "EVERY",
    "RULES",
    "By",
    "Fill",
    "Of",
    "PruneSpec",
    "Schedule",
    "Side",
    "When",
    "check_rule",
    "plain",
]

Side = Literal["tail", "head"]
Of = Literal["c", "read"]
By = Literal["magnitude", "variance", "deviation"]
Fill = Literal["zero", "mean"]
When = Literal["every", "first", "last"]

RULES = ("threshold", "remove_fraction", "keep", "keep_fraction")


def check_rule(rules: Mapping[str, object], side: Side | None, by: str | None, of: Of | None) -> str:
    """The rule of a prune: the name of the only one of `rules` that is given.

    rules: what is given of threshold, remove_fraction, keep and keep_fraction, by name; None for what is not
    side, by, of: what is given beside it

    Raises InputError unless it is exactly one, or if something is given that does not go with it: side goes with the
    first two, by with the last two, and of `c` not with the rankings by variance and deviation.
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
    return rule


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
    """One prune: by `threshold` or `remove_fraction`, or by `keep` or `keep_fraction`."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "allow_inf_nan": False}

    threshold: float | None = field(
        default=None,
        metadata={"strict": True, "ge": 0, "description": "The magnitude at which components of c are cut."},
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
        metadata={"description": "With these two: cut what is below (tail, the default) or above it (head)."},
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
            "description": "What takes the place of a removed component: zero (the default with `threshold` and "
            "`remove_fraction`) or the mean over the classes (the default with `keep` and `keep_fraction`)."
        },
    )
    schedule: Schedule = EVERY

    def __post_init__(self) -> None:
        check_rule({name: getattr(self, name) for name in RULES}, self.side, self.by, self.of)

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
        elif self.threshold is None:
            rule = f"remove {plain(self.remove_fraction or 0.0)}" + (" of the head" if self.side == "head" else "")
            ranked = ""
        else:
            rule, ranked = f"{self.side} {plain(self.threshold)}", ""
        if self.of == "read" and self.by in (None, "magnitude"):
            ranked += " of SiLU(c)"
        parts = [rule + ranked] if self.schedule == EVERY else [rule + ranked, self.schedule.name]
        usual = "mean" if self.keeps else "zero"
        return ", ".join(parts if self.fill == usual else [*parts, str(self.fill)])

    @property
    def needs_population(self) -> bool:
        """Whether a resolved prune depends on the vectors of all classes: on their mean, or on their variance."""
        return self.by in ("variance", "deviation") or self.fill == "mean"
