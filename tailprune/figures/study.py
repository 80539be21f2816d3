"""Quality against the share of components removed: one panel per measure, one line per way to prune."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tailprune.figures.style import INK, PALETTE, QUIET, new_figure, note, plain, styled
from tailprune.spec import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

__all__ = ["Panel", "Point", "draw_study"]

ARROWS = {"higher": "↑", "lower": "↓"}
MARKERS = "osD^vPX"
BASELINE_COLOUR, BASELINE_MARKER = INK, "*"
DASHES = (0, (4, 2))
FEW = "too few samples"
LOG_RATIO = 20.0
"""Positive values of a measure without a greatest value that span more than this are on a logarithmic scale."""
PANEL_INCHES, ALONE_INCHES, EDGES_INCHES = 2.05, 3.3, 1.1
LEGEND_LINE_INCHES = 0.2
LEGEND_LETTERS = 96
"""The number of letters that fit in one line of the legend."""
MARK_LETTERS = 8
"""The width of a marker and the gap after it, in letters."""
NOTE_LETTERS = 120


@dataclass(frozen=True)
class Point:
    """A measure of one variant."""

    value: float
    removed: float = 0.0
    """The share of the components of c that is removed, in per cent."""
    low: float | None = None
    """The ends of an interval around the value, `low` and `high`; None without one."""
    high: float | None = None
    reliable: bool = True
    """False if it is of too few samples: its marker is hollow."""

    @property
    def extent(self) -> list[float]:
        """The value, and the ends of its interval, if any."""
        return [self.value, *(end for end in (self.low, self.high) if end is not None)]


@dataclass(frozen=True)
class Panel:
    """One measure, with the points of all variants that have a value of it."""

    title: str
    quantity: str
    """The name of its axis."""
    better: Literal["higher", "lower"]
    lines: Mapping[str, Sequence[Point]]
    """The points of each way to prune, by its name, such as `tail, last 10 steps`."""
    baseline: Point | None = None
    """Of the unpruned samples, with which every line begins."""
    unit: str | None = None
    bounds: tuple[float | None, float | None] = (None, None)
    """The least and the greatest value that the measure can have, at which its axis ends; None without one."""


def draw_study(panels: Sequence[Panel], title: str, subtitle: str, text: str) -> Figure:
    """A figure with two panels per row, the first of an odd number alone; a way has the same colour in all of them.

    A line begins with the baseline at 0 %, and a marker is hollow where its value is of too few samples.

    panels: one per measure; those without a point are left out
    title: the first line of the figure
    subtitle: the second line
    text: the note below, wrapped to the width

    Raises InputError if there is no point to draw.
    """
    drawn = [panel for panel in panels if any(panel.lines.values())]
    if not drawn:
        raise InputError("no point to draw: nothing was pruned, or no measure has a value")
    ways = list(dict.fromkeys(way for panel in drawn for way, points in panel.lines.items() if points))
    alone = len(drawn) % 2  # the first of an odd number, so that the last row is full
    rows = (len(drawn) + alone) // 2
    across = _legend_columns(ways)
    names_inches = LEGEND_LINE_INCHES * (1 + math.ceil((len(ways) + 2) / across))
    panel_inches = PANEL_INCHES if rows > 1 else ALONE_INCHES
    with styled():
        figure = new_figure(title, subtitle, rows * panel_inches + names_inches + EDGES_INCHES)
        places = figure.add_gridspec(rows + 1, 2, height_ratios=[*[panel_inches] * rows, names_inches])
        legend: dict[str, Line2D] = {}
        first: Axes | None = None
        for number, panel in enumerate(drawn, start=alone):
            row, column = divmod(number, 2)
            wide = bool(alone) and row == 0
            axes = figure.add_subplot(places[0, :] if wide else places[row, column], sharex=first)
            first = first or axes
            legend = _draw_panel(axes, panel, ways) | legend
            axes.tick_params(labelbottom=wide or row == rows - 1)
            if row == rows - 1:
                axes.set_xlabel("components of c removed (%)")
        assert first is not None, "there is a panel"
        first.set_xlim(0, min(100.0, first.get_xlim()[1]))
        figure.align_ylabels()
        names = figure.add_subplot(places[rows, :])
        names.axis("off")
        order = [*ways, "baseline", FEW]
        shown = [legend[name] for name in order if name in legend]
        names.legend(handles=shown, loc="center", ncols=across)
        note(figure, textwrap.fill(plain(text), NOTE_LETTERS))
    return figure


def _draw_panel(axes: Axes, panel: Panel, ways: Sequence[str]) -> dict[str, Line2D]:
    """Draw one measure; returns its lines by name."""
    drawn: dict[str, Line2D] = {}
    start = [] if panel.baseline is None else [panel.baseline]
    for place, way in enumerate(ways):
        points = sorted(panel.lines.get(way, ()), key=lambda point: point.removed)
        if not points:
            continue
        colour, marker = PALETTE[place % len(PALETTE)], MARKERS[place % len(MARKERS)]
        line = [*start, *points]
        style = "-" if all(point.reliable for point in line) else ":"
        axes.plot([point.removed for point in line], [point.value for point in line], color=colour, linestyle=style)
        _draw_points(axes, points, colour, marker)
        drawn[way] = _key(way, _marker(colour, marker))
    if panel.baseline is not None:
        if panel.baseline.low is not None and panel.baseline.high is not None:
            axes.axhspan(panel.baseline.low, panel.baseline.high, color=QUIET, alpha=0.15, linewidth=0)
        axes.axhline(panel.baseline.value, color=QUIET, linewidth=1.1, linestyle=DASHES)
        _draw_points(axes, start, BASELINE_COLOUR, BASELINE_MARKER)
        drawn["baseline"] = _key("baseline", _marker(BASELINE_COLOUR, BASELINE_MARKER), DASHES)
    if not all(point.reliable for line in (start, *panel.lines.values()) for point in line):
        drawn[FEW] = _key(FEW, _marker(QUIET, "o", reliable=False), "none")
    if _spans_decades(panel):
        axes.set_yscale("log")
    else:
        axes.ticklabel_format(axis="y", useOffset=False)
        _keep_within(axes, panel.bounds)
    axes.set_title(f"{plain(panel.title)} {ARROWS[panel.better]}", loc="left")
    axes.set_ylabel(panel.quantity if panel.unit is None else f"{panel.quantity} ({panel.unit})")
    return drawn


def _draw_points(axes: Axes, points: Sequence[Point], colour: str, marker: str) -> None:
    """Draw the markers of some points, hollow where they are not reliable, and their intervals."""
    for point in points:
        (drawn,) = axes.plot([point.removed], [point.value], **_marker(colour, marker, point.reliable), zorder=4)
        drawn.set(clip_on=False, in_layout=False)  # at 0 % and at a bound of the measure it reaches out of the axes
    _draw_intervals(axes, points, colour)


def _marker(colour: str, marker: str, reliable: bool = True) -> dict[str, Any]:
    """How a value is drawn: hollow if it is of too few samples."""
    return {
        "color": colour,
        "marker": marker,
        "markersize": 8.0 if marker == BASELINE_MARKER else 5.0,
        "markerfacecolor": colour if reliable else "white",
        "markeredgecolor": "white" if reliable else colour,
        "markeredgewidth": 0.5 if reliable else 1.2,
    }


def _key(name: str, look: dict[str, Any], line: Any = "-") -> Line2D:
    """An entry of the legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle=line, label=name, **look)


def _keep_within(axes: Axes, bounds: tuple[float | None, float | None]) -> None:
    """End the axis of a measure at the least and the greatest value that it can have."""
    (low, high), (least, greatest) = axes.get_ylim(), bounds
    axes.set_ylim(low if least is None else max(low, least), high if greatest is None else min(high, greatest))


def _draw_intervals(axes: Axes, points: Sequence[Point], colour: str) -> None:
    bars = [(p, p.low, p.high) for p in points if p.low is not None and p.high is not None]
    if not bars:
        return
    axes.errorbar(
        [point.removed for point, _, _ in bars],
        [point.value for point, _, _ in bars],
        # rounding may put the end of an interval of no width on the wrong side
        yerr=[[max(0.0, p.value - low) for p, low, _ in bars], [max(0.0, high - p.value) for p, _, high in bars]],
        fmt="none",
        ecolor=colour,
        elinewidth=0.9,
        capsize=2.0,
    )


def _spans_decades(panel: Panel) -> bool:
    points = [point for line in panel.lines.values() for point in line]
    values = [value for point in points for value in point.extent]
    if panel.baseline is not None:
        values += panel.baseline.extent
    return panel.bounds[1] is None and min(values) > 0 and max(values) > LOG_RATIO * min(values)


def _legend_columns(names: Sequence[str]) -> int:
    """The number of columns of the legend, at most four."""
    return min(4, LEGEND_LETTERS // (max(map(len, names)) + MARK_LETTERS)) or 1
