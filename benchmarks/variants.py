"""Does one call with a list of prunes beat a call a prune?

The other side is what a user writes from the official sampling script: a loop over the variants, the whole batch of
each through the network at every step, conditional and null branch in one call, `c` edited where it is made.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from tailprune import Prune, load, sample
from tailprune.sampling import gaussian_noise
from tailprune.systems import System

MODEL = Path(__file__).parents[1] / "models" / "shapes-sit"
STEPS, SCALE, REPEATS = 50, 2.5, 5
LABELS = torch.arange(0, 100, 11)
SEEDS = [(0, int(label)) for label in LABELS]
CASES: dict[str, list[Prune | None]] = {
    "baseline and 3 tail prunes, every step": [None, *(Prune("tail", tau) for tau in (0.05, 0.1, 0.2))],
    "baseline and 3 tail prunes, last 10 steps": [
        None,
        *(Prune("tail", tau, "last", 10) for tau in (0.05, 0.1, 0.2)),
    ],
}


def ours(system: System, prunes: list[Prune | None]) -> list[Tensor]:
    return sample(system, {"labels": LABELS}, steps=STEPS, guidance=SCALE, prune=prunes, seeds=SEEDS)  # type: ignore[return-value]


@torch.inference_mode()
def a_call_a_prune(system: System, prunes: list[Prune | None]) -> list[Tensor]:
    both = torch.cat([LABELS, system.null_inputs(len(LABELS))["labels"]])
    results = []
    for prune in prunes:
        x = gaussian_noise(SEEDS, 0, system.latent_shape)
        for i in range(STEPS):
            c = system.condition(torch.full((len(both),), i / STEPS), {"labels": both})
            if prune is not None and prune.active(i, STEPS):
                c = prune(c)
            conditional, null = system(torch.cat([x, x]), c).chunk(2)
            x = x + (null + SCALE * (conditional - null)) / STEPS
        results.append(x)
    return results


def _seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def run() -> str:
    """One table: both sides in turn, median and spread of the ratio."""
    system = load(MODEL)
    lines = [
        "## One call with a list of prunes, against a call a prune\n",
        f"{len(LABELS)} samples of shapes-sit, Euler, {STEPS} steps, guidance {SCALE}; median of {REPEATS} rounds.\n",
        "| request | a call a prune | one call | ratio | least to most | largest difference |",
        "|---|---|---|---|---|---|",
    ]
    for name, prunes in CASES.items():
        pairs = zip(ours(system, prunes), a_call_a_prune(system, prunes), strict=True)
        difference = max((a - b).abs().max().item() for a, b in pairs)
        rounds = [
            (_seconds(partial(a_call_a_prune, system, prunes)), _seconds(partial(ours, system, prunes)))
            for _ in range(REPEATS)
        ]
        theirs, mine = (statistics.median(side) for side in zip(*rounds, strict=True))
        ratios = sorted(a / b for a, b in rounds)
        lines.append(
            f"| {name} | {theirs:.2f} s | {mine:.2f} s | {statistics.median(ratios):.2f} "
            f"| {ratios[0]:.2f} to {ratios[-1]:.2f} | {difference:.1e} |"
        )
    return "\n".join(lines) + "\n"
