"""The fields of requests that prune: the rule, by threshold or by number, its fill, its steps and its blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from jobs.problems import Fault
from jobs.requests.checks import block_faults, body_fault, keep_fault, single_fault
from jobs.requests.fields import (
    Blocks,
    OneOrMoreCounts,
    OneOrMoreShares,
    OneOrMoreThresholds,
    ThresholdByStep,
    in_short,
)
from tailprune.spec.prune import (
    BLOCKS,
    EVERY,
    RULES,
    THRESHOLD_BY_STEP,
    By,
    Fill,
    Of,
    PruneSpec,
    Schedule,
    Side,
    blocks_in_words,
    check_rule,
    plain,
)

if TYPE_CHECKING:
    from jobs.registry.models import ModelEntry
    from jobs.storage.condition_info import ConditionInfo

__all__ = ["PruneFields"]


class PruneFields(BaseModel):
    """One prune, or several that differ in their threshold, share or number alone."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    threshold: OneOrMoreThresholds | None = Field(
        default=None,
        description="The magnitude at which components of c are removed; several make one variant each. Give one of "
        "this, `threshold_by_step`, `remove_fraction`, `keep` and `keep_fraction`.",
    )
    threshold_by_step: ThresholdByStep | None = Field(default=None, description=THRESHOLD_BY_STEP)
    remove_fraction: OneOrMoreShares | None = Field(
        default=None,
        description="In place of a threshold, the share of the components to remove; several make one variant each. "
        "The threshold is that quantile of the magnitudes over all labels or conditions and all pruned steps.",
    )
    keep: OneOrMoreCounts | None = Field(
        default=None, description="How many components to keep; several make one variant each."
    )
    keep_fraction: OneOrMoreShares | None = Field(
        default=None, description="The share of the components to keep; several make one variant each."
    )
    by: By | None = Field(
        default=None,
        description="With `keep` and `keep_fraction`, what components are ranked by: their `variance` over the "
        "classes (the default), which keeps the same components of all vectors; or, vector by vector, their "
        "`magnitude`, or their `deviation` from the mean over the classes.",
    )
    of: Of | None = Field(
        default=None,
        description="Whose magnitudes count: those of `c` (the default), or of what the blocks `read`, SiLU(c). "
        "Variance and deviation are always those of what is read.",
    )
    side: Side | None = Field(
        default=None,
        description="With thresholds and `remove_fraction`: remove the components below the threshold (`tail`, the "
        "default) or above it (`head`).",
    )
    fill: Fill | None = Field(
        default=None,
        description="What takes the place of a removed component: `zero` (the default with thresholds and "
        "`remove_fraction`) or the `mean` over the classes (the default with `keep` and `keep_fraction`).",
    )
    schedule: Schedule = Field(
        default=EVERY, description="The sampling steps at which to prune; every step by default."
    )
    blocks: Blocks | None = Field(default=None, description=BLOCKS)

    @property
    def rule(self) -> str:
        """The name of the field that says what is removed, one of `RULES`.

        Raises InputError unless it is exactly one, or for a field that does not go with it.
        """
        rules = {name: getattr(self, name) for name in RULES}
        return check_rule(rules, self.side, self.by, self.of, self.schedule)

    @property
    def has_rule(self) -> bool:
        """Whether any of these fields is given."""
        return any(getattr(self, name) is not None for name in RULES)

    @property
    def pruned(self) -> str:
        """How a resolved request prunes, to end a title with: ` at head 0.5, 0.6, first 2 steps`."""
        values: Sequence[float] = _as_list(getattr(self, self.rule))
        if self.rule == "threshold_by_step":
            values = [value for value in values if value is not None]
        texts = {
            "threshold": "at {side}{thresholds}",
            "threshold_by_step": "at {side}{least} to {most} by step",
            "remove_fraction": "with {shares} of the {end} removed",
            "keep": "with {numbers} components kept",
            "keep_fraction": "with {shares} of the components kept",
        }
        side = "head " if self.side == "head" else ""
        what = texts[self.rule].format(
            side=side,
            end=self.side or "tail",
            least=plain(min(values)),
            most=plain(max(values)),
            **{many: in_short(values, many) for many in ("thresholds", "shares", "numbers")},
        )
        if self.by not in (None, "variance"):
            what += f" by {self.by}"
        if self.of == "read" and self.by in (None, "magnitude"):
            what += " of SiLU(c)"
        parts = [what] if self.schedule == EVERY else [what, self.schedule.name]
        if self.blocks is not None:
            parts.append(blocks_in_words(self.blocks))
        return f" {', '.join(parts)}"

    @property
    def pruned_at(self) -> list[float] | None:
        """The thresholds of a resolved request; None if it has none, or one for each step."""
        return None if self.threshold is None else list(_as_list(self.threshold))

    @property
    def prunes(self) -> list[PruneSpec]:
        """The resolved prune of each variant but the baseline; none if no rule is given."""
        rest: dict[str, Any] = {name: getattr(self, name) for name in ("side", "by", "of", "fill", "schedule")}
        rest["blocks"] = None if self.blocks is None else tuple(self.blocks)
        if self.threshold_by_step is not None:
            return [PruneSpec(threshold_by_step=tuple(self.threshold_by_step), **rest).resolved()]
        return [
            PruneSpec(**{name: value}, **rest).resolved() for name in RULES for value in _as_list(getattr(self, name))
        ]

    def with_prune_defaults(self) -> dict[str, Any]:
        """The prune fields with every default filled in, by name; one value of a rule becomes a list."""
        if not self.has_rule:
            return {}
        first = self.prunes[0]
        rule = self.rule
        return {rule: _as_list(getattr(self, rule))} | {
            name: getattr(first, name) for name in ("side", "by", "of", "fill")
        }

    def prune_faults(self, entry: ModelEntry, conditions: ConditionInfo | None) -> list[Fault]:
        """What the model and its conditions do not allow in the prunes of a resolved request."""
        faults = [
            body_fault(f"keep.{place}", fault)
            for place, spec in enumerate(self.prunes)
            if spec.keep is not None and (fault := keep_fault(spec.keep, entry))
        ]
        faults += [body_fault(f"blocks.{place}", fault) for place, fault in block_faults(self.blocks, entry)]
        if any(spec.needs_population for spec in self.prunes):
            field = self.rule if self.by in ("variance", "deviation") else "fill"
            if fault := single_fault(field, conditions):
                faults.append(body_fault(field, fault))
        return faults


def _as_list(value: Any) -> list[Any]:
    """A field that holds one value, several or none, as a list."""
    return list(value) if isinstance(value, list) else [] if value is None else [value]
