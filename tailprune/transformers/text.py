"""An anatomy as a text for people, for a terminal of some width."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from itertools import groupby

from tailprune.transformers.describe import Anatomy

__all__ = ["as_text"]

LEAST_WIDTH = 60


def as_text(anatomy: Anatomy, width: int = 80) -> str:
    """The anatomy in lines of at most `width` characters, but for names and paths that are longer."""
    width = max(width, LEAST_WIDTH)
    unit, types = _unit(anatomy), ", ".join(anatomy.adaln_types)
    lines = [
        f"{anatomy.models}: {anatomy.name}",
        f"{anatomy.path}, names of {anatomy.naming}",
        "",
        *_table(
            [
                ["", "parameters", "share", unit],
                _size("whole", anatomy.parameters, anatomy.bytes, anatomy),
                _size(f"AdaLN ({types})", anatomy.adaln_parameters, anatomy.adaln_bytes, anatomy),
                ["what makes c", f"{anatomy.embedder_parameters:,}", _share(anatomy.embedder_parameters, anatomy), ""],
            ]
        ),
        "",
        *_wrapped("c", f"{anatomy.condition_dim:,} components, the sum of {' + '.join(anatomy.depends_on)}", width),
        *_wrapped("time", _times(anatomy), width),
        "",
        f"{sum(group.count for group in anatomy.linears)} linear layers read SiLU(c):",
        *_layers(anatomy, width),
        "",
        *_replacements(anatomy, width),
        "",
        *_wrapped("recommended", anatomy.recommendation, width),
    ]
    return "\n".join(line.rstrip() for line in lines)


def _layers(anatomy: Anatomy, width: int) -> list[str]:
    """The table of layers; where it would be too wide, with the number of pieces alone."""
    said: Sequence[Callable[[Sequence[str]], str]] = (_pieces, lambda pieces: f"{len(pieces)}")
    for in_words in said:
        rows = [["", "layers", "columns", "rows", "pieces"]] + [
            [group.name, f"{group.count}", f"{group.inputs:,}", f"{group.outputs:,}", in_words(group.pieces)]
            for group in anatomy.linears
        ]
        table = _table(rows, left_last=in_words is _pieces)
        if max(map(len, table)) <= width:
            break
    return table


def _size(what: str, parameters: int, size: int, anatomy: Anatomy) -> list[str]:
    return [what, f"{parameters:,}", _share(parameters, anatomy), _in_unit(size, anatomy)]


def _unit(anatomy: Anatomy) -> str:
    return "GB" if anatomy.bytes >= 1e9 else "MB"


def _in_unit(size: int, anatomy: Anatomy) -> str:
    return f"{size / (1e9 if _unit(anatomy) == 'GB' else 1e6):.2f}"


def _share(parameters: int, anatomy: Anatomy) -> str:
    return f"{parameters / anatomy.parameters:.1%}"


def _times(anatomy: Anatomy) -> str:
    least, most = anatomy.time_range
    factor = f", times {anatomy.time_factor:,g} in its sinusoids" if anatomy.time_factor != 1 else ""
    return f"from {least:g} to {most:,g}{factor}"


def _pieces(pieces: Sequence[str]) -> str:
    """Pieces in few words, such as `2 x (shift scale gate)`."""
    for length in range(1, len(pieces) + 1):
        times = len(pieces) // length
        if tuple(pieces[:length]) * times == tuple(pieces):
            inner = " ".join(f"{len(same)} {name}" if len(same) > 1 else name for name, same in _runs(pieces[:length]))
            return inner if times == 1 else f"{times} x ({inner})"
    raise AssertionError("the whole repeats itself once")


def _runs(pieces: Sequence[str]) -> list[tuple[str, list[str]]]:
    return [(name, list(same)) for name, same in groupby(pieces)]


def _replacements(anatomy: Anatomy, width: int) -> list[str]:
    rows = [["in place of AdaLN", "error", "columns", "parameters", _unit(anatomy), f"saves {_unit(anatomy)}"]]
    for each in anatomy.replacements:
        what = f"rank {each.number:,}" if each.what == "rank" else f"table of {each.number} steps"
        error = "" if each.error is None else "none" if each.error == 0 else f"{100 * each.error:g} %"
        size, saved = _in_unit(each.bytes, anatomy), _in_unit(each.saved_bytes, anatomy)
        rows.append([what, error, f"{each.columns:,}", f"{each.parameters:,}", size, saved])
    ranks = anatomy.ranks
    if ranks is None:
        note = f"Errors were not measured: {anatomy.unmeasured}."
    else:
        part = "all" if ranks.rows == ranks.of_rows else f"{ranks.rows:,} of {ranks.of_rows:,}"
        note = (
            f"Errors are those of all shifts, scales and gates, over {ranks.times:,} evenly spaced times, from {part} "
            "rows of the layers; the table has none at its steps."
        )
    return [*_table(rows), *textwrap.wrap(note, width)]


def _wrapped(what: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent=f"{what:<13}", subsequent_indent=" " * 13)


def _table(rows: Sequence[Sequence[str]], *, left_last: bool = False) -> list[str]:
    """Columns two spaces apart, numbers to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    last = len(widths) - 1
    return [
        "  ".join(
            cell.ljust(size) if place == 0 or (left_last and place == last) else cell.rjust(size)
            for place, (cell, size) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
