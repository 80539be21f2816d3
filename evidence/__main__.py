"""`make evidence`: the paper's tables and figures on the shipped models, into `docs/evidence.md`.

Starts `tailprune serve` with its data in `build/evidence`, so that an interrupted run is resumed, posts one study for
each model, and writes the document, the numbers behind it and the figures.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import time
from importlib.metadata import version

from rich.console import Console

from demo import ROOT, running
from evidence.document import shown_of, write
from evidence.gathering import gather
from evidence.measuring import MODELS, replaced
from evidence.rules import compared, draw_errors
from service.cli.client import Client

BUILD = ROOT / "build" / "evidence"
DOCS = ROOT / "docs"

console = Console(highlight=False)


def main() -> None:
    """Write `docs/evidence.md` and a table of `docs/pruning.md`, with figures, from studies of the models."""
    parser = argparse.ArgumentParser(prog="python -m evidence", description=main.__doc__)
    parser.add_argument("models", nargs="*", default=list(MODELS), help="the shipped models to study; all by default")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="workers, one per core by default")
    options = parser.parse_args()
    begun = time.monotonic()
    with running(BUILD / "data", options.workers) as url, Client(url, console) as client:
        found = [gather(client, model, BUILD / model, console) for model in options.models]
    pictures = DOCS / "evidence"
    pictures.mkdir(exist_ok=True)
    for one in found:
        for name in shown_of(one.model):
            shutil.copy(BUILD / one.model / f"{name}.png", pictures / f"{one.model}-{name}.png")
    draw_errors({one.model: one.rules for one in found}, pictures / "rules.png")
    machine = (
        f"{options.workers} workers on {platform.machine()}, {os.cpu_count()} cores, float32, torch {version('torch')}"
    )
    pruning = DOCS / "pruning.md"
    rules = compared({one.model: one.rules for one in found})
    pruning.write_text(replaced(pruning.read_text(), "evidence", rules))
    text, numbers = write(found, machine)
    (DOCS / "evidence.md").write_text(text)
    (pictures / "numbers.json").write_text(numbers)
    console.print(f"docs/evidence.md is written, after {(time.monotonic() - begun) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
