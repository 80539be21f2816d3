"""Shows measurements: medians with their spread, ratios round by round, and whether an aim is reached."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Aim", "Section", "aims_table", "at_least", "at_most", "ratio", "shown"]


@dataclass(frozen=True)
class Aim:
    """A target for a measurement, and whether it was reached."""

    question: str
    reach: str
    measured: str
    reached: bool | None
    """None where it was not measured."""


@dataclass(frozen=True)
class Section:
    """The results of one benchmark."""

    text: str
    """Its tables, in Markdown."""
    aims: Sequence[Aim]


def at_least(question: str, theirs: Sequence[float], ours: Sequence[float], least: float) -> Aim:
    """An aim for the median ratio of the other side's measurements to ours, round by round."""
    found = statistics.median(_ratios(theirs, ours))
    return Aim(question, f"at least {least:g}", f"{found:.2f}", found >= least)


def at_most(question: str, value: float, most: float, unit: str = "") -> Aim:
    """An aim for a number with an upper limit."""
    return Aim(question, f"at most {most:g}{unit}", f"{value:.2g}{unit}", value <= most)


def shown(values: Sequence[float], form: Callable[[float], str]) -> str:
    """The median of measurements and their spread, for a cell of a table."""
    return f"{form(statistics.median(values))} ({form(min(values))} to {form(max(values))})"


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> str:
    """The ratio of the other side's measurements to ours, round by round, for a cell of a table."""
    return shown(_ratios(theirs, ours), lambda value: f"{value:.{2 * (value < 100)}f}")


def aims_table(aims: Iterable[Aim]) -> str:
    """All aims in one table."""
    words = {True: "yes", False: "**no**", None: "not run"}
    rows = (f"| {aim.question} | {aim.reach} | {aim.measured} | {words[aim.reached]} |" for aim in aims)
    return "\n".join(["| question | to reach | measured | reached |", "|---|---|---|---|", *rows]) + "\n"


def _ratios(theirs: Sequence[float], ours: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(theirs, ours, strict=True)]
