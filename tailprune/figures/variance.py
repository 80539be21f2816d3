"""How much each component varies over the vectors, sorted: how few of them tell the classes apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tailprune.figures.head import head_of
from tailprune.figures.style import ACCENT, PALETTE, mark, new_figure, note, styled
from tailprune.figures.subject import Subject
from tailprune.statistics import components_for_variance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_variance"]

LEAST_SHARE = 1e-12
"""Of the greatest variance; what is less is drawn there, since a logarithmic scale has no zero."""


def draw_variance(subject: Subject) -> Figure:
    """The variance of every component, greatest first, with the head's components marked among them."""
    variance = subject.values.double().var(0, unbiased=False)
    order = variance.sort(descending=True, stable=True)
    needed = components_for_variance(variance)
    head = head_of(subject.values)
    found = order.values.cpu().numpy()
    greatest = float(found[0])
    found = np.maximum(found, greatest * LEAST_SHARE)
    ranks = np.arange(1, len(found) + 1)
    of_head = np.isin(order.indices.cpu().numpy(), head.components)
    total = variance.sum().item()
    held = variance[head.components].sum().item() / total if total > 0 else 0.0
    with styled():
        figure = new_figure(
            f"Variance of the components of {subject.part}, sorted", f"{subject.said}, {subject.counted}"
        )
        axes = figure.add_subplot()
        axes.plot(ranks, found, color=PALETTE[0])
        axes.plot(
            ranks[of_head], found[of_head], "o", color=ACCENT, markersize=4.5, label="components of the head", zorder=3
        )
        if greatest > 0:
            axes.set_yscale("log")
        axes.set(
            xlabel="component, by its variance", ylabel=f"variance of {subject.part} over the {subject.of} vectors"
        )
        for height, (share, count) in zip((0.97, 0.89, 0.81), needed.items(), strict=True):
            if count:
                mark(axes, count, f"{count} hold {share:.0%}", height=height)
        axes.margins(x=0.02)
        axes.legend(loc="lower left")
        note(figure, f"{head.rule(subject.part)}\nThe head holds {held:.1%} of all variance.")
    return figure
