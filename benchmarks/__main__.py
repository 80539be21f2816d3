"""`make bench`: runs every benchmark and writes `benchmarks/RESULTS.md`; with names, runs those and writes nothing."""

from __future__ import annotations

import argparse
import os
import platform
from importlib import import_module
from pathlib import Path

import psutil
import torch

from benchmarks.report import Section, aims_table
from tailprune.systems.choices import processor

QUESTIONS = (
    "statistics_over_time",
    "kernels",
    "sampling",
    "variants",
    "compaction",
    "weighted_directions",
    "cold_metrics",
    "cached_metrics",
    "removal_error",
    "search_samples",
    "page_threshold",
    "job_overhead",
    "many_small_jobs",
    "warm_worker",
    "two_workers",
    "load",
    "gpu_sampling",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(QUESTIONS)}; all by default")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long `load` sends each request; 60 by default")
    options = parser.parse_args()
    names, given = options.names, {"load": {"seconds": options.seconds}}
    if unknown := [name for name in names if name not in QUESTIONS]:
        parser.error(f"there is no {unknown[0]!r}; there are {', '.join(QUESTIONS)}")
    machine = _machine()
    sections: list[Section] = []
    for name in names or QUESTIONS:
        sections.append(import_module(f"benchmarks.{name}").run(**given.get(name, {})))
        print(sections[-1].text, flush=True)
    aims = aims_table(aim for section in sections for aim in section.aims)
    print(f"{aims}\nOn {machine}.")
    if not names:
        head = f"# Results\n\nWritten by `make bench`, on {machine}. A ratio above 1 is in our favour.\n"
        parts = [head, aims, *(section.text for section in sections)]
        Path(__file__).with_name("RESULTS.md").write_text("\n".join(parts))


def _machine() -> str:
    """The machine, its load before the benchmarks start, and the versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{processor()} ({platform.machine()}), {cores} cores, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB, {platform.system()}, load "
        f"{os.getloadavg()[0]:.1f} at the start, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )


if __name__ == "__main__":
    main()
