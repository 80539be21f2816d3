"""The rules of pruning beside the paper's, at equal shares removed: samples of each, and their modulation errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter
from scipy.stats import spearmanr

import tailprune
from demo import ROOT
from evidence.measuring import measured_how
from jobs.registry.models import Registry
from jobs.study_results import Score, StudyVariant
from tailprune.figures.style import PALETTE, new_figure, render, styled
from tailprune.spec.prune import PruneSpec

__all__ = [
    "RULES",
    "RULE_SAMPLES",
    "RULE_STEPS",
    "SHARES",
    "RuleCell",
    "cells_of",
    "compared",
    "correlation",
    "draw_errors",
    "least_at",
    "prunes",
]

SHARES = (0.40, 0.66, 0.80, 0.90)
"""The shares of all components that are removed."""
RULES: dict[str, dict[str, Any]] = {
    "abs(c), zero": {},
    "abs(c), mean": {"fill": "mean"},
    "abs(SiLU(c)), zero": {"of": "read"},
    "variance, mean": {"by": "variance"},
    "deviation, mean": {"by": "deviation"},
}
"""What a prune of each rule has besides its share."""
PAPER = "abs(c), zero"
"""The rule of the paper."""
RULE_SAMPLES, RULE_STEPS = 3, 12
"""Samples a class, and sampling steps."""


@dataclass(frozen=True)
class RuleCell:
    """A rule at a share: what was measured."""

    rule: str
    share: float
    error: float
    """The modulation error, which needs no samples."""
    drift: Score
    accuracy: Score


def prunes() -> list[dict[str, Any]]:
    """The prunes of all rules at all shares, as requests have them."""
    return [
        {"keep_fraction": round(1 - share, 4), **rule} if "by" in rule else {"remove_fraction": share, **rule}
        for rule in RULES.values()
        for share in SHARES
    ]


def cells_of(model: str, variants: Sequence[StudyVariant], steps: int) -> list[RuleCell]:
    """What a study of `prunes()` measured, with the modulation error of each.

    model: the name of a shipped model
    variants: of the study, the baseline first
    steps: its sampling steps
    """
    entry = Registry.read(ROOT / "models" / "models.toml").get(model)
    system = tailprune.load(ROOT / "models" / model)
    edits = [tailprune.Prune.from_spec(PruneSpec(**each).resolved()) for each in prunes()]
    errors = tailprune.modulation_error(system, edits, system.all_inputs(), sampler=entry.defaults.sampler, steps=steps)
    places = [(rule, share) for rule in RULES for share in SHARES]
    return [
        RuleCell(rule, share, error, variant.scores["drift"], variant.scores["accuracy"])
        for (rule, share), error, variant in zip(places, errors, variants[1:], strict=True)
    ]


def correlation(cells: Sequence[RuleCell]) -> float:
    """Spearman's rank correlation of modulation error and drift."""
    found: float = spearmanr([cell.error for cell in cells], [cell.drift.value for cell in cells]).statistic
    return found


def least_at(cells: Sequence[RuleCell], share: float) -> Score:
    """The least drift of all rules at a share."""
    return min((cell.drift for cell in cells if cell.share == share), key=lambda drift: drift.value or 0.0)


def compared(cells: dict[str, list[RuleCell]]) -> str:
    """Drift and accuracy of every rule at every share, as Markdown: what is least at each share, and a table.

    cells: of each model, by its name
    """
    lines = [
        f"{measured_how(RULE_SAMPLES, RULE_STEPS)} Bold: the least drift of its model and share.",
        "",
        *(_leader(cells, share) for share in SHARES),
        "",
        "![Drift against modulation error](evidence/rules.png)",
        "",
        f"| model | rule, fill | {' | '.join(f'{share:.0%} removed'.replace('%', ' %') for share in SHARES)} |",
        "|---" * (2 + len(SHARES)) + "|",
    ]
    for model, found in cells.items():
        for rule in RULES:
            of = [_drift_and_accuracy(cell, least_at(found, cell.share)) for cell in found if cell.rule == rule]
            lines.append(f"| {model if rule == PAPER else ''} | {rule} | {' | '.join(of)} |")
    return "\n".join(lines)


def _leader(cells: dict[str, list[RuleCell]], share: float) -> str:
    """Which rule has the least drift at a share in how many models, and by how much it is ahead of the paper's."""
    least: dict[str, list[float]] = {}
    for found in cells.values():
        of = {cell.rule: cell.drift.value or 0.0 for cell in found if cell.share == share}
        best = min(of, key=lambda rule: of[rule])
        least.setdefault(best, []).append(of[PAPER] / of[best])
    said = [
        f"`{rule}` in {len(ratios)} of {len(cells)} models"
        + ("" if rule == PAPER else f" (the paper's rule drifts {_span(ratios)} times as far)")
        for rule, ratios in sorted(least.items(), key=lambda pair: -len(pair[1]))
    ]
    return f"- {100 * share:.0f} % removed: the least drift is that of {', of '.join(said)}."


def _span(ratios: Sequence[float]) -> str:
    low, high = f"{min(ratios):.1f}", f"{max(ratios):.1f}"
    return low if low == high else f"{low} to {high}"


def _drift_and_accuracy(cell: RuleCell, least: Score) -> str:
    drift, right = cell.drift, cell.accuracy
    shown = "–" if drift.value is None else f"{drift.value:.3f}"
    shown = f"**{shown}**" if drift is least else shown
    if drift.low is not None and drift.high is not None:
        shown += f" ± {(drift.high - drift.low) / 2:.3f}"
    if right.value is None or right.low is None or right.high is None:
        return shown
    return f"{shown}, {100 * right.value:.0f} % ({100 * right.low:.0f}–{100 * right.high:.0f})"


def draw_errors(cells: dict[str, list[RuleCell]], path: Path) -> None:
    """Draw drift against modulation error, a panel a model, into a PNG file.

    cells: of each model, by its name
    path: the file
    """
    with styled():
        figure = new_figure(
            "Drift of samples (up) against modulation error (across)",
            "five rules, each at 40, 66, 80 and 90 % removed; in the titles: the rank correlation",
            5.6,
        )
        panels = figure.subplots(2, -(-len(cells) // 2), sharex=True, sharey=True, squeeze=False).flat
        for axes, (model, found) in zip(panels, cells.items(), strict=False):
            for rule, colour in zip(RULES, PALETTE, strict=False):
                of = [cell for cell in found if cell.rule == rule]
                axes.plot(
                    [cell.error for cell in of], [cell.drift.value or np.nan for cell in of], "o-", color=colour, ms=3.5
                )
            axes.set_xscale("log")
            axes.set_yscale("log")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.set_title(f"{model}: {correlation(found):.2f}")
        for axes in panels:
            axes.set_visible(False)
        handles = [Line2D([], [], color=colour, marker="o", ms=3.5) for _, colour in zip(RULES, PALETTE, strict=False)]
        figure.legend(handles, list(RULES), loc="outside lower center", ncols=5)
        path.write_bytes(render(figure).png)
