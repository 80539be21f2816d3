"""The vectors themselves, component by component."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tailprune.figures.head import Head, head_of
from tailprune.figures.labelled_vectors import LabelledVectors
from tailprune.figures.style import ACCENT, PALETTE, new_figure, note, plain, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_vectors"]

MOST_MARKED = 64
"""A head of more components is not marked, since it would cover most of the figure."""
LABEL_SHARE = 0.08
"""The height of an index, as a share of the range of the values."""
MOST_NUMBERED = 12
"""The number of largest components of the head that are numbered."""
LEGEND_COLUMNS = 5
LEGEND_LINE_INCHES = 0.22
PANEL_INCHES = 2.2


def draw_vectors(vectors: LabelledVectors, rows: Sequence[int]) -> Figure:
    """One line for each of these rows, above at full scale, below magnified to the tail."""
    head = head_of(vectors.values)
    values = vectors.values[list(rows)].float().cpu().numpy()
    components = np.arange(values.shape[1])
    lines = 1 + -(-len(rows) // LEGEND_COLUMNS)
    with styled():
        figure = new_figure(
            f"The vectors {vectors.part}, component by component",
            f"{vectors.source}, {len(rows)} of {vectors.size}",
            6.0 + LEGEND_LINE_INCHES * lines,
        )
        share = LEGEND_LINE_INCHES * lines / PANEL_INCHES
        whole, magnified, names = figure.subplots(3, 1, height_ratios=(1, 1, share))
        whole.sharex(magnified)
        whole.tick_params(labelbottom=False)
        for axes in (whole, magnified):
            for component in head.components if len(head.components) <= MOST_MARKED else []:
                axes.axvline(component, color=ACCENT, alpha=0.16, linewidth=3.0)
            for place, row in enumerate(rows):
                axes.plot(
                    components,
                    values[place],
                    color=PALETTE[place % len(PALETTE)],
                    linewidth=0.9,
                    alpha=0.85,
                    label=plain(vectors.names[row]),
                )
            axes.set_ylabel(vectors.part)
            axes.margins(x=0.01)
        whole.set_title("full scale", loc="left")
        limit = _tail_limit(values, head)
        magnified.set_ylim(-limit, limit)
        magnified.set_title(f"magnified to the tail: components up to {limit:.2g}", loc="left")
        magnified.set_xlabel("component")
        _number(whole, values, head)
        names.axis("off")
        title = "t" if vectors.kind == "time" else vectors.kind
        names.legend(*whole.get_legend_handles_labels(), loc="center", ncols=LEGEND_COLUMNS, title=title)
        note(figure, f"{head.rule(vectors.part)}\n{_shaded(head)}")
    return figure


def _shaded(head: Head) -> str:
    """Which components are shaded and numbered, for the note."""
    if len(head.components) > MOST_MARKED:
        return "The head is not shaded: it would cover most of the figure."
    if len(head.components) > MOST_NUMBERED:
        return "Shaded: the head; numbered: its largest components, where there is room."
    return "Shaded: the head."


def _tail_limit(values: np.ndarray, head: Head) -> float:
    """The largest magnitude outside the head, or of all components if all are in the head."""
    tail = np.abs(values[:, head.tail]) if head.tail else np.abs(values)
    return float(1.05 * tail.max()) or 1.0


def _number(axes: Axes, values: np.ndarray, head: Head) -> None:
    """Write the indices of the largest head components at their peaks, unless they would overlap a larger one."""
    if len(head.components) > MOST_MARKED:
        return
    room = values.shape[1] / 40  # the width of an index, in components
    peaks = {k: float(values[np.abs(values[:, k]).argmax(), k]) for k in head.components}
    line = LABEL_SHARE * (max(0.0, *peaks.values()) - min(0.0, *peaks.values()))
    placed: list[int] = []
    for component in sorted(peaks, key=lambda k: -abs(peaks[k])):
        if len(placed) == MOST_NUMBERED:
            break
        peak = peaks[component]
        near = [other for other in placed if abs(component - other) < room]
        if any(abs(peak - peaks[other]) < line and abs(component - other) < 2 * room for other in placed):
            continue
        placed.append(component)
        # beside the line that leads to a larger peak nearby, not on it
        side = "center" if not near else "right" if near[0] > component else "left"
        axes.annotate(
            str(component), (component, peak), xytext=(0, 3 if peak > 0 else -3), textcoords="offset points",
            ha=side, va="bottom" if peak > 0 else "top", fontsize=7.5, color=ACCENT,
        )  # fmt: skip
    axes.margins(y=0.12)
