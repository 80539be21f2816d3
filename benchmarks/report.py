"""Shows measurements: medians with their spread, ratios round by round, and whether an aim is reached."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Aim", "Section", "at_least", "at_most", "not_run", "ratio", "shown"]


@dataclass(frozen=True)
class Aim:
    """A measurement, its mark, and whether that was reached."""

    question: str
    reach: str
    """The mark; empty for a figure without one."""
    measured: str
    """The figure, or why there is none."""
    reached: bool | None
    """None where it was not measured, or has no mark."""


@dataclass(frozen=True)
class Section:
    """The results of one benchmark."""

    text: str
    """In Markdown: a heading of the second level, an empty line, and its tables."""
    aims: Sequence[Aim]


def at_least(question: str, theirs: Sequence[float], ours: Sequence[float], least: float) -> Aim:
    """An aim for the median ratio of the other side's measurements to ours, round by round."""
    found = statistics.median(_ratios(theirs, ours))
    return Aim(question, f"at least {least:g}", f"{found:.2f}", found >= least)


def at_most(question: str, value: float, most: float, unit: str = "") -> Aim:
    """An aim for a number with an upper limit."""
    return Aim(question, f"at most {most:g}{unit}", f"{value:.2g}{unit}", value <= most)


def not_run(question: str, reach: str, why: str) -> Aim:
    """An aim of what cannot be measured on this machine. why: what it lacks."""
    return Aim(question, reach, f"not run: {why}", None)


def shown(values: Sequence[float], form: Callable[[float], str]) -> str:
    """The median of measurements and their spread, for a cell of a table."""
    return f"{form(statistics.median(values))} ({form(min(values))} to {form(max(values))})"


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> str:
    """The ratio of the other side's measurements to ours, round by round, for a cell of a table."""
    return shown(_ratios(theirs, ours), lambda value: f"{value:.{2 * (value < 100)}f}")


def _ratios(theirs: Sequence[float], ours: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(theirs, ours, strict=True)]
