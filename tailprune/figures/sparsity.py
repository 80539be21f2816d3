"""The fraction of components below a threshold, against the threshold: what tail pruning would remove."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tailprune.figures.style import ACCENT, PALETTE, new_figure, note, styled
from tailprune.figures.subject import Subject
from tailprune.statistics import sparsity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_sparsity"]

SHARES = (0.40, 0.66, 0.80)
"""What is removed at the thresholds that are marked unless others are given."""
POINTS = 400
LEAST = 1e-5


def draw_sparsity(subject: Subject, thresholds: Sequence[float] = ()) -> Figure:
    """The curve, with these thresholds marked, or those that would remove 40, 66 and 80 %."""
    magnitudes = np.sort(subject.values.abs().double().cpu().numpy(), axis=None)
    positive = magnitudes[magnitudes > 0]
    low = max(LEAST, float(np.quantile(positive, 0.001))) if len(positive) else LEAST
    high = max(float(magnitudes[-1]) * 1.3, 2 * low)
    taus = np.geomspace(low, high, POINTS)
    below = np.searchsorted(magnitudes, taus, side="left") / len(magnitudes)
    chosen = [float(f"{np.quantile(magnitudes, share):.2g}") for share in SHARES]
    marked = [tau for tau in thresholds or chosen if tau > 0]
    part = subject.part
    with styled():
        figure = new_figure(f"Components of {part} below a threshold", f"{subject.said}, {subject.counted}")
        axes = figure.add_subplot()
        axes.plot(taus, 100 * below, color=PALETTE[0], linewidth=1.8)
        axes.set_xscale("log")
        axes.set(xlabel=f"threshold τ, in units of |{part}|", ylabel=f"components with |{part}| < τ (%)")
        axes.set_ylim(0, 103)
        for tau in marked:
            share = sparsity(subject.values, tau)
            axes.plot([tau], [100 * share], "o", color=ACCENT, markersize=5, zorder=3)
            left = share > 0.5
            axes.annotate(
                f"τ = {tau:g}: {share:.1%}",
                (tau, 100 * share),
                xytext=(-8 if left else 8, 0),
                textcoords="offset points",
                ha="right" if left else "left",
                va="center",
                fontsize=8.5,
                color=ACCENT,
            )
        which = "the thresholds that were asked for" if thresholds else "thresholds that remove about 40, 66 and 80%"
        note(figure, f"Marked: {which}.")
    return figure
