"""Which attribute of the classes the variance of their vectors is of: in all, by component, and by direction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from tailprune.attribution import Attribution
from tailprune.figures.style import INK, PALETTE, QUIET, new_figure, note, plain, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MOST_DRAWN", "draw_attribution"]

MOST_DRAWN = 32
"""How many components and directions are drawn."""
REST = "#b6bec8"
"""The colour of what no attribute has by itself."""
LEAST_NAMED = 0.08
"""The share from which a part of a bar is wide enough for a number."""


def draw_attribution(attribution: Attribution, model: str, classes: int) -> Figure:
    """The shares of all variance, and the variance of the largest components and directions, by attribute.

    attribution: of the class vectors of a model
    model, classes: its name, and how many classes it has
    """
    parts = attribution.parts
    colours = [*(PALETTE[place % len(PALETTE)] for place in range(len(parts) - 1)), REST]
    weighted = attribution.components * attribution.norms.square()[:, None]
    with styled():
        figure = new_figure(
            "The variance of the classes by attribute",
            f"{plain(model)}, y of {classes} classes, {len(weighted)} components",
            height=6.6,
        )
        whole, by_component, along = figure.subplots(3, 1, height_ratios=(1.15, 2, 2))
        _draw_shares(whole, attribution, colours)
        _draw_bars(by_component, weighted / weighted.sum(), colours, "component", named=True)
        _draw_bars(along, attribution.directions / attribution.directions.sum(), colours, "principal direction")
        whole.legend(
            *_handles(parts, colours), loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(parts), borderaxespad=0.2
        )
        note(
            figure,
            "Weighted is the variance of the shifts, scales and gates that the classes make in all blocks. A component "
            "counts by itself,\nvar |W|²; principal directions are those along which the classes differ most in their "
            "modulations.",
        )
    return figure


def _draw_shares(axes: Axes, attribution: Attribution, colours: list[str]) -> None:
    for row, shares in enumerate((attribution.weighted, attribution.plain)):
        left = 0.0
        for share, colour in zip(shares.tolist(), colours, strict=True):
            axes.barh(row, 100 * share, left=100 * left, color=colour, height=0.62)
            if share >= LEAST_NAMED:
                ink = INK if colour == REST else "white"
                axes.text(100 * (left + share / 2), row, f"{share:.0%}", ha="center", va="center", color=ink)
            left += share
    axes.set_yticks([0, 1], ["weighted", "plain"])
    axes.set(xlim=(0, 100), xlabel="share of the variance (%)")
    axes.grid(False)


def _draw_bars(axes: Axes, shares: Tensor, colours: list[str], what: str, named: bool = False) -> None:
    """The largest components or directions, each a bar of its parts. shares: of the whole, with shape (K, F)."""
    order = shares.sum(1).argsort(descending=True, stable=True)[:MOST_DRAWN]
    below = [0.0] * len(order)
    for place, colour in enumerate(colours):
        heights = (100 * shares[order, place]).tolist()
        axes.bar(range(len(order)), heights, bottom=below, color=colour, width=0.82)
        below = [one + other for one, other in zip(below, heights, strict=True)]
    drawn = shares[order].sum().item()
    axes.set(xlim=(-0.7, MOST_DRAWN - 0.3), ylabel="share (%)")
    places = range(len(order))
    labels = [str(index) for index in (order.tolist() if named else places)]
    axes.set_xticks(list(places), labels, fontsize=6.5)
    axes.grid(axis="x", visible=False)
    axes.set_xlabel(what + (", by its number" if named else ", by its rank"))
    axes.text(
        0.995, 0.94, f"{len(order)} of {len(shares)}: {drawn:.1%}", transform=axes.transAxes, ha="right", va="top",
        color=QUIET,
    )  # fmt: skip


def _handles(parts: tuple[str, ...], colours: list[str]) -> tuple[list[object], list[str]]:
    from matplotlib.patches import Patch

    return [Patch(color=colour) for colour in colours], [plain(part) for part in parts]
