"""How long does the error of a prune of a large model take, beside sampling it, and how much of its file is read?

The file is of the size of DiT-XL/2, with random weights, and none of it is in memory at first. The service reads the
tensors of the condition, and AdaLN's weights twice: for their digest, and for the metric, which the worker keeps. What
is read is counted as bytes that are asked for; the kernel may read further ahead. The other
side is what a user would run instead: samples of the same labels, pruned and not, of which one evaluation of the
network is timed.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import tomli_w
import torch
from safetensors import safe_open

import tailprune
from benchmarks.cold_metrics import CLASSES, ENTRY, NAME, XL, write_checkpoint
from benchmarks.report import Section, at_most
from benchmarks.stacks import stack
from jobs.registry.digests import weights_digest
from jobs.registry.models import Registry
from tailprune.checkpoints import files
from tailprune.spec.layouts import ADALN
from tailprune.spec.safetensors import read_header

LABELS, STEPS, GUIDANCE = [0, 125, 250, 375, 500, 625, 750, 875], 50, 2.0
FIRST, *LATER = 0.05, 0.04, 0.06, 0.07
MOST_SECONDS, MOST_SHARE = 2.0, 5.0


def run() -> Section:
    """One table: the first answer, later ones, all classes, and sampling."""
    with tempfile.TemporaryDirectory(prefix="tailprune-benchmark-") as folder:
        path = Path(folder) / ENTRY["checkpoint"]
        write_checkpoint(path)
        defaults = {"sampler": "ddim", "steps": STEPS, "guidance_scale": GUIDANCE, "labels": LABELS}
        shape = [XL["in_channels"], XL["input_size"], XL["input_size"]]
        registry = path.with_name("models.toml")
        registry.write_text(tomli_w.dumps({"models": {NAME: ENTRY | {"latent_shape": shape, "defaults": defaults}}}))
        with path.open("rb") as file:
            tensors = read_header(file).tensors
        wanted = sum(
            tensor.end - tensor.begin for name, tensor in tensors.items() if ADALN in name and name.endswith("weight")
        )
        size = path.stat().st_size
        beyond = _bytes_read(path) - 2 * wanted  # once for the digest, once for the metric
        evaluation = _seconds_an_evaluation(path)
        _forget(path)
        with stack(TAILPRUNE_REGISTRY=str(registry)) as fresh:

            def seconds(threshold: float, labels: list[int]) -> float:
                begun = time.perf_counter()
                (found,) = fresh.client.removal(NAME, threshold=threshold, label=labels).prunes
                assert found.modulation is not None
                return time.perf_counter() - begun

            first = seconds(FIRST, LABELS)
            later = sorted(seconds(threshold, LABELS) for threshold in LATER)
            of_all = seconds(LATER[0], list(range(CLASSES)))
    evaluations = len(LABELS) * STEPS * 2 * 2  # guided, and with and without the prune
    share = 100 * beyond / size
    lines = [
        "## The error of a prune of a large model, without sampling it\n",
        f"A DiT-XL/2 of random weights, {size / 1e9:.2f} GB as safetensors, of which AdaLN's weights are "
        f"{wanted / 1e9:.2f} GB; none of it in memory at first. `GET /metrics/{{model}}/removal` with a threshold that "
        f"was not asked for before, {STEPS} steps. {beyond / 1e6:.0f} MB ({share:.1f} %) of the file were read beyond "
        "AdaLN's weights.\n",
        "| | time |\n|---|---|",
        f"| {len(LABELS)} labels, the first time | {first:.1f} s |",
        f"| {len(LABELS)} labels, another threshold (least to most of {len(later)}) | {later[0]:.2f} s to "
        f"{later[-1]:.2f} s |",
        f"| all {CLASSES} classes | {of_all:.1f} s |",
        f"| a sample of each of {len(LABELS)} labels with and without the prune: {evaluations} evaluations of the "
        f"network at {evaluation:.1f} s | {evaluations * evaluation / 60:.0f} min |",
    ]
    return Section(
        "\n".join(lines) + "\n",
        [
            at_most("the error of a prune of 2.7 GB, after the first", later[len(later) // 2], MOST_SECONDS, " s"),
            at_most("read beyond AdaLN's weights, of the whole file", share, MOST_SHARE, " %"),
        ],
    )


@torch.inference_mode()
def _seconds_an_evaluation(path: Path) -> float:
    """Of the network for one sample, the second of two."""
    system = tailprune.load(path, family="dit")
    c = system.condition(500.0, {"labels": [0]})
    x = torch.randn(1, *system.latent_shape)
    for _ in range(2):
        begun = time.perf_counter()
        system(x, c)
    return time.perf_counter() - begun


def _forget(path: Path) -> None:
    """Have the kernel drop the file's pages from memory."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _bytes_read(path: Path) -> int:
    """How many bytes of the file are asked for: for the digest, and for the condition and the metric."""
    counts: list[int] = []

    class Counted:
        """A safetensors file that counts what is read of it."""

        def __init__(self, path: Path, framework: str) -> None:
            self._file = safe_open(path, framework)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def get_tensor(self, name: str) -> torch.Tensor:
            tensor: torch.Tensor = self._file.get_tensor(name)
            counts.append(tensor.nbytes)
            return tensor

    entry = Registry.read(path.with_name("models.toml")).get(NAME)
    before = _read_by_calls()
    with tempfile.TemporaryDirectory() as folder:
        weights_digest("modulation", entry, Path(folder))
    by_calls = _read_by_calls() - before
    with mock.patch.object(files, "safe_open", Counted):
        tailprune.load_condition(path, family="dit")
        tailprune.ModulationMetric.load(path, family="dit")
    return by_calls + sum(counts)


def _read_by_calls() -> int:
    """The bytes that this process has read by system calls, by proc_pid_io(5)."""
    return next(int(line.split()[1]) for line in Path("/proc/self/io").read_text().splitlines() if "rchar" in line)
