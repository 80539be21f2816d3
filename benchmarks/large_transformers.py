"""Do anatomy and compaction of the largest published transformers stay near the time that copying their bytes takes?

Files of the published shapes in bfloat16: what AdaLN reads by and what makes c is random, and the rest holes. Each runs
in a process of its own, whose peak of resident memory is the kernel's. The other side is a copy, in pieces of 16 MiB:
as many bytes read as the file has, and as many written as the smaller model has, to the disk (fsync). A FLUX.1 of a
third of the blocks is also read whole into memory, folded there, and written by the safetensors library.
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

from benchmarks.report import Aim, Section, at_least, at_most, not_run
from documentation.transformers import write_headers
from tailprune.spec.layouts import DIFFUSERS_WEIGHTS
from tailprune.transformers.plans import covered_by, plan_of
from tailprune.transformers.recognise import made_by, recognise
from tailprune.transformers.source import open_source

PLANS: dict[str, dict[str, Any]] = {
    "FLUX.1-dev": {"steps": 28, "pooled": "zero"},
    "Qwen-Image": {"steps": 50},
    "MiniMax-H3": {"rank": 8},
}
THIRD = {"num_layers": 6, "num_single_layers": 12}
"""The blocks of a FLUX.1 that fits into memory whole."""
PIECE = 16 * 2**20
SCALE = 0.02
MEMORY, ANATOMY, COPIES = 3.0, 5.0, 2.0
"""The most GB of memory, seconds of an anatomy, and times of a copy."""
LESS_MEMORY = 10.0
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

IN_MEMORY = """
import json, os, resource, sys, time
import torch
from safetensors.torch import load_file, save_file
source, out, curve, names = json.loads(sys.argv[1])
begun = time.perf_counter()
weights, read = load_file(source), torch.load(curve).float()
mean = read.mean(0)
directions = torch.linalg.svd(read - mean, full_matrices=False)[2][: len(read) - 1]
for name in names:
    whole, bias = weights[f"{name}.weight"].float(), weights[f"{name}.bias"]
    weights[f"{name}.weight"] = (whole @ directions.T).to(bias.dtype)
    weights[f"{name}.bias"] = (bias.float() + whole @ mean).to(bias.dtype)
save_file(weights, out)
with open(out, "rb") as file:
    os.fsync(file.fileno())
seconds = time.perf_counter() - begun
print(json.dumps({"seconds": seconds, "memory": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
"""


def run() -> Section:
    """Two tables: a row a model, and one of a model that fits into memory."""
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
            anatomy = _apart(PROGRAM, "anatomy", str(folder), f"{work}/out", {})
            made = _apart(PROGRAM, "compact", str(folder), f"{work}/out", options)
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
    lines += ["", *_beside_memory(aims)]
    return Section("\n".join(lines) + "\n", aims)


def write_sparse(name: str, folder: Path, **changes: Any) -> int:
    """Write the file, with random values where AdaLN and what makes c are; the bytes that the rest would take.

    changes: fields of the configuration that are other than in the published one
    """
    write_headers(name, folder, **changes)
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


def _beside_memory(aims: list[Aim]) -> list[str]:
    """The table of a model that is read whole into memory on the other side; its aims are added."""
    steps = 28
    with tempfile.TemporaryDirectory(prefix="tailprune-benchmark-") as work:
        folder, curve = Path(work) / "source", f"{work}/curve.pt"
        folder.mkdir()
        write_sparse("FLUX.1-dev", folder, **THIRD)
        model = recognise(open_source(folder))
        plan = plan_of(model, steps, None, (), None, None, None, None, "zero", None, None)
        torch.save(covered_by(model, plan, None)[0].read, curve)
        source, whole = str(folder / DIFFUSERS_WEIGHTS[0]), f"{work}/whole.safetensors"
        made = _apart(PROGRAM, "compact", str(folder), f"{work}/out", {"steps": steps, "pooled": "zero"})
        theirs = _apart(IN_MEMORY, source, whole, curve, model.names)
    before, _ = made["bytes"]
    sizes, times = [theirs["memory"], made["memory"]], [theirs["seconds"], made["seconds"]]
    question = "a third of FLUX.1-dev: compaction, against the whole model in memory"
    aims += [
        at_least(f"{question}: memory", sizes[:1], sizes[1:], LESS_MEMORY),
        Aim(f"{question}: time", "", f"{times[0] / times[1]:.2f}", None),
    ]
    return [
        f"A FLUX.1-dev of a third of its blocks, {before / 1e9:.1f} GB, as an exact table of {steps} steps. The other "
        "side reads all of it into memory by the safetensors library, folds AdaLN there, and writes it by the same "
        "library (fsync); it computes no error and no digests.\n",
        "| | time | peak memory |",
        "|---|---|---|",
        *(
            f"| {side} | {seconds:.1f} s | {memory / 1e9:.2f} GB |"
            for side, seconds, memory in zip(("the whole model in memory", "ours"), times, sizes, strict=True)
        ),
    ]


def _apart(program: str, *given: Any) -> dict[str, Any]:
    """What a program says, with its time and its memory, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(given)], capture_output=True, text=True, check=True
    )
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
