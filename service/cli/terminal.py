"""What the commands print: tables that fit the terminal, messages, and errors; in the characters that can be shown."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import typer
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from service.cli import INTERRUPTED
from service.cli.faults import explained
from tailprune_client import JobCancelled, NotFound, ProblemError, ServiceAway, TailpruneError

__all__ = ["ABSENT", "Sheet", "errors_shown", "fail", "line", "messages", "say", "show", "show_facts"]

ABSENT = "–"
CANCELLED = 3
"""The exit status of a command whose job was cancelled while it waited."""
LEAST_WIDTH = 72
"""The width up to which a table is widened so that its title and caption need not wrap."""
ANY_WIDTH = 10_000

messages = Console(stderr=True, highlight=False)

ASCII = str.maketrans(
    {"–": "-", "—": "-", "−": "-", "±": "+-", "×": "x", "…": "...", "↑": "^", "↓": "v", "’": "'", "‘": "'", " ": " "}
)
"""What takes the place of characters that the terminal, or the encoding of a file, does not have."""


@dataclass(frozen=True)
class Sheet:
    """Rows of text under headings, to be shown as a table or, where that is too wide, row by row.

    headings, rows: the first column says what a row is of.
    title, caption: prose above and below.
    borders: whether a table has them, with numbers set right, or is a plain list; True by default.
    expendable: headings of columns to leave out where the table is too wide, the first of them first; none by default.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    caption: str = ""
    borders: bool = True
    expendable: Sequence[str] = ()

    @property
    def width(self) -> int:
        """The width of its table, with nothing wrapped but title and caption."""
        return Measurement.get(_console(ANY_WIDTH), _console(ANY_WIDTH).options, self._table(1)).maximum

    def fits(self) -> bool:
        """Whether its table is no wider than the terminal."""
        limit = _limit()
        return limit is None or self.width <= limit

    def without(self, heading: str) -> Sheet:
        """The same without a column."""
        place = list(self.headings).index(heading)
        headings = [*self.headings[:place], *self.headings[place + 1 :]]
        rows = [[*row[:place], *row[place + 1 :]] for row in self.rows]
        return replace(self, headings=headings, rows=rows, expendable=self.expendable[1:])

    def print(self) -> None:
        """Print it on stdout. No name or number is ever cut."""
        sheet = self
        while not sheet.fits() and sheet.expendable:
            sheet = sheet.without(sheet.expendable[0])
        limit = _limit()
        if sheet.fits():
            width = max(sheet.width, LEAST_WIDTH) if limit is None else limit
            _console(width).print(sheet._table(limit), markup=False)
        else:
            self._print_records()

    def _table(self, limit: int | None) -> Table:
        prose = max(map(len, (self.title, *self.caption.splitlines())), default=0)
        least = min(LEAST_WIDTH, prose, limit or LEAST_WIDTH)
        table = Table(
            title=Text(_plain(self.title)) if self.title else None,
            caption=Text(_plain(self.caption)) if self.caption else None,
            min_width=least or None,
            box=box.HEAVY_HEAD if self.borders else None,
            padding=(0, 1) if self.borders else (0, 2, 0, 0),
            pad_edge=self.borders,
        )
        for place, heading in enumerate(self.headings):
            right = self.borders and place > 0
            table.add_column(Text(_plain(heading)), justify="right" if right else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*(Text(_plain(cell)) for cell in row))
        return table

    def _print_records(self) -> None:
        if self.title:
            line(self.title)
        for row in self.rows:
            line(row[0])
            for heading, cell in zip(self.headings[1:], row[1:], strict=True):
                if cell:
                    line(f"  {heading}: {' '.join(cell.split(chr(10)))}")
        if self.caption:
            line(self.caption)


def show(*sheets: Sheet) -> None:
    """Print tables on stdout."""
    for sheet in sheets:
        sheet.print()


def show_facts(facts: Mapping[str, Any], indent: str = "") -> None:
    """Print names and values of JSON, a line each; nothing for values that there are not."""
    told = {name: text for name, value in facts.items() if (text := _in_words(value))}
    width = max(map(len, told), default=0)
    for name, text in told.items():
        line(f"{indent}{name:{width}}  {text}")


def line(text: str) -> None:
    """Print a line on stdout, as it is and unwrapped."""
    print(_plain(text))


def say(text: str, console: Console = messages) -> None:
    """Print a message, on stderr by default, as it is and unwrapped."""
    console.print(_plain(text, console.encoding), soft_wrap=True, markup=False)


@contextmanager
def errors_shown(context: typer.Context | None = None) -> Iterator[None]:
    """Print errors as a red line and exit with a status, without a traceback: of the service, and of files.

    context: that of the command, by whose options the faults of a request are named; None, the default, for commands
    without any.
    """
    try:
        yield
    except TailpruneError as error:
        fail(_told(error, context), CANCELLED if isinstance(error, JobCancelled) and error.job else 1)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:  # who read the output has enough
        raise
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except UnicodeEncodeError as error:
        fail(f"{error.object!r} is no text: it has bytes that are not {error.encoding}")


def _told(error: TailpruneError, context: typer.Context | None) -> str:
    """What the client says, in the words of the command line."""
    if isinstance(error, ServiceAway):
        why = f"no service answers at {error.url} ({error.reason})"
        return f"{why}: start one with `tailprune serve`, or give its address with --url"
    if isinstance(error, NotFound):
        return error.detail
    if isinstance(error, ProblemError) and error.job is None:
        return explained(error.problem, context)
    return str(error)


def fail(why: str, status: int = 1) -> NoReturn:
    """Print an error as a red line, and exit with a status, 1 by default."""
    messages.print(Text("tailprune:", "red"), _plain(why, messages.encoding), soft_wrap=True, markup=False)
    raise typer.Exit(status)


def _limit() -> int | None:
    """The columns of the terminal; None where there is none, whose lines are data for other programs."""
    console = Console()
    return console.width if console.is_terminal or os.environ.get("COLUMNS") else None


def _console(width: int) -> Console:
    return Console(width=width, highlight=False)


def _in_words(value: Any) -> str:
    """A value of JSON on one line; empty if there is none."""
    if isinstance(value, dict):
        told = {name: _in_words(inner) for name, inner in value.items()}
        return ", ".join(
            f"{name} ({text})" if isinstance(value[name], dict) else f"{name} {text}"
            for name, text in told.items()
            if text
        )
    if isinstance(value, list):
        return ", ".join(map(_in_words, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _plain(text: str, encoding: str | None = None) -> str:
    """The text in characters that stdout, or a stream of another encoding, can show."""
    encoding = encoding or sys.stdout.encoding or "ascii"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        letters = unicodedata.normalize("NFKD", text.translate(ASCII))
        bare = "".join(letter for letter in letters if not unicodedata.combining(letter))
        return bare.encode(encoding, "backslashreplace").decode(encoding)
    return text
