"""`make bench`: runs every benchmark and writes `benchmarks/RESULTS.md`."""

from __future__ import annotations

import os
import platform
from importlib import import_module
from pathlib import Path

import torch

QUESTIONS = ("variants",)


def main() -> None:
    sections = []
    for name in QUESTIONS:
        section: str = import_module(f"benchmarks.{name}").run()
        print(section, flush=True)
        sections.append(section)
    machine = (
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, Python {platform.python_version()}"
    )
    text = f"# Results\n\nWritten by `make bench`, on {machine}. A ratio above 1 is in our favour.\n"
    Path(__file__).with_name("RESULTS.md").write_text("\n".join([text, *sections]))


if __name__ == "__main__":
    main()
