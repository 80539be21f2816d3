"""Does the first `GET /metrics/{model}` of a large file beat loading the model to measure it?

The file is of the size of DiT-XL/2, with random weights. The service and its worker have just started; the time
includes hashing the condition's tensors. The other side is a process of its own that loads
the model and measures its vectors, once as the official sampling script does, and once with the tensors left in the
file. Memory is the peak of resident memory, by the Linux kernel, above that with everything imported.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import tomli_w
import torch
from safetensors.torch import load_file, save_file

from benchmarks.report import Section, at_least, ratio, shown
from benchmarks.stacks import stack
from tailprune import describe
from tailprune.systems.dit import DiT, DiTConfig

ROUNDS = 3
NAME = "xl"
CLASSES, NOISE_TIME = 1000, 999.0
XL: dict[str, Any] = {
    "input_size": 32, "patch_size": 2, "in_channels": 4, "hidden_size": 1152, "depth": 28, "num_heads": 16,
    "num_classes": CLASSES,
}  # fmt: skip
ENTRY: dict[str, Any] = {"family": "dit", "checkpoint": "xl.safetensors", "classes": CLASSES, "condition_dim": 1152}
PROGRAMS = ("service.server", "workers.app")
"""The programs of the processes that compute an answer."""


@dataclass(frozen=True)
class Cost:
    """Time and memory of one answer, and a number of it to compare."""

    seconds: float
    bytes: int
    npr: float


class Peak:
    """The peak of a process' resident memory above what it is now."""

    def __init__(self, process: int | str = "self") -> None:
        self._folder = Path("/proc") / str(process)
        (self._folder / "clear_refs").write_text("5")  # forgets the peak so far, proc_pid_clear_refs(5)
        self._before = self._bytes("VmRSS")

    @property
    def bytes(self) -> int:
        """The peak so far, in bytes."""
        return self._bytes("VmHWM") - self._before

    def _bytes(self, field: str) -> int:
        lines = (self._folder / "status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def as_the_official_script(path: Path) -> Cost:
    """The model built, the file loaded, its tensors copied into the model.

    Building draws values for the weights once; the official model draws them twice.
    """
    peak, begun = Peak(), time.perf_counter()
    model = DiT(DiTConfig(**XL))
    model.load_state_dict(load_file(path))
    npr = _npr(model.eval())
    return Cost(time.perf_counter() - begun, peak.bytes, npr)


def left_in_the_file(path: Path) -> Cost:
    """The model built without values, the file's tensors assigned: tensors that are not read are not loaded."""
    peak, begun = Peak(), time.perf_counter()
    with torch.device("meta"):
        model = DiT(DiTConfig(**XL))
    model.load_state_dict(load_file(path), assign=True)
    npr = _npr(model.eval())
    return Cost(time.perf_counter() - begun, peak.bytes, npr)


def ours(path: Path) -> Cost:
    """`GET /metrics/{model}` of a stack that has just started; memory of service and worker together."""
    with stack(TAILPRUNE_REGISTRY=str(path.with_name("models.toml"))) as fresh:
        peaks = [
            Peak(process.pid)
            for process in psutil.Process().children(recursive=True)
            if any(program in process.cmdline() for program in PROGRAMS)
        ]
        assert len(peaks) == len(PROGRAMS), "a stack has a service and a worker"
        begun = time.perf_counter()
        answer = fresh.client.metrics(NAME)
        seconds = time.perf_counter() - begun
        return Cost(seconds, sum(peak.bytes for peak in peaks), answer.npr)


OTHERS: dict[str, Callable[[Path], Cost]] = {
    "loaded as the official script does": as_the_official_script,
    "built on `meta`, tensors left in the file": left_in_the_file,
}


def run() -> Section:
    """One table: time and memory of both ways to load the model, each beside ours."""
    costs: dict[str, list[Cost]] = {name: [] for name in [*OTHERS, "ours"]}
    with tempfile.TemporaryDirectory(prefix="tailprune-benchmark-") as folder:
        path = Path(folder) / ENTRY["checkpoint"]
        parameters = write_checkpoint(path)
        entry = ENTRY | {"latent_shape": [XL["in_channels"], XL["input_size"], XL["input_size"]]}
        path.with_name("models.toml").write_text(tomli_w.dumps({"models": {NAME: entry}}))
        for _ in range(ROUNDS):
            for name, load in OTHERS.items():
                costs[name].append(_apart(load, path))
            costs["ours"].append(ours(path))
        size = path.stat().st_size
    nprs = [cost.npr for side in costs.values() for cost in side]
    assert all(math.isclose(npr, nprs[0], rel_tol=1e-5) for npr in nprs), "all sides measure the same vectors"
    lines = [
        "## The first `GET /metrics/{model}` of a large file, against loading the model to measure it\n",
        f"A DiT-XL/2 of {parameters / 1e6:.0f} million random parameters, {size / 1e9:.2f} GB as safetensors, in the "
        f"page cache; statistics of all {CLASSES} condition vectors. Median of {ROUNDS} rounds (least to most).\n",
        "| the other side | its time | `GET /metrics` | ratio | its peak memory | `GET /metrics` | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    aims = []
    for name, least in zip(OTHERS, (20, None), strict=True):
        seconds, memory = ([[getattr(cost, of) for cost in costs[side]] for side in (name, "ours")] for of in FIELDS)
        lines.append(
            f"| {name} | {' | '.join(shown(side, _seconds) for side in seconds)} | {ratio(*seconds)} "
            f"| {' | '.join(shown(side, _megabytes) for side in memory)} | {ratio(*memory)} |"
        )
        if least is not None:
            aims.append(
                at_least("cold `GET /metrics` of 2.7 GB, against loading it: time", seconds[0], seconds[1], least)
            )
            aims.append(at_least("the same: peak memory", memory[0], memory[1], least))
    return Section("\n".join(lines) + "\n", aims)


FIELDS = ("seconds", "bytes")


def write_checkpoint(path: Path) -> int:
    """Write the file; return the number of parameters."""
    with torch.device("meta"):
        model = DiT(DiTConfig(**XL))
    torch.manual_seed(0)
    save_file({name: 0.02 * torch.randn(tensor.shape) for name, tensor in model.state_dict().items()}, path)
    return sum(tensor.numel() for tensor in model.state_dict().values())


@torch.inference_mode()
def _npr(model: DiT) -> float:
    c = model.condition(torch.full((CLASSES,), NOISE_TIME), {"labels": torch.arange(CLASSES)})
    return describe(c).npr


def _apart(load: Callable[[Path], Cost], path: Path) -> Cost:
    """Measure in a fresh process, with everything imported."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(load, path).result()


def _seconds(value: float) -> str:
    return f"{value:.2f} s"


def _megabytes(value: float) -> str:
    return f"{value / 1e6:.0f} MB"
