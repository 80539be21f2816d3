"""The machines that benchmarks ran on, and the latest results of each, a JSON file in `benchmarks/results/`."""

from __future__ import annotations

import json
import os
import platform
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.report import Aim
from tailprune.systems.choices import machine_facts

__all__ = ["FOLDER", "Machine", "Measured", "Results", "kept_of", "read_all", "this_machine", "write"]

FOLDER = Path(__file__).with_name("results")
INSTRUCTIONS = (
    "avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd", "sve", "bf16",
)  # fmt: skip
"""Those that a machine is described by, as Linux calls them, from common to special."""


@dataclass(frozen=True)
class Machine:
    """A machine, as far as times depend on it."""

    processor: str
    """What it calls its CPU."""
    model: str
    """The numbers of the CPU's model, which names of virtual CPUs leave open; empty where they are not known."""
    instructions: list[str]
    """Those of `INSTRUCTIONS` that the CPU has; empty where they are not known."""
    cores: int
    memory: int
    """In GiB."""
    gpu: str
    """Its name; empty for none."""
    system: str
    """The operating system and its architecture."""

    @property
    def name(self) -> str:
        """The CPU, and the most special of its instructions."""
        return ", ".join([self.processor, *self.instructions[-1:]])

    @property
    def cpu(self) -> str:
        """The CPU, with the numbers of its model."""
        return f"{self.processor} ({self.model})" if self.model else self.processor

    @property
    def described(self) -> str:
        """All that sets it apart from others."""
        sizes = [f"{self.cores} cores", f"{self.memory} GiB"]
        return ", ".join(filter(None, [self.cpu, *self.instructions, *sizes, self.gpu, self.system]))

    @property
    def file(self) -> Path:
        """The file of its results."""
        return FOLDER / (re.sub(r"[^a-z0-9]+", "-", self.described.lower()).strip("-") + ".json")


@dataclass(frozen=True)
class Measured:
    """The results of one benchmark in its latest run on a machine."""

    date: str
    """The day of the run, as YYYY-MM-DD."""
    torch: str
    """The version."""
    conditions: str
    """What else times depend on: load, threads and so on; empty where it is not known."""
    title: str
    text: str
    """Tables, in Markdown."""
    aims: list[Aim]


@dataclass(frozen=True)
class Results:
    """What is kept of a machine."""

    machine: Machine
    note: str = ""
    """What else has to be known of it, in Markdown."""
    benchmarks: dict[str, Measured] = field(default_factory=dict)
    """By the names of the benchmarks."""


def this_machine() -> Machine:
    """The machine that this runs on."""
    facts = machine_facts()
    numbers = (f"{name} {value}" for name, value in facts["model"].items() if name != "vendor_id")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(
        processor=facts["processor"],
        model=", ".join(numbers),
        instructions=[name for name in INSTRUCTIONS if name in facts["instructions"]],
        cores=cores,
        memory=round(psutil.virtual_memory().total / 2**30),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        system=f"{platform.system()} {platform.machine()}",
    )


def kept_of(machine: Machine) -> Results:
    """The results that are kept of a machine; empty ones where there are none."""
    return _read(machine.file) if machine.file.exists() else Results(machine)


def read_all() -> list[Results]:
    """The results of all machines, in the order of their files' names."""
    return [_read(file) for file in sorted(FOLDER.glob("*.json"))]


def write(results: Results) -> None:
    """Write the file of a machine; equal results give equal bytes."""
    content = asdict(results)
    for measured in content["benchmarks"].values():
        measured["text"] = measured["text"].split("\n")
    content["benchmarks"] = dict(sorted(content["benchmarks"].items()))
    FOLDER.mkdir(exist_ok=True)
    results.machine.file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _read(file: Path) -> Results:
    content = json.loads(file.read_text())
    benchmarks = {name: _measured(measured) for name, measured in content["benchmarks"].items()}
    return Results(Machine(**content["machine"]), content["note"], benchmarks)


def _measured(content: dict[str, Any]) -> Measured:
    aims = [Aim(**aim) for aim in content["aims"]]
    return Measured(**content | {"text": "\n".join(content["text"]), "aims": aims})
