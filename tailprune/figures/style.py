"""The style of all figures, and their files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from tailprune.extras import require

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
"""Six colours that are distinct with any colour vision (Okabe and Ito), and six more."""
ACCENT = PALETTE[1]
MAP = "viridis"
WIDTH_INCHES = 7.6
PNG_DPI = 150
MOST_ACROSS = 0.8
"""If a line is beyond this share of the axes, the names are left of their lines."""
NAME_HEIGHT, NAME_STEP = 0.97, 0.08
"""The height of the first name in the axes, from 0 to 1, and how much lower each of the others is."""

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.linewidth": 0.7,
    "axes.titley": 1.0,  # matplotlib would look for ticks above the axes
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
    "svg.hashsalt": "tailprune",  # ids in an SVG are random otherwise
    "svg.fonttype": "path",  # the same letters on a machine without the font
}


@dataclass(frozen=True)
class Rendered:
    """The files of a figure."""

    png: bytes
    svg: bytes


@contextmanager
def styled() -> Iterator[None]:
    """Use the style of all figures in place of the user's, which is restored at the end."""
    require("figures", "matplotlib")
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(cast(Any, STYLE))
        yield


def new_figure(title: str, subtitle: str, height: float = 4.6, width: float = WIDTH_INCHES) -> Figure:
    """An empty figure.

    title: the first line
    subtitle: the second line
    height: in inches, 4.6 by default
    width: in inches, 7.6 by default
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(f"{title}\n{subtitle}", x=0.012, ha="left", fontsize=10.5, linespacing=1.45)
    return figure


def note(figure: Figure, text: str) -> None:
    """Add a note below the figure."""
    figure.supxlabel(text, x=0.012, ha="left", fontsize=8.0, color=QUIET, linespacing=1.4)


def plain(text: str) -> str:
    """A text with dollar signs escaped, so that matplotlib does not read it as a formula."""
    return text.replace("$", r"\$")


def caption_of(figure: Figure) -> str:
    """Title, subtitle and note as one text, for readers who cannot see the figure."""
    title, _, subtitle = figure.get_suptitle().partition("\n")
    text = " ".join(figure.get_supxlabel().split())
    return f"{title}: {subtitle}. {text}".strip()


def mark(axes: Axes, marks: Sequence[tuple[float, str, str]]) -> None:
    """Draw vertical lines, each with a name beside its end, so that no name crosses another line.

    axes: axes on which everything that sets their limits is drawn
    marks: the position of each line in data coordinates, its name and its colour
    """
    axes.get_xlim()  # settles the limits
    placed = sorted(marks)
    across = [axes.transAxes.inverted().transform(axes.transData.transform((x, 0.0)))[0] for x, _, _ in placed]
    at_left = bool(across) and max(across) > MOST_ACROSS
    for place, (x, text, colour) in enumerate(placed):
        height = NAME_HEIGHT - NAME_STEP * (len(placed) - 1 - place if at_left else place)
        axes.axvline(x, ymax=height, color=colour, linewidth=0.9, linestyle=(0, (4, 2)))
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
    """The figure as PNG and SVG, without dates or versions in them."""
    with styled():
        png = _saved(figure, format="png", dpi=PNG_DPI, metadata={"Software": None})
        figure.set_layout_engine("none")  # the layout is known by now, and slower to compute than to draw
        svg = _saved(figure, format="svg", dpi=PNG_DPI, metadata={"Date": None, "Creator": "tailprune"})
        return Rendered(png, svg)


def _saved(figure: Figure, **options: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, **options)
    return file.getvalue()
