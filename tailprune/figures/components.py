"""The distribution of components: a histogram, the share below a threshold, the sorted variance.

`draw_histogram` shows the magnitudes of all components of all vectors, `draw_sparsity` how many of them tail pruning
removes, `draw_variance` how few of them distinguish the classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailprune.figures.head import head_of
from tailprune.figures.labelled_vectors import LabelledVectors
from tailprune.figures.style import ACCENT, PALETTE, QUIET, mark, new_figure, note, styled
from tailprune.statistics import components_for_variance, magnitude_histogram, sparsity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Shares", "draw_histogram", "draw_sparsity", "draw_variance", "shares_below"]

SHARES = (0.40, 0.66, 0.80)
"""The shares of components that the thresholds marked by default remove, approximately."""
CURVE_POINTS = 400
LEAST_THRESHOLD = 1e-5
LEAST_SHARE = 1e-12
"""The smallest variance drawn, as a share of the largest, since a logarithmic scale has no zero."""


def draw_histogram(vectors: LabelledVectors) -> Figure:
    """A histogram of magnitudes on a logarithmic scale, with the median and the threshold of the head."""
    histogram = magnitude_histogram(vectors.values)
    total = sum(histogram.counts)
    filled = [place for place, count in enumerate(histogram.counts) if count]
    first, last = filled[0], filled[-1] + 1
    edges = histogram.edges[first : last + 1]
    shares = [100 * count / total for count in histogram.counts[first:last]]
    median = vectors.values.abs().double().median().item()
    head = head_of(vectors.values)
    part = vectors.part
    with styled():
        figure = new_figure(f"Magnitudes of {part}", f"{vectors.source}, {vectors.size}")
        axes = figure.add_subplot()
        axes.stairs(shares, edges, fill=True, color=PALETTE[0], alpha=0.85)
        axes.set_xscale("log")
        axes.set(xlabel=f"|{part}|", ylabel="share of all components (%)")
        axes.set_ylim(0, 1.25 * max(shares))
        lines = ((median, f"median {median:.2g}", QUIET), (head.threshold, f"head from {head.threshold:.2g}", ACCENT))
        mark(axes, [line for line in lines if line[0] > 0])
        smaller = "\nThe first bin also counts what is smaller, zeros included." if first == 0 else ""
        note(figure, f"{head.rule(part)}{smaller}")
    return figure


class Shares(NamedTuple):
    """The share of components below a threshold."""

    thresholds: NDArray[np.float64]
    """The thresholds of the curve, ascending, from about the least magnitude to beyond the greatest."""
    below: NDArray[np.float64]
    """The share of components below each, in [0, 1]."""
    marked: dict[float, float]
    """The same for the thresholds that a figure marks."""


def shares_below(vectors: LabelledVectors, thresholds: Sequence[float] = ()) -> Shares:
    """The shares that `draw_sparsity` draws. thresholds: to mark; by default those for about 40, 66 and 80 %."""
    magnitudes = np.sort(vectors.values.abs().double().cpu().numpy(), axis=None)
    positive = magnitudes[magnitudes > 0]
    low = max(LEAST_THRESHOLD, float(np.quantile(positive, 0.001))) if len(positive) else LEAST_THRESHOLD
    high = max(float(magnitudes[-1]) * 1.3, 2 * low)
    taus = np.geomspace(low, high, CURVE_POINTS)
    below = np.searchsorted(magnitudes, taus, side="left") / len(magnitudes)
    chosen = [float(f"{np.quantile(magnitudes, share):.2g}") for share in SHARES]
    marked = {tau: sparsity(vectors.values, tau) for tau in thresholds or chosen if tau > 0}
    return Shares(taus, below, marked)


def draw_sparsity(vectors: LabelledVectors, thresholds: Sequence[float] = ()) -> Figure:
    """The share of components below a threshold, with these thresholds marked, or those for 40, 66 and 80 %."""
    taus, below, marked = shares_below(vectors, thresholds)
    part = vectors.part
    with styled():
        figure = new_figure(f"Components of {part} below a threshold", f"{vectors.source}, {vectors.size}")
        axes = figure.add_subplot()
        axes.plot(taus, 100 * below, color=PALETTE[0], linewidth=1.8)
        axes.set_xscale("log")
        axes.set(xlabel=f"threshold τ, in units of |{part}|", ylabel=f"components with |{part}| < τ (%)")
        axes.set_ylim(0, 100)
        for tau, share in marked.items():
            axes.plot([tau], [100 * share], "o", color=ACCENT, markersize=5, zorder=3)
            left = share > 0.5
            axes.annotate(
                f"τ = {tau:g}: {100 * share:.1f} %",
                (tau, 100 * share),
                xytext=(-8 if left else 8, 0),
                textcoords="offset points",
                ha="right" if left else "left",
                va="center",
                fontsize=8.5,
                color=ACCENT,
            )
        which = (
            "the thresholds asked for" if thresholds else "thresholds that 40, 66 and 80 % of the components are below"
        )
        note(figure, f"Marked: {which}.{_of_one_time(vectors)}")
    return figure


def _of_one_time(vectors: LabelledVectors) -> str:
    """That the shares of a figure are not those of a whole sampling run."""
    if vectors.time is None:
        return ""
    return (
        f"\nThe shares are of {vectors.part} at t = {vectors.time:g} alone. {vectors.part} changes with the time: over "
        "the steps of a sampling run,\nthe same threshold removes another share, which prune-sample and studies report."
    )


def draw_variance(vectors: LabelledVectors) -> Figure:
    """The variance of every component, largest first, with the components of the head marked."""
    variance = vectors.values.double().var(0, unbiased=False)
    order = variance.sort(descending=True, stable=True)
    needed = components_for_variance(variance)
    head = head_of(vectors.values)
    found = order.values.cpu().numpy()
    greatest = float(found[0])
    found = np.maximum(found, greatest * LEAST_SHARE)
    ranks = np.arange(1, len(found) + 1)
    of_head = np.isin(order.indices.cpu().numpy(), head.components)
    total = variance.sum().item()
    held = variance[head.components].sum().item() / total if total > 0 else 0.0
    with styled():
        figure = new_figure(
            f"Variance of the components of {vectors.part}, sorted", f"{vectors.source}, {vectors.size}"
        )
        axes = figure.add_subplot()
        axes.plot(ranks, found, color=PALETTE[0])
        axes.plot(
            ranks[of_head], found[of_head], "o", color=ACCENT, markersize=4.5, label="components of the head", zorder=3
        )
        if greatest > 0:
            axes.set_yscale("log")
        axes.set(
            xlabel="component, by its variance", ylabel=f"variance of {vectors.part} over the {vectors.kind} vectors"
        )
        axes.margins(x=0.02)
        mark(axes, [(n, f"{n} hold {100 * share:.0f} %", QUIET) for share, n in needed.items() if n])
        axes.legend(loc="lower left")
        note(figure, f"{head.rule(vectors.part)}\nThe head holds {100 * held:.1f} % of all variance.")
    return figure
