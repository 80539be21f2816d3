"""How large the components are: a histogram of |v| over all components of all vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailprune.figures.head import head_of
from tailprune.figures.style import ACCENT, PALETTE, mark, new_figure, note, styled
from tailprune.figures.subject import Subject
from tailprune.statistics import magnitude_histogram, participation_ratio

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_histogram"]


def draw_histogram(subject: Subject) -> Figure:
    """Magnitudes on a logarithmic scale, with their median and where the head begins."""
    histogram = magnitude_histogram(subject.values)
    total = sum(histogram.counts)
    filled = [place for place, count in enumerate(histogram.counts) if count]
    first, last = filled[0], filled[-1] + 1
    edges = histogram.edges[first : last + 1]
    shares = [100 * count / total for count in histogram.counts[first:last]]
    median = subject.values.abs().double().median().item()
    head = head_of(subject.values)
    part = subject.part
    with styled():
        figure = new_figure(f"Magnitudes of {part}", f"{subject.said}, {subject.counted}")
        axes = figure.add_subplot()
        axes.stairs(shares, edges, fill=True, color=PALETTE[0], alpha=0.85)
        axes.set_xscale("log")
        axes.set(xlabel=f"|{part}|", ylabel="share of all components (%)")
        axes.set_ylim(0, 1.25 * max(shares))
        if median > 0:
            mark(axes, median, f"median {median:.2g}")
        if head.threshold > 0:
            mark(axes, head.threshold, f"head from {head.threshold:.2g}", height=0.89, colour=ACCENT)
        npr = participation_ratio(subject.values).mean().item() / subject.values.shape[1]
        smaller = " The first bin also counts what is smaller, zeros included." if first == 0 else ""
        note(figure, f"{head.rule(part)}\nnPR {npr:.1%}.{smaller}")
    return figure
