"""The cosine of every pair of vectors, as a matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tailprune.figures.labelled_vectors import LabelledVectors, spread
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
MOST_NAMED = 12
"""Up to so many rows, all are named and the numbers are written into the matrix."""


def draw_cosine(vectors: LabelledVectors, rows: Sequence[int] | None = None) -> Figure:
    """The matrix of all vectors, or of these rows of them. Raises InputError for fewer than two."""
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
        low = min(summary.min, 1 - 1e-6)  # a range above 0 if all vectors are parallel
        image = axes.imshow(matrix, cmap=MAP, vmin=low, vmax=1, interpolation="nearest")
        axes.grid(False)
        figure.colorbar(image, ax=axes, label="cosine (1 is parallel)", shrink=0.9, format=f"%.{_digits(low)}f")
        label = "t" if vectors.kind == "time" else vectors.kind
        if few or vectors.kind == "time":
            places = list(range(len(shown))) if few else spread(len(shown), MOST_TICKS)
            names = [plain(vectors.names[shown[place]]) for place in places]
            slanted = max(map(len, names)) > MOST_LETTERS
            axes.set_xticks(
                places, names, rotation=45 * slanted, ha="right" if slanted else "center", rotation_mode="anchor"
            )
            axes.set_yticks(places, names)
            axes.tick_params(length=0 if few else 3)
        axes.set(xlabel=label, ylabel=label)
        if few:
            _write_numbers(axes, matrix.tolist(), low)
        note(
            figure,
            f"Over different pairs: mean {summary.mean:.4f}, least {summary.min:.4f}, greatest {summary.max:.4f}.",
        )
    return figure


def _digits(low: float) -> int:
    """The number of decimals that distinguishes cosines between `low` and 1."""
    return min(6, max(2, math.ceil(-math.log10(1 - low)) + 1))


def _write_numbers(axes: Axes, matrix: list[list[float]], low: float) -> None:
    digits = _digits(low)
    for y, row in enumerate(matrix):
        for x, value in enumerate(row):
            bright = value > low + 0.6 * (1 - low)
            axes.text(
                x, y, f"{value:.{digits}f}", ha="center", va="center", fontsize=7, color="black" if bright else "white"
            )
