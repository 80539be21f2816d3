"""The error of a large transformer's modulations against the number of directions of SiLU(c) that AdaLN reads."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from tailprune.figures.style import ACCENT, PALETTE, mark, new_figure, note, plain, styled
from tailprune.spec import InputError
from tailprune.transformers.describe import Anatomy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_rank"]

MOST_DOTS = 40
"""Of a curve of more ranks, the ranks are not marked one by one."""
LEAST_ERROR = 1e-5
"""The axis begins at half of it, where the curve falls below."""
LAST_AT = 0.75
"""Where the last rank is across the axes, so that its name fits beside it."""
NOTE_LETTERS = 120


def draw_rank(anatomy: Anatomy, model: str) -> Figure:
    """The error by the rank, on a logarithmic scale, with the ranks that 10, 1, 0.1 and 0.01 % need.

    anatomy: of the model, with its ranks measured
    model: its name, for the subtitle

    Raises InputError for an anatomy without ranks.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

    ranks = anatomy.ranks
    if ranks is None:
        raise InputError(f"there are no errors to draw, since they were not measured: {anatomy.unmeasured}")
    errors = ranks.errors
    by_rank: dict[int, list[str]] = {}
    for error, rank in ranks.needed.items():
        by_rank.setdefault(rank, []).append(f"{100 * error:g} %")
    with styled():
        figure = new_figure(
            "Error of AdaLN's modulations against its rank",
            plain(f"{model}, {anatomy.name}, c of {anatomy.condition_dim:,} components"),
        )
        axes = figure.add_subplot()
        dot = "o" if len(errors) <= MOST_DOTS else ""
        axes.plot(range(len(errors)), errors, color=PALETTE[0], linewidth=1.8, marker=dot, markersize=3.5)
        axes.set_yscale("log", nonpositive="clip")
        axes.set_ylim(max(errors[-1], LEAST_ERROR) / 2, 1.5)
        axes.yaxis.set_major_locator(LogLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}"))
        axes.yaxis.set_minor_formatter("")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="rank: the directions of SiLU(c) that AdaLN reads", ylabel="error of the modulations (%)")
        last = len(errors) - 1 or 1
        axes.set_xlim(-0.02 * last, last / LAST_AT)
        mark(axes, [(float(rank), f"rank {rank:,}: {' and '.join(of)}", ACCENT) for rank, of in by_rank.items()])
        note(figure, textwrap.fill(plain(_text(anatomy)), NOTE_LETTERS))
    return figure


def _text(anatomy: Anatomy) -> str:
    """What the errors are of, for the note."""
    ranks = anatomy.ranks
    assert ranks is not None, "only measured ranks are drawn"
    least, most = anatomy.time_range
    rows = (
        "all rows of its layers"
        if ranks.rows == ranks.of_rows
        else f"{ranks.rows:,} of the {ranks.of_rows:,} rows of its layers, so that they are estimates"
    )
    needed = [f"{rank:,} for {100 * error:g} %" for error, rank in ranks.needed.items()]
    _, *others = anatomy.depends_on
    still = f" at one {' and one '.join(others)}" if others else ""
    return (
        "The root mean square of the change of all shifts, scales and gates, relative to their part that depends on c, "
        f"over {ranks.times:,} evenly spaced times from {least:g} to {most:,g}{still}, from {rows}. At each rank the "
        f"directions are those with the least error. Marked, the smallest rank for an error: {', '.join(needed)}."
    )
