"""Runs benchmarks, and writes what they measured into this machine's column of `benchmarks/RESULTS.md`."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Sequence
from datetime import date
from importlib import import_module

import torch

from benchmarks.machines import Measured, Results, kept_of, this_machine, write
from benchmarks.page import QUESTIONS, table, write_page


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(QUESTIONS)}; all by default")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long `load` sends each request; 60 by default")
    parser.add_argument("--no-write", action="store_true", help="print the results, and write nothing")
    options = parser.parse_args(arguments)
    names, given = options.names or QUESTIONS, {"load": {"seconds": options.seconds}}
    if unknown := [name for name in names if name not in QUESTIONS]:
        parser.error(f"there is no {unknown[0]!r}; there are {', '.join(QUESTIONS)}")
    of_this_run = Results(this_machine())
    today, conditions = date.today().isoformat(), _conditions()
    for name in names:
        begun = time.perf_counter()
        section = import_module(f"benchmarks.{name}").run(**given.get(name, {}))
        print(section.text, flush=True)
        title, _, text = section.text.removeprefix("## ").partition("\n\n")
        took = f"{conditions}; took {time.perf_counter() - begun:.0f} s"
        measured = Measured(today, torch.__version__, took, title, text.rstrip(), list(section.aims))
        of_this_run.benchmarks[name] = measured
        if not options.no_write:  # one by one: a benchmark that fails loses nothing of those before it
            kept = kept_of(of_this_run.machine)
            kept.benchmarks[name] = measured
            write(kept)
            write_page()
    print(f"{table([of_this_run], names)}\nOn {of_this_run.machine.described}, {conditions}.")


def _conditions() -> str:
    """What times depend on besides the machine and torch, before the benchmarks start."""
    return (
        f"load {os.getloadavg()[0]:.1f} at the start, {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}"
    )


if __name__ == "__main__":
    main()
