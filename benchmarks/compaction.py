"""What does a compacted model save?

Zero fill is compared with the full model under the same prune, which it equals. What the other kinds cost is in
`docs/compaction.md`, by `python -m evidence.compaction`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.report import Aim, Section, at_least, at_most, ratio
from tailprune import Prune, compact, load, sample, sampling_times, save_system
from tailprune.systems import DiT, System
from tailprune.systems.dit import DiTConfig

MODELS = Path(__file__).parents[1] / "models"
ROUNDS, SAMPLES, STEPS = 5, 2, 4
AS_FAST = 0.97
"""The least ratio that counts as equally fast, given the noise of the machine."""
ROUNDING = 1e-5
THRESHOLD = 0.1
LIVE = 96
"""Components of the random model's condition that are more than a thousandth."""


def run() -> Section:
    """A table of zero fill: sizes and times."""
    aims: list[Aim] = []
    lines = [
        "## Compacted models, against the full ones\n",
        f"Zero fill: `sample` of {SAMPLES} samples, {STEPS} steps, guided, in turn, {ROUNDS} rounds; a ratio is of the "
        "full model's time to the compacted one's, AdaLN's of the run's modulations. The difference is that of the "
        "samples under the prune, relative. Memory is that of all tensors.\n",
        "| model | kept | AdaLN's parameters | all | memory | file | ratio, `sample` | ratio, AdaLN | difference |",
        "|---|---|---|---|---|---|---|---|---|",
        _zero_fill("shapes-sit", load(MODELS / "shapes-sit"), THRESHOLD, aims),
        _zero_fill("DiT-S/2 of random weights, dead tail", _dead_tail(), 0.001, aims),
        "",
    ]
    return Section("\n".join(lines) + "\n", aims)


def _zero_fill(name: str, full: System, threshold: float, aims: list[Aim]) -> str:
    made = compact(full, times=sampling_times(full, steps=STEPS), inputs=full.all_inputs(), threshold=threshold)

    def go(system: System, prune: Prune | None = None) -> Tensor:
        labels, seeds = torch.arange(SAMPLES), range(SAMPLES)
        return sample(system, {"labels": labels}, steps=STEPS, guidance=2.5, seeds=seeds, prune=prune)

    pruned = [go(system, Prune("tail", threshold)) for system in (full, made.system)]
    c = full.condition(torch.full((SAMPLES * STEPS,), float(full.facts.noise_time)), full.null_inputs(SAMPLES * STEPS))
    sampled, modulated = (
        _in_turn(go, full, made.system),
        _in_turn(lambda system: system.modulations(c), full, made.system),
    )
    difference = _drift(pruned[1], pruned[0])
    aims.append(at_most(f"{name}, zero fill: difference to the full model under the prune", difference, ROUNDING))
    aims.append(at_least(f"{name}, zero fill: `sample`, against the full model", *sampled, AS_FAST))
    memory, files = zip(*(_bytes(system) for system in (full, made.system)), strict=True)
    return (
        f"| {name} | {made.width} of {full.condition_dim} | {_change(made.adaln_parameters, 1e6, 'million')} "
        f"| {_change(made.parameters, 1e6, 'million')} | {_change(memory, 1e6, 'MB')} | {_change(files, 1e6, 'MB')} "
        f"| {ratio(*sampled)} | {ratio(*modulated)} | {difference:.1e} |"
    )


def _dead_tail() -> System:
    """A DiT-S/2 of random weights; all but some components of its condition are under a thousandth."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {"input_size": 32, "patch_size": 2, "in_channels": 4, "hidden_size": 384, "depth": 12}
    system = DiT(DiTConfig(**shape, num_heads=6, num_classes=1000))
    for tensor in system.state_dict().values():
        torch.nn.init.normal_(tensor, std=0.02)
    last = system.t_embedder.mlp[-1].state_dict()  # shares its memory
    for tensor in (system.y_embedder.embedding_table.weight.detach().T, last["weight"], last["bias"]):
        tensor[LIVE:] *= 1e-4
    return system.requires_grad_(False).eval()


def _bytes(system: System) -> tuple[int, int]:
    """The size of all tensors, and of the file."""
    tensors = system.state_dict().values()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        save_system(system, path)
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors), path.stat().st_size


def _change(pair: tuple[int, ...], unit: float, name: str) -> str:
    before, after = pair
    return f"{before / unit:.2f} to {after / unit:.2f} {name} (-{1 - after / before:.1%})"


def _drift(found: Tensor, baseline: Tensor) -> float:
    return ((found - baseline).norm() / baseline.norm()).item()


def _in_turn(go: Callable[[System], object], full: System, small: System) -> tuple[list[float], list[float]]:
    """Seconds of both, round by round."""
    rounds = [(_seconds(go, full), _seconds(go, small)) for _ in range(ROUNDS)]
    theirs, ours = zip(*rounds, strict=True)
    return list(theirs), list(ours)


def _seconds(go: Callable[[System], object], system: System) -> float:
    begun = time.perf_counter()
    go(system)
    return time.perf_counter() - begun
