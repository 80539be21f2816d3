"""Do anatomy and compaction of the largest published transformers stay near the time that copying their bytes takes?

Files of the published shapes in bfloat16: what AdaLN reads by and what makes c is random, and the rest holes. Each runs
in a process of its own, whose peak of resident memory is the kernel's. The other side is a copy, in pieces of 16 MiB:
as many bytes read as the file has, and as many written as the smaller model has, to the disk (fsync).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import Aim, Section, at_most, not_run
from documentation.transformers import write_headers
from tailprune.spec.layouts import DIFFUSERS_WEIGHTS
from tailprune.transformers.recognise import made_by, recognise
from tailprune.transformers.source import open_source

PLANS: dict[str, dict[str, Any]] = {
    "FLUX.1-dev": {"steps": 28, "pooled": "zero"},
    "Qwen-Image": {"steps": 50},
    "MiniMax-H3": {"rank": 8},
}
PIECE = 16 * 2**20
SCALE = 0.02
MEMORY, ANATOMY, COPIES = 3.0, 5.0, 2.0
"""The most GB of memory, seconds of an anatomy, and times of a copy."""
SPARE = 2**30

PROGRAM = """
import json, resource, sys, time
from tailprune.transformers import anatomy, compact
what, source, out, options = json.loads(sys.argv[1])
begun = time.perf_counter()
found = anatomy(source) if what == "anatomy" else compact(source, out, **options)
seconds = time.perf_counter() - begun
said = {} if what == "anatomy" else {
    "rank": found.rank, "error": found.error, "adaln": found.adaln_parameters, "bytes": found.bytes,
}
print(json.dumps({"seconds": seconds, "memory": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, **said}))
"""


def run() -> Section:
    """One table, a row a model."""
    lines = [
        "## Anatomy and compaction of the largest transformers, against copying\n",
        "In bfloat16, of the published shapes: AdaLN and what makes c random, all else holes. Anatomy measures the "
        "ranks, from some rows of each layer. A copy reads the whole file, and writes as many bytes as the smaller one "
        "has. One run each.\n",
        "| model | file | AdaLN | anatomy | compact | columns | error | smaller file | time | a copy | time / copy | "
        "peak memory |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    aims: list[Aim] = []
    for name, options in PLANS.items():
        with tempfile.TemporaryDirectory(prefix="tailprune-benchmark-") as work:
            folder = Path(work) / "source"
            folder.mkdir()
            needed = write_sparse(name, folder)
            if shutil.disk_usage(work).free < needed + SPARE:
                aims.append(not_run(f"{name}: compaction against a copy", f"at most {COPIES:g}", "too small a disk"))
                continue
            anatomy, made = _apart("anatomy", folder, work, {}), _apart("compact", folder, work, options)
            shutil.rmtree(Path(work) / "out")
            copied = _copy(folder / DIFFUSERS_WEIGHTS[0], Path(work) / "copy", made["bytes"][1])
        memory = max(anatomy["memory"], made["memory"]) / 1e9
        how = " ".join(f"{key} {value}" for key, value in options.items())
        before, after = made["bytes"]
        lines.append(
            f"| {name} | {before / 1e9:.1f} GB | {2 * made['adaln'][0] / 1e9:.1f} GB | {anatomy['seconds']:.1f} s "
            f"| {how} | {made['rank']} | {made['error']:.1g} | {after / 1e9:.1f} GB | {made['seconds']:.0f} s "
            f"| {copied:.0f} s | {made['seconds'] / copied:.2f} | {memory:.2f} GB |"
        )
        aims += [
            at_most(f"{name}: anatomy with ranks", anatomy["seconds"], ANATOMY, " s"),
            at_most(f"{name}: time of a compaction, in copies of the bytes", made["seconds"] / copied, COPIES),
            at_most(f"{name}: peak memory", memory, MEMORY, " GB"),
        ]
    return Section("\n".join(lines) + "\n", aims)


def write_sparse(name: str, folder: Path) -> int:
    """Write the file, with random values where AdaLN and what makes c are; the bytes that the rest would take."""
    write_headers(name, folder)
    model = recognise(open_source(folder))
    source = model.source
    random = {tensor for layer in model.names for tensor in model.tensors(layer)}
    random |= set(made_by(model.parts, source.tensors))
    generator = torch.Generator().manual_seed(0)
    with (folder / DIFFUSERS_WEIGHTS[0]).open("r+b") as file:
        for tensor in random:
            place = source.tensors[tensor]
            file.seek(place.begin)
            for begin in range(place.begin, place.end, PIECE):
                count = min(PIECE, place.end - begin) // 2
                values = SCALE * torch.randn(count, generator=generator)
                file.write(values.bfloat16().view(torch.uint8).numpy().data)
        os.fsync(file.fileno())  # so that nothing is written while what follows is timed
    return source.size_of([tensor for tensor in source.tensors if tensor not in random])


def _apart(what: str, source: Path, work: str, options: dict[str, Any]) -> dict[str, Any]:
    """What a call says, with its time and its memory, in a process of its own."""
    given = json.dumps([what, str(source), f"{work}/out", options])
    done = subprocess.run([sys.executable, "-c", PROGRAM, given], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def _copy(source: Path, out: Path, written: int) -> float:
    """The seconds of reading a whole file, and of writing its first so many bytes."""
    begun = time.perf_counter()
    with source.open("rb") as read, out.open("wb") as write:
        while piece := read.read(PIECE):
            write.write(piece[: max(0, written - write.tell())])
        write.flush()
        os.fsync(write.fileno())
    return time.perf_counter() - begun
