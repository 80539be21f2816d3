"""How much of this CPU's peak in products does sampling reach, and what takes the rest?

The peak is measured: the fastest product of two large matrices in float32, in any of the forms that a layer has. It is
timed anew beside each step, since the clock of a CPU, and what a virtual machine gets of it, change within seconds. The
operations of a network are counted from the sizes of its layers, and its time is divided among torch's operations by
torch's profiler.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.kernels import XL2
from benchmarks.report import Aim, Section
from benchmarks.sampling import S2, random_dit
from tailprune import sample
from tailprune.systems import System
from tailprune.systems.choices import Layer, measure
from tailprune.systems.kernels import forms_of
from tailprune.systems.speed import layers_of

LEAST_SHARE = 0.85
ROUNDS = 5
SIDE = 2048
KINDS = {
    "products of layers": ("aten::addmm", "aten::mm", "aten::mkldnn_convolution", "mkldnn::_linear_pointwise"),
    "attention": (
        "aten::bmm", "aten::baddbmm", "aten::_softmax", "aten::_scaled_dot_product_flash_attention_for_cpu"
    ),
    "GELU": ("aten::gelu", "aten::sigmoid", "aten::sigmoid_"),
    "LayerNorm": ("aten::native_layer_norm",),
    "shifts, scales and gates; the first pass of GELU": ("aten::addcmul", "aten::addcmul_"),
    "copies": ("aten::copy_", "aten::cat"),
}  # fmt: skip
"""torch's operations, by what they are for."""
OTHERS, OUTSIDE = "other operations", "between operations"


class Round(NamedTuple):
    """A step beside the peak of the same moment."""

    share: float
    """Of the peak."""
    seconds: float
    kinds: dict[str, float]
    """Seconds by kind of operation."""
    peak: float
    """Operations a second."""


def run() -> Section:
    """A table of both sizes: the time of a step by kind of operation, and the share of the peak."""
    peak_now = _peak_of(SIDE)
    rows: list[str] = []
    aims: list[Aim] = []
    peaks: list[float] = []
    for name, config, samples in (("DiT-S/2", S2, 4), ("DiT-XL/2", XL2, 1)):
        system = random_dit(config)
        work = _operations(system, samples)
        rounds = sorted(_rounds(system, samples, sum(work.values()), peak_now))
        peaks += [each.peak for each in rounds]
        of_peak, seconds, kinds, peak = rounds[ROUNDS // 2]
        for kind, took in sorted(kinds.items(), key=lambda each: -each[1]):
            reached = f"{work[kind] / took / peak:.0%}" if kind in work else ""
            rows.append(f"| {name} | {kind} | {1e3 * took:,.1f} ms | {took / seconds:.1%} | {reached} |")
        spread = f"{of_peak:.0%} ({rounds[0].share:.0%} to {rounds[-1].share:.0%})"
        rows.append(f"| {name} | **all** | {1e3 * seconds:,.1f} ms | 100.0% | {spread} |")
        question = f"{name}, float32: share of the measured peak of products"
        aims.append(Aim(question, f"at least {LEAST_SHARE:.0%}", f"{of_peak:.0%}", of_peak >= LEAST_SHARE))
    return Section(
        "## Share of the peak, and where the time goes\n\n"
        f"The fastest product of matrices of {SIDE:,} x {SIDE:,} numbers, in any form of a linear layer, made "
        f"{min(peaks) / 1e9:.0f} to {max(peaks) / 1e9:.0f} billion operations a second on {torch.get_num_threads()} "
        "threads, before and after each step. Random weights, float32, 8 rows of DiT-S/2 and 2 of DiT-XL/2, guided; a "
        f"step of DDIM, that of the median share of {ROUNDS} (least to most).\n\n"
        "| model | for | time | of all | share of the peak |\n|---|---|---|---|---|\n" + "\n".join(rows) + "\n",
        aims,
    )


def _peak_of(side: int) -> Callable[[], float]:
    """Measures the operations a second in a product of two matrices in float32, in its fastest form."""
    forms = forms_of(Layer("linear", (256, side, side), torch.float32))
    milliseconds = measure(forms, torch.float32)
    call = partial(forms.calls[min(milliseconds, key=lambda form: milliseconds[form])], forms.samples)
    return lambda: 2 * forms.samples * 256 * side**2 / min(_seconds(call) for _ in range(5))


@torch.no_grad()
def _rounds(system: System, samples: int, operations: int, peak_now: Callable[[], float]) -> list[Round]:
    """Steps, each with the peak of before and after: a step is the difference of four and two, halved."""
    inputs = {"labels": torch.arange(samples)}

    def run(steps: int) -> None:
        sample(system, inputs, steps=steps, guidance=4.0, seeds=range(samples), sampler="ddim")

    run(2)  # what is chosen and packed once
    rounds: list[Round] = []
    for _ in range(ROUNDS):
        before = peak_now()
        took: list[float] = []
        kinds: list[dict[str, float]] = []
        for steps in (2, 4):
            with profile(activities=[ProfilerActivity.CPU]) as profiled:
                took.append(_seconds(partial(run, steps)))
            kinds.append(_by_kind(profiled))
        peak = (before + peak_now()) / 2
        seconds = (took[1] - took[0]) / 2
        each = {kind: (after - kinds[0].get(kind, 0)) / 2 for kind, after in kinds[1].items()}
        each[OUTSIDE] = seconds - sum(each.values())
        rounds.append(Round(operations / seconds / peak, seconds, each, peak))
    return rounds


def _operations(system: System, samples: int) -> Counter[str]:
    """Multiplications and additions in the products of a step, both branches of guidance, by kind."""
    found: Counter[str] = Counter()
    for layer, count in layers_of(system).items():
        kind, each = _of(layer)
        found[kind] += 2 * samples * count * each
    return +found


def _of(layer: Layer) -> tuple[str, int]:
    match layer.kind, layer.sizes:
        case "linear", (tokens, inputs, outputs):
            return "products of layers", 2 * tokens * inputs * outputs
        case "attention", (heads, tokens, width):
            return "attention", 4 * heads * tokens * tokens * width
    return "GELU", 0


def _by_kind(profiled: profile) -> dict[str, float]:
    kind_of = {name: kind for kind, names in KINDS.items() for name in names}
    found: dict[str, float] = defaultdict(float)
    for event in profiled.key_averages():
        found[kind_of.get(event.key, OTHERS)] += event.self_cpu_time_total / 1e6
    return found


def _seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun
