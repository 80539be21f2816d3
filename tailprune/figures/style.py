"""How every figure looks, and how it becomes a file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "ACCENT",
    "INK",
    "MAP",
    "PALETTE",
    "QUIET",
    "Rendered",
    "caption_of",
    "mark",
    "new_figure",
    "note",
    "plain",
    "render",
    "styled",
]

INK, QUIET, FAINT = "#1f2328", "#59636e", "#d8dee4"
PALETTE = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
    "#5b4bb5", "#8a5a2b", "#3f7f93", "#a23b58", "#7a8a1f", "#000000",
)  # fmt: skip
"""Told apart with any colour vision (Okabe and Ito), and six more."""
ACCENT = PALETTE[1]
MAP = "viridis"
WIDTH_INCHES = 7.6
PNG_DPI = 150
MOST_ACROSS = 0.8
"""Beyond this share of the axes, a name stands left of what it names."""

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so it is there
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.linewidth": 0.7,
    "axes.titley": 1.0,  # else it is sought above ticks, of which there are none
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.3,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "tailprune",  # ids in an SVG are otherwise drawn at random
    "svg.fonttype": "path",  # the same letters on a machine without the font
}


@dataclass(frozen=True)
class Rendered:
    """A figure as files."""

    png: bytes
    svg: bytes


@contextmanager
def styled() -> Iterator[None]:
    """The style of every figure, whatever the user's own; as before at the end."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(cast(Any, STYLE))
        yield


def new_figure(title: str, subtitle: str, height: float = 4.6, width: float = WIDTH_INCHES) -> Figure:
    """An empty figure.

    title: its first line
    subtitle: its second line
    height: in inches
    width: in inches
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(f"{title}\n{subtitle}", x=0.012, ha="left", fontsize=10.5, linespacing=1.45)
    return figure


def note(figure: Figure, text: str) -> None:
    """What a reader needs to know besides, below the figure."""
    figure.supxlabel(text, x=0.012, ha="left", fontsize=8.0, color=QUIET, linespacing=1.4)


def plain(text: str) -> str:
    """A text from elsewhere, none of it taken for a formula."""
    return text.replace("$", r"\$")


def caption_of(figure: Figure) -> str:
    """Title, subtitle and note in words, for who does not see the figure."""
    title, _, subtitle = figure.get_suptitle().partition("\n")
    text = " ".join(figure.get_supxlabel().split())
    return f"{title}: {subtitle}. {text}".strip()


def mark(axes: Axes, x: float, text: str, height: float = 0.97, colour: str = QUIET) -> None:
    """A vertical line with a name beside it, on the side that the limits of the axes leave room on.

    axes: with everything drawn that sets their limits
    x: where the line is, in data coordinates
    text: the name
    height: where the name is, from 0 at the bottom of the axes to 1 at the top
    colour: of line and name
    """
    axes.get_xlim()  # settles the limits
    across = axes.transAxes.inverted().transform(axes.transData.transform((x, 0.0)))[0]
    at_left = across > MOST_ACROSS
    axes.axvline(x, color=colour, linewidth=0.9, linestyle=(0, (4, 2)))
    axes.annotate(
        text,
        (x, height),
        xycoords=("data", "axes fraction"),
        xytext=(-4 if at_left else 4, 0),
        textcoords="offset points",
        ha="right" if at_left else "left",
        va="top",
        fontsize=8.0,
        color=colour,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.0},
    )


def render(figure: Figure) -> Rendered:
    """The figure as PNG and as SVG, without anything of the moment in them."""
    with styled():
        png = _saved(figure, format="png", dpi=PNG_DPI, metadata={"Software": None})
        figure.set_layout_engine("none")  # everything has its place, which takes longer to find than to draw
        svg = _saved(figure, format="svg", dpi=PNG_DPI, metadata={"Date": None, "Creator": "tailprune"})
        return Rendered(png, svg)


def _saved(figure: Figure, **options: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, **options)
    return file.getvalue()
