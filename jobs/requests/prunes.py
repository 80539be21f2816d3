"""Prunes as requests say them: by threshold or by a number of components to keep, and on which sampling steps."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from jobs.registry.models import ModelEntry
from jobs.requests.fields import UNIQUE, Count, Side, Threshold, Thresholds, all_different, or_else
from jobs.storage.uploads import ConditionInfo

__all__ = [
    "EVERY",
    "NO_RULE",
    "Fill",
    "Grid",
    "PruneSpec",
    "Schedule",
    "check_rule",
    "keep_fault",
    "plain",
    "schedule_faults",
    "single_fault",
    "unprunable_fault",
]

NO_RULE = "say how to prune: exactly one of threshold and keep"

Fill = Literal["zero", "mean"]


class Schedule(BaseModel):
    """The sampling steps at which `c` is pruned."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    when: Literal["every", "first", "last"] = Field(
        default="every", description="At every step, at the first steps only, or at the last steps only."
    )
    count: int | None = Field(
        default=None,
        ge=1,
        description="How many first or last steps; 1 unless said for `first`, none for `every`.",
    )

    @model_validator(mode="before")
    @classmethod
    def _first_step_unless_said(cls, said: Any) -> Any:
        if isinstance(said, dict) and said.get("when") == "first" and said.get("count") is None:
            return {**said, "count": 1}
        return said

    @model_validator(mode="after")
    def _count_fits(self) -> Self:
        if self.when == "every" and self.count is not None:
            raise ValueError(f"count {self.count} says nothing with 'every'; leave it out, or use 'first' or 'last'")
        if self.when == "last" and self.count is None:
            raise ValueError("'last' needs count, the number of last steps to prune at")
        return self


EVERY = Schedule(when="every")


def check_rule(threshold: object, keep: object, side: Side | None, by: str | None) -> None:
    """Raises ValueError where threshold and keep are not one of the two, or side or by goes with the other."""
    if (threshold is None) == (keep is None):
        raise ValueError(NO_RULE)
    if keep is not None and side is not None:
        raise ValueError(f"side {side!r} goes with threshold, not with keep; leave it out")
    if threshold is not None and by is not None:
        raise ValueError(f"by {by!r} goes with keep, not with threshold; leave it out")


class PruneSpec(BaseModel):
    """One prune: by `threshold` and `side`, or by `keep` and `by`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    threshold: Threshold | None = Field(default=None, description="The magnitude at which components of c are cut.")
    side: Side | None = Field(
        default=None, description="With `threshold`: cut what is below it (tail, unless said) or above it (head)."
    )
    keep: Count | None = Field(default=None, description="How many components are kept, in place of a threshold.")
    by: Literal["variance"] | None = Field(
        default=None, description="With `keep`: components are ranked by their variance over the classes."
    )
    fill: Fill | None = Field(
        default=None, description="Zero, unless said, with `threshold`; the mean over the classes with `keep`."
    )
    schedule: Schedule = EVERY

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        check_rule(self.threshold, self.keep, self.side, self.by)
        return self

    def resolved(self) -> PruneSpec:
        """The same, with nothing left to default."""
        if self.keep is not None:
            return self.model_copy(update={"by": "variance", "fill": or_else(self.fill, "mean")})
        return self.model_copy(update={"side": or_else(self.side, "tail"), "fill": or_else(self.fill, "zero")})

    @property
    def name(self) -> str:
        """What tells a resolved prune from all others: `tail 0.05, last 10, mean`."""
        rule = f"keep {self.keep}" if self.threshold is None else f"{self.side} {plain(self.threshold)}"
        when = self.schedule
        parts = [rule] if when.when == "every" else [rule, f"{when.when} {when.count}"]
        usual = "mean" if self.threshold is None else "zero"
        return ", ".join(parts if self.fill == usual else [*parts, str(self.fill)])


def plain(number: float) -> str:
    """A number without an empty fraction; two different numbers never look alike."""
    return repr(number).removesuffix(".0")


Sides = Annotated[
    list[Side], Field(min_length=1, max_length=2, json_schema_extra=UNIQUE), AfterValidator(all_different)
]
Fills = Annotated[
    list[Fill], Field(min_length=1, max_length=2, json_schema_extra=UNIQUE), AfterValidator(all_different)
]


class Grid(BaseModel):
    """All prunes of these sides, thresholds, schedules and fills."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    thresholds: Thresholds = Field(description="Magnitudes at which components of c are cut.")
    sides: Sides = Field(default=["tail"], description="Cut below the thresholds (tail) or above them (head).")
    schedules: list[Schedule] = Field(default=[EVERY], min_length=1, max_length=16)
    fills: Fills = Field(default=["zero"], description="What takes the place of a removed component.")

    @property
    def count(self) -> int:
        """How many prunes that is."""
        return len(self.sides) * len(self.fills) * len(self.schedules) * len(self.thresholds)

    @property
    def prunes(self) -> list[PruneSpec]:
        """Each of them, resolved: thresholds of one side, schedule and fill one after the other."""
        return [
            PruneSpec(threshold=threshold, side=side, fill=fill, schedule=schedule)
            for side in self.sides
            for fill in self.fills
            for schedule in self.schedules
            for threshold in self.thresholds
        ]


def keep_fault(count: int, entry: ModelEntry) -> str | None:
    """What is wrong with keeping so many components of a model, or None."""
    if count <= entry.condition_dim:
        return None
    return f"keep {count} is more than the {entry.condition_dim} components of {entry.name}"


def unprunable_fault(entry: ModelEntry) -> str | None:
    """What is wrong with pruning a model at all, or None."""
    made = entry.compacted
    if made is None or made.prunable:
        return None
    return (
        f"{entry.name} holds a mean in the place of what was removed, which a prune knows nothing of; prune "
        f"{made.model}, which it was made of"
    )


def schedule_faults(schedule: Schedule, sampler: str | None, steps: int | None) -> list[tuple[str, str]]:
    """What is wrong with a schedule under a sampler and its steps, as field and message."""
    faults = []
    if sampler == "dopri5" and schedule.when != "every":
        faults.append(
            (
                "when",
                f"dopri5 chooses its own steps and cannot prune at the {schedule.when!r} of them; "
                "use 'every', or another sampler",
            )
        )
    if schedule.count is not None and schedule.count > (steps or 0):
        faults.append(("count", f"count {schedule.count} is more than the {steps} steps"))
    return faults


def single_fault(asked: str, conditions: ConditionInfo | None) -> str | None:
    """What is wrong with asking for the mean or the variance over conditions where there is one; None where nothing."""
    if conditions is None or conditions.count >= 2:
        return None
    return (
        f"{asked} goes by all conditions of the file, and there is one; upload a file of several, and choose among "
        "them with rows"
    )
