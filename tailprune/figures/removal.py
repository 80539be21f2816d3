"""Samples under pruning: one row of images per prune, the baseline on top, all from the same noise."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from tailprune.figures.style import new_figure, note, plain, styled
from tailprune.magnitudes import Magnitudes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ImageRow", "choose_thresholds", "draw_removal"]

SHARES = {"tail": (0.40, 0.66, 0.80), "head": (0.02, 0.05, 0.10)}
"""The shares of components that the chosen thresholds remove, approximately."""
LONG_SIDE_INCHES, SHORT_SIDE_INCHES = 1.05, 0.45
MOST_WIDTH_INCHES = 18.0
"""The largest width of all tiles together; sixteen square ones fit."""
GAP_SHARE = 0.06
NAMES_INCHES, TITLES_INCHES = 1.5, 1.35
LETTER_INCHES = 0.085


@dataclass(frozen=True)
class ImageRow:
    """The samples of one prune, or of the baseline."""

    name: str
    detail: str
    """The text below the name, such as the share removed."""
    images: NDArray[np.uint8]
    """With shape (N, H, W, 3)."""


def choose_thresholds(magnitudes: Magnitudes, side: Literal["tail", "head"]) -> list[float]:
    """Thresholds, to two digits, that remove about 40, 66 and 80 % (tail) or 2, 5 and 10 % (head).

    magnitudes: of the condition vectors
    side: which components are removed, those below a threshold (tail) or above it (head)
    """
    shares = [share if side == "tail" else 1 - share for share in SHARES[side]]
    found = [float(f"{magnitudes.quantile(share):.2g}") for share in shares]
    return list(dict.fromkeys(found))


def draw_removal(rows: Sequence[ImageRow], columns: Sequence[str], title: str, subtitle: str, text: str) -> Figure:
    """A table of images, of as many columns as fit the width of a page.

    rows: the baseline and the prunes, each with one image per column, all of the same size
    columns: the name above each column
    title: the first line of the figure
    subtitle: the second line
    text: the note below the figure
    """
    tile_height, tile_width = rows[0].images.shape[1:3]
    inches = _inches_a_pixel(tile_height, tile_width)
    gap = max(1, round(GAP_SHARE * min(tile_height, tile_width)))
    shown = min(len(columns), max(1, int(MOST_WIDTH_INCHES / (inches * (tile_width + gap)))))
    if shown < len(columns):
        text += f" Shown: the first {shown} of {len(columns)} samples."
    sheet = _sheet([row.images[:shown] for row in rows], gap)
    height, width = sheet.shape[0] * inches, sheet.shape[1] * inches
    with styled():
        figure = new_figure(title, subtitle, height + TITLES_INCHES, width=max(5.6, width + NAMES_INCHES))
        axes = figure.add_subplot()
        axes.imshow(sheet, interpolation="nearest")
        axes.grid(False)
        axes.spines[:].set_visible(False)
        across = [column * (tile_width + gap) + tile_width / 2 - 0.5 for column in range(shown)]
        down = [row * (tile_height + gap) + tile_height / 2 - 0.5 for row in range(len(rows))]
        letters = max(4, int(tile_width * inches / LETTER_INCHES))
        axes.set_xticks(across, [_wrapped(name, letters) for name in columns[:shown]], fontsize=8)
        axes.set_yticks(down, [f"{row.name}\n{row.detail}" if row.detail else row.name for row in rows])
        axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
        note(figure, text)
    return figure


def _inches_a_pixel(height: int, width: int) -> float:
    long, short = max(height, width), min(height, width)
    return max(LONG_SIDE_INCHES / long, SHORT_SIDE_INCHES / short)


def _sheet(rows: Sequence[NDArray[np.uint8]], gap: int) -> NDArray[np.uint8]:
    """All tiles in one image, white between them."""
    padded = [np.pad(images, ((0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255) for images in rows]
    sheet = np.concatenate([np.concatenate(list(images), axis=1) for images in padded], axis=0)
    return sheet[:-gap, :-gap]


def _wrapped(name: str, letters: int) -> str:
    """A name in at most two lines of so many letters."""
    lines = textwrap.wrap(plain(name), letters, max_lines=2, placeholder="…")
    return "\n".join(lines)
