"""The cosine of every pair of vectors, as a matrix."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tailprune.figures.labelled_vectors import LabelledVectors, shared_words, spread
from tailprune.figures.style import MAP, new_figure, note, plain, styled
from tailprune.spec import InputError
from tailprune.statistics import cosine_matrix, summarise_cosine

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_cosine"]

MOST_TICKS = 6
MOST_LETTERS = 5
"""The longest name that is not rotated below a column."""
MOST_NAME_LETTERS = 24
MOST_BLOCKS = 20
"""Up to so many blocks of rows that share a word are named by it."""
MOST_NAMED = 12
"""Up to so many rows, all are named and the numbers are written into the matrix."""


def draw_cosine(
    vectors: LabelledVectors, rows: Sequence[int] | None = None, limits: tuple[float, float] | None = None
) -> Figure:
    """The matrix of all vectors, or of some of them.

    vectors: at least two
    rows: which of them, at least two; all by default
    limits: the cosines at both ends of the colours, the same for figures to compare; by default the least one, and 1

    Raises InputError for fewer than two vectors.
    """
    shown = list(range(len(vectors.values))) if rows is None else list(rows)
    if len(shown) < 2:
        raise InputError(f"pairwise cosine needs at least two vectors, not {len(shown)}")
    values = vectors.values[shown]
    matrix = cosine_matrix(values).clamp(-1, 1).cpu().numpy()
    summary = summarise_cosine(values)
    few = len(shown) <= MOST_NAMED
    with styled():
        drawn = "" if rows is None else f"{len(shown)} of "
        figure = new_figure("Cosine of every pair of vectors", f"{vectors.source}, {drawn}{vectors.size}", 6.4)
        axes = figure.add_subplot()
        low, high = limits or (min(summary.min, 1 - 1e-6), 1.0)  # a range above 0 if all vectors are parallel
        image = axes.imshow(matrix, cmap=MAP, vmin=low, vmax=high, interpolation="nearest")
        axes.grid(False)
        figure.colorbar(
            image,
            ax=axes,
            label="cosine (1 is parallel)",
            shrink=0.9,
            format=f"%.{_digits(high - low)}f",
            extend=_beyond(summary.min < low, high < 1),
        )
        label = "t" if vectors.kind == "time" else vectors.kind
        axes.set(xlabel=label, ylabel=label)
        _name_rows(axes, [vectors.names[row] for row in shown], few, vectors.kind == "time")
        if few:
            _write_numbers(axes, matrix.tolist(), (low, high), _digits(1 - min(summary.min, 1 - 1e-6)))
        note(
            figure,
            f"Over different pairs: mean {summary.mean:.4f}, least {summary.min:.4f}, greatest {summary.max:.4f}."
            + ("" if limits is None else f" Colours from {low:g} to {high:g}, as asked for."),
        )
    return figure


def _beyond(below: bool, above: bool) -> str:
    """At which ends of the colours there are cosines beyond, as matplotlib calls it."""
    return {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[below, above]


def _name_rows(axes: Axes, names: Sequence[str], few: bool, timed: bool) -> None:
    """Name all rows and columns if there are few; else the blocks that share a word, or some evenly spaced ones.

    few: whether to name all
    timed: whether they are times, of which the last is named too
    """
    blocks = [] if few or timed else _blocks(names)
    if blocks:
        places = [(first + last) / 2 for _, first, last in blocks]
        shown = [word for word, _, _ in blocks]
        ends = [last + 0.5 for _, _, last in blocks[:-1]]
        axes.set_xticks(ends, minor=True)
        axes.set_yticks(ends, minor=True)
    else:
        step = 1 if few else math.ceil(len(names) / (MOST_TICKS - 1))
        rows = spread(len(names), MOST_TICKS) if timed and not few else list(range(0, len(names), step))
        places, shown = [float(row) for row in rows], [names[row] for row in rows]
    short = [plain(textwrap.shorten(name, MOST_NAME_LETTERS, placeholder="…")) for name in shown]
    slanted = max(map(len, short)) > MOST_LETTERS
    axes.set_xticks(places, short, rotation=45 * slanted, ha="right" if slanted else "center", rotation_mode="anchor")
    axes.set_yticks(places, short)
    axes.tick_params(which="major", length=0 if few or blocks else 3)
    axes.tick_params(which="minor", length=5)


def _blocks(names: Sequence[str]) -> list[tuple[str, int, int]]:
    """The blocks of rows that share a word of their names: word, first and last row. Empty unless they are in order."""
    for words in shared_words(names):
        starts = [place for place, word in enumerate(words) if place == 0 or word != words[place - 1]]
        if len(starts) == len(set(words)) <= MOST_BLOCKS:
            return [
                (words[start], start, end - 1) for start, end in zip(starts, [*starts[1:], len(words)], strict=True)
            ]
    return []


def _digits(width: float) -> int:
    """The number of decimals that distinguishes cosines in a range of this width."""
    return min(6, max(2, math.ceil(-math.log10(width)) + 1))


def _write_numbers(axes: Axes, matrix: list[list[float]], limits: tuple[float, float], digits: int) -> None:
    low, high = limits
    for y, row in enumerate(matrix):
        for x, value in enumerate(row):
            bright = value > low + 0.6 * (high - low)
            axes.text(
                x, y, f"{value:.{digits}f}", ha="center", va="center", fontsize=7, color="black" if bright else "white"
            )
