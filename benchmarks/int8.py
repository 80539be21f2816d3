"""Would sampling be faster in int8, and at which drift?

Timed are linear layers of the sizes of DiT-S/2's blocks, quantised by torch (`quantize_dynamic`), which takes one scale
for all activations of a call, so that a sample would depend on what else is in its batch. Drift is that of a scale for
each row of the activations and each output of the weights, with the products in float32: the best that int8 can do.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.report import Section
from benchmarks.sampling import S2
from demo import ROOT
from tailprune import load, sample
from tailprune.systems import System
from tailprune.systems.layers import Linear

ROUNDS, ROWS, LARGEST = 7, 8, 127
SHIPPED = {"shapes-sit": "euler", "shapes-dit": "ddim"}


def run() -> Section:
    """A table of times of layers, and one of the drift of shipped models."""
    tokens, width = (S2["input_size"] // S2["patch_size"]) ** 2, S2["hidden_size"]
    times = [
        f"| {inputs:,} to {outputs:,} | {1e3 * wide:.1f} ms | {1e3 * narrow:.1f} ms | {wide / narrow:.2f} |"
        for inputs, outputs in ((width, width), (width, 3 * width), (width, 4 * width), (4 * width, width))
        for wide, narrow in [_times(ROWS * tokens, inputs, outputs)]
    ]
    drifts = [f"| {name} | {narrow:.4f} | {eight:.4f} |" for name in SHIPPED for narrow, eight in [_drifts(name)]]
    return Section(
        "## int8\n\n"
        f"A linear layer of {ROWS} x {tokens} rows in float32, and quantised dynamically to int8 by torch "
        f"({torch.backends.quantized.engine}), {torch.get_num_threads()} threads; the least of {ROUNDS} rounds.\n\n"
        "| layer | float32 | int8 | ratio |\n|---|---|---|---|\n" + "\n".join(times) + "\n\n"
        "Drift of 20 samples, 20 steps, guided at 2.5, from those in float32: |a - b| / |b|.\n\n"
        "| model | bfloat16 | int8, a scale for each row and output |\n|---|---|---|\n" + "\n".join(drifts) + "\n",
        [],
    )


@torch.no_grad()
def _times(rows: int, inputs: int, outputs: int) -> tuple[float, float]:
    """Seconds of a layer in float32 and in int8."""
    x, layer = torch.randn(rows, inputs), nn.Linear(inputs, outputs)
    with warnings.catch_warnings(action="ignore"):  # torch moves quantisation to another package
        quantised = torch.ao.quantization.quantize_dynamic(nn.Sequential(layer), {nn.Linear}, dtype=torch.qint8)
    rounds = [(_seconds(lambda: layer(x)), _seconds(lambda: quantised(x))) for _ in range(ROUNDS)]
    return min(wide for wide, _ in rounds), min(narrow for _, narrow in rounds)


def _drifts(name: str) -> tuple[float, float]:
    """Drift of a shipped model's samples in bfloat16 and in int8."""
    system = load(ROOT / "models" / name)
    narrow = copy.deepcopy(system)
    narrow.compute_in(torch.bfloat16)
    whole, *others = (_samples(each, SHIPPED[name]) for each in (system, narrow, _in_int8(system)))
    first, second = (float((other - whole).norm() / whole.norm()) for other in others)
    return first, second


@torch.no_grad()
def _in_int8(system: System) -> System:
    """A copy in which the linear layers over tokens read and hold what int8 can hold."""
    quantised = copy.deepcopy(system)
    for layer in quantised.modules():
        if isinstance(layer, Linear):
            layer.weight.copy_(_rounded(layer.weight))
            layer.register_forward_pre_hook(lambda _, given: (_rounded(given[0]),))
    return quantised


def _rounded(x: Tensor) -> Tensor:
    """The nearest numbers with 8 bits and a sign, and a scale for each row. x, with shape (..., n) -> the same."""
    scale = x.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny) / LARGEST
    return (x / scale).round() * scale


def _samples(system: System, sampler: str) -> Tensor:
    inputs = {"labels": torch.arange(20) * 5}
    return sample(system, inputs, sampler=sampler, steps=20, guidance=2.5, seeds=[(0, n) for n in range(20)])


def _seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun
