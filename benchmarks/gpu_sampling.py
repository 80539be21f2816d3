"""On a GPU: is sampling DiT-XL/2 faster than diffusers, how near to the card's peak, and are many prunes cheaper?

Random weights; ours in bfloat16, diffusers' pipeline in float16, both as they are and both compiled. The card's peak is
that of a product of two large matrices in bfloat16, measured here. What a sample computes is counted by its matrix
products alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.diffusers_side import converted, pipeline
from benchmarks.report import Aim, Section, at_least, not_run, ratio, shown
from tailprune import Guidance, Prune, sample
from tailprune.sampling import compile_network
from tailprune.systems import DiT
from tailprune.systems.dit import DiTConfig

XL: dict[str, Any] = {
    "input_size": 32, "patch_size": 2, "in_channels": 4, "hidden_size": 1152, "depth": 28, "num_heads": 16,
    "num_classes": 1000,
}  # fmt: skip
BATCHES, STEPS, SCALE, ROUNDS = (1, 8, 64), 50, 4.0, 3
THRESHOLDS, LABELS = (0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2), 8
MATRIX, PRODUCTS = 8192, 20

FASTER, SHARE, CHEAPER = 1.5, 0.5, 3.0
"""The aims, with both sides compiled."""
SHARE_QUESTION = f"on a GPU: share of the measured peak in bfloat16, batch {BATCHES[-1]}"
PRUNES_QUESTION = f"on a GPU: {len(THRESHOLDS)} thresholds on every step, {LABELS} labels, against a call each"

HEAD = "## On a GPU: DiT-XL/2, against diffusers' pipeline\n\n"


def run() -> Section:
    """Two tables; without a GPU, the aims as not run."""
    if not torch.cuda.is_available():
        reaches = [*(f"at least {FASTER:g}" for _ in BATCHES), f"at least {SHARE:.0%}", f"at least {CHEAPER:g}"]
        questions = [*map(_question, BATCHES), SHARE_QUESTION, PRUNES_QUESTION]
        text = HEAD + "Not run: this machine has no GPU. `python -m benchmarks gpu_sampling` is for one that has.\n"
        return Section(text, [not_run(*each, "no GPU") for each in zip(questions, reaches, strict=True)])
    return measure(torch.device("cuda"), XL, BATCHES, STEPS)


def measure(device: torch.device, shape: dict[str, Any], batches: tuple[int, ...], steps: int) -> Section:
    """The tables, of a DiT of this shape."""
    torch.manual_seed(0)
    system = DiT(DiTConfig(**shape)).requires_grad_(False).eval()
    for tensor in system.state_dict().values():
        torch.nn.init.normal_(tensor, std=0.02)
    model = converted(system).to(device, torch.float16)
    system.to(device).compute_in(torch.bfloat16)
    peak = _peak(device)
    lines, aims = [], []
    for compiled in (False, True):
        if compiled:
            compile_network(system)
            model = torch.compile(model, mode="reduce-overhead")
        piped = pipeline(model)
        for batch in batches:
            theirs = _times(partial(_piped, piped, batch, steps), device)
            ours = _times(partial(_sampled, system, batch, steps), device)
            share = _work(system, batch, steps) / statistics.median(ours) / peak
            lines.append(
                f"| {batch} | {'both' if compiled else 'neither'} | {shown(theirs, _seconds)} "
                f"| {shown(ours, _seconds)} | {ratio(theirs, ours)} | {share:.0%} |"
            )
            if compiled:
                aims.append(at_least(_question(batch), theirs, ours, FASTER))
    aims.append(Aim(SHARE_QUESTION, f"at least {SHARE:.0%}", f"{share:.0%}", share >= SHARE))
    system.compiled = None
    prunes = [Prune("tail", threshold) for threshold in THRESHOLDS]
    apart = _times(lambda: [_sampled(system, LABELS, steps, prune) for prune in prunes], device)
    together = _times(lambda: _sampled(system, LABELS, steps, prunes), device)
    aims.append(at_least(PRUNES_QUESTION, apart, together, CHEAPER))
    text = (
        HEAD + f"{_name(device)}, whose peak in bfloat16 was measured as {peak / 1e12:.0f} TFLOP/s. Random weights, "
        f"{steps} steps, guidance {SCALE:g}; median of {ROUNDS} rounds (least to most).\n\n"
        "| batch | compiled | diffusers, float16 | ours, bfloat16 | ratio | share of the peak |\n"
        "|---|---|---|---|---|---|\n"
        + "\n".join(lines)
        + f"\n\n| {len(prunes)} prunes on every step, {LABELS} labels | a call a prune | one call | ratio |\n"
        f"|---|---|---|---|\n| | {shown(apart, _seconds)} | {shown(together, _seconds)} | {ratio(apart, together)} |\n"
    )
    return Section(text, aims)


def _question(batch: int) -> str:
    return f"on a GPU: DiT-XL/2 in bfloat16, batch {batch}, against diffusers in float16"


def _sampled(system: DiT, batch: int, steps: int, prune: Any = None) -> object:
    return sample(
        system, {"labels": torch.arange(batch)}, sampler="ddim", steps=steps, prune=prune,
        guidance=Guidance(SCALE, channels=system.latent_shape[0]), seeds=range(batch),
    )  # fmt: skip


def _piped(piped: Any, batch: int, steps: int) -> Tensor:
    made: Tensor = piped(list(range(batch)), guidance_scale=SCALE, num_inference_steps=steps, output_type="pt").images
    return made


def _work(system: DiT, batch: int, steps: int) -> float:
    """The floating-point operations of a guided batch, in matrix products of blocks."""
    tokens, dim = system.grid[0] * system.grid[1], system.condition_dim
    of_a_block = 24 * tokens * dim**2 + 4 * tokens**2 * dim
    return 2.0 * batch * steps * len(system.blocks) * of_a_block


def _peak(device: torch.device) -> float:
    """Floating-point operations a second of a product of two large matrices in bfloat16."""
    a, b = torch.randn(2, MATRIX, MATRIX, device=device, dtype=torch.bfloat16)

    def products() -> None:
        for _ in range(PRODUCTS):
            torch.mm(a, b)

    return 2.0 * MATRIX**3 * PRODUCTS / min(_times(products, device))


def _times(run: Callable[[], object], device: torch.device) -> list[float]:
    run()  # compiles and allocates
    times = []
    for _ in range(ROUNDS):
        _wait(device)
        begun = time.perf_counter()
        run()
        _wait(device)
        times.append(time.perf_counter() - begun)
    return times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _seconds(value: float) -> str:
    return f"{value:.2f} s"
