"""The grammar of compactions: what AdaLN still reads of the condition, and what stands for the rest."""

from __future__ import annotations

from typing import Literal, get_args

from tailprune.spec import InputError
from tailprune.spec.prune import Of, Side, check_rule

__all__ = ["FILLS", "CompactBy", "CompactFill", "CompactRule", "check_by", "check_compaction"]

CompactBy = Literal["variance", "prediction", "directions"]
CompactRule = Literal["threshold", "variance", "prediction", "directions"]
"""A threshold, or what is kept by number."""
CompactFill = Literal["zero", "mean", "refit"]

FILLS: dict[CompactRule, tuple[CompactFill, ...]] = {
    "threshold": ("zero", "mean", "refit"),
    "variance": ("zero", "mean", "refit"),
    "prediction": ("refit",),
    "directions": ("mean",),
}
"""The fills that go with each rule."""


def check_by(by: object) -> None:
    """Raises InputError for a ranking that no smaller layer can be made of, or that there is not."""
    if by in ("magnitude", "deviation"):
        raise InputError(
            f"by {by!r} keeps other components of every vector, so AdaLN would still read all of them; use by "
            "'variance' or 'prediction', which keep the same of all, or threshold, which removes what no vector keeps"
        )
    if by is not None and by not in get_args(CompactBy):
        raise InputError(f"by must be 'variance', 'prediction' or 'directions', not {by!r}")


def check_compaction(
    threshold: float | None,
    keep: int | None,
    side: Side | None,
    by: CompactBy | None,
    of: Of | None,
    fill: CompactFill | None,
) -> CompactRule:
    """The rule of a compaction. Parameters as in `tailprune.compact`; None for what is not given.

    Raises InputError unless exactly one of threshold and keep is given, and for what does not go with the rule.
    """
    check_by(by)
    if fill is not None and fill not in get_args(CompactFill):
        raise InputError(f"fill must be 'zero', 'mean' or 'refit', not {fill!r}")
    check_rule({"threshold": threshold, "keep": keep}, side, by, of)
    rule: CompactRule = by or ("prediction" if fill == "refit" else "variance")
    if threshold is not None:
        rule = "threshold"
    if fill is None or fill in FILLS[rule]:
        return rule
    if rule == "directions":
        raise InputError(
            f"fill {fill!r} does not go with directions, which are measured from the mean; leave fill out, or use by "
            "'variance'"
        )
    raise InputError(
        f"fill {fill!r} does not go with by 'prediction', which keeps the components that predict the others best; "
        "leave fill out, or use by 'variance'"
    )
