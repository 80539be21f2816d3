"""Makes `benchmarks/RESULTS.md` of the results that are kept of each machine; `python -m benchmarks.page` writes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.machines import Measured, Results, read_all
from benchmarks.report import Aim

__all__ = ["PAGE", "QUESTIONS", "page", "table", "write_page"]

PAGE = Path(__file__).with_name("RESULTS.md")
QUESTIONS = (
    "statistics_over_time",
    "kernels",
    "peak_share",
    "int8",
    "sampling",
    "variants",
    "compaction",
    "weighted_directions",
    "large_transformers",
    "cold_metrics",
    "cached_metrics",
    "removal_error",
    "search_samples",
    "page_threshold",
    "startup",
    "job_overhead",
    "many_small_jobs",
    "warm_worker",
    "two_workers",
    "load",
    "gpu_sampling",
)
"""The names of the benchmarks, in the order of the page."""
HEAD = """# Results

Written by `make bench` from the files in `benchmarks/results/`, one for each machine: a run replaces what it measured
in the column of its machine, and leaves everything else. A column has the date of most of its figures, and the others
have their own. A ratio above 1 is in our favour; "yes" and "**no**" say whether the mark was reached, and a figure with
neither has no mark.
"""


def page(machines: Sequence[Results]) -> str:
    """The page: the table of all machines, notes on them, and each benchmark's tables by machine."""
    notes = [
        f"{name}: {results.note}\n" for name, results in zip(_names(machines), machines, strict=True) if results.note
    ]
    sections = (_section(name, machines) for name in QUESTIONS)
    return "\n".join([HEAD, table(machines, QUESTIONS), *notes, *filter(None, sections)])


def table(machines: Sequence[Results], names: Sequence[str]) -> str:
    """A table with a column for each machine: what it is, and its figures.

    machines: with their results
    names: of the benchmarks that have rows, in order
    """
    runs = [_commonest(results) for results in machines]
    facts = {
        "CPU": [results.machine.cpu for results in machines],
        "instructions": [", ".join(results.machine.instructions) or "not known" for results in machines],
        "cores": [str(results.machine.cores) for results in machines],
        "memory": [f"{results.machine.memory} GiB" for results in machines],
        "GPU": [results.machine.gpu or "none" for results in machines],
        "torch": [torch for _, torch in runs],
        "date": [date for date, _ in runs],
    }
    rows = [_row(fact, "", cells) for fact, cells in facts.items()]
    for name in names:
        all_measured = [results.benchmarks.get(name) for results in machines]
        questions = dict.fromkeys(
            (aim.question, aim.reach) for measured in all_measured if measured for aim in measured.aims
        )
        for question, reach in questions or {(f"`{name}`", ""): None}:
            cells = (_cell(measured, question, reach, run) for measured, run in zip(all_measured, runs, strict=True))
            rows.append(_row(question, reach, cells))
    head = _row("question", "to reach", _names(machines))
    return "\n".join([head, "|---" * (2 + len(machines)) + "|", *rows]) + "\n"


def write_page() -> None:
    """Write the page of the results that are kept."""
    PAGE.write_text(page(read_all()))


def _names(machines: Sequence[Results]) -> list[str]:
    """The short name of each machine, or all that is known of it where others have the same name."""
    counts = Counter(results.machine.name for results in machines)
    return [
        results.machine.name if counts[results.machine.name] == 1 else results.machine.described for results in machines
    ]


def _row(question: str, reach: str, cells: Iterable[str]) -> str:
    return f"| {question} | {reach} | {' | '.join(cells)} |"


def _commonest(results: Results) -> tuple[str, str]:
    """Date and version of torch that most benchmarks of a machine have; of several the latest."""
    counts = Counter((measured.date, measured.torch) for measured in results.benchmarks.values())
    return max(counts, key=lambda run: (counts[run], run))


def _cell(measured: Measured | None, question: str, reach: str, run: tuple[str, str]) -> str:
    """The figure of one machine; dated where its run is not that of the column."""
    if measured is None:
        return "not run"
    found = {(aim.question, aim.reach): aim for aim in measured.aims}.get((question, reach))
    if found is None:
        return "not run" if measured.aims else f"see below{_apart(measured, run)}"
    return _shown(found) + _apart(measured, run)


def _shown(aim: Aim) -> str:
    return {True: f"{aim.measured}, yes", False: f"{aim.measured}, **no**", None: aim.measured}[aim.reached]


def _apart(measured: Measured, run: tuple[str, str]) -> str:
    """In what the run of a figure is not that of its column."""
    date, torch = run
    apart = [measured.date] * (measured.date != date) + [f"torch {measured.torch}"] * (measured.torch != torch)
    return f" ({', '.join(apart)})" if apart else ""


def _section(name: str, machines: Sequence[Results]) -> str:
    """The tables of a benchmark, machine by machine; empty where none has run it."""
    found = [
        (machine, results.benchmarks[name])
        for machine, results in zip(_names(machines), machines, strict=True)
        if name in results.benchmarks
    ]
    if not found:
        return ""
    _, latest = max(found, key=lambda each: each[1].date)
    parts = [f"## {latest.title}\n"]
    for machine, measured in found:
        run = ", ".join(filter(None, [measured.date, f"torch {measured.torch}", measured.conditions]))
        parts.append(f"**{machine}**: {run}.\n\n{measured.text}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    write_page()
