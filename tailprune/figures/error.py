"""The modulation error of several rules of pruning against the share of components that they remove."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailprune.figures.style import PALETTE, QUIET, new_figure, note, plain, styled
from tailprune.pruning import Prune

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["RULES", "SHARES", "DriftPoint", "draw_error"]

SHARES = tuple(round(0.05 * step, 2) for step in range(1, 20))
RULES: Mapping[str, Callable[[float], Prune]] = {
    "|c|, zero": Prune.remove_fraction,
    "|SiLU(c)|, zero": lambda share: Prune.remove_fraction(share, of="read"),
    "deviation, mean": lambda share: Prune.keep_fraction(1 - share, by="deviation"),
    "variance, mean": lambda share: Prune.keep_fraction(1 - share, by="variance"),
}
"""What the components that are removed are the least in, and what takes their place; at every step."""
LOOKS = (("o", "-"), ("s", (0, (3, 3))), ("D", "-"), ("^", "-"))
"""The marker of each rule and its line: the first two are often one above the other."""
NOTE_LETTERS = 120


@dataclass(frozen=True)
class DriftPoint:
    """The drift of samples under a prune of one of the rules."""

    rule: str
    removed: float
    """The share of components that is removed, from 0 to 1."""
    drift: float


def draw_error(
    errors: Mapping[str, Sequence[float]], title: str, subtitle: str, text: str, drifts: Sequence[DriftPoint] = ()
) -> Figure:
    """A line for each rule, and the drifts of samples as hollow markers of the same colours.

    errors: of each of RULES, at each of SHARES
    title: the first line of the figure
    subtitle: the second line
    text: the note below, wrapped to the width
    drifts: measured ones; none by default
    """
    from matplotlib.ticker import FuncFormatter, LogLocator

    with styled():
        figure = new_figure(title, subtitle)
        axes = figure.add_subplot()
        for (rule, values), colour, (marker, line) in zip(errors.items(), PALETTE, LOOKS, strict=False):
            at = [100 * share for share in SHARES]
            axes.plot(at, values, color=colour, linestyle=line, marker=marker, markersize=3.5, label=plain(rule))
            of_rule = [point for point in drifts if point.rule == rule]
            axes.plot(
                [100 * point.removed for point in of_rule],
                [point.drift for point in of_rule],
                color=colour, marker=marker, markersize=7, markerfacecolor="white", linestyle="none",
            )  # fmt: skip
        if drifts:
            axes.plot(
                [], [], color=QUIET, marker="o", markerfacecolor="white", linestyle="none", label="measured drift"
            )
        if any(value > 0 for values in errors.values() for value in values):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
            axes.yaxis.set_minor_formatter("")
        axes.set(
            xlabel="components removed (%)",
            ylabel="modulation error, drift" if drifts else "modulation error",
            xlim=(0, 100),
        )
        axes.legend(loc="lower right", title="ranked by, filled with")
        note(figure, textwrap.fill(plain(text), NOTE_LETTERS))
    return figure
