"""Is one call with a list of prunes faster than one call for each?

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

from benchmarks.report import Section, at_least
from tailprune import Prune, load, sample
from tailprune.sampling import Seed, gaussian_noise
from tailprune.systems import System

MODEL = Path(__file__).parents[1] / "models" / "shapes-sit"
STEPS, EDITED, SCALE, REPEATS = 50, 10, 2.5, 3
LABELS = torch.arange(0, 100, 11)
THRESHOLDS = (0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2)
EVERY: list[Prune | None] = [Prune("tail", tau) for tau in THRESHOLDS]
LAST: list[Prune | None] = [None, *(Prune("tail", tau, "last", EDITED) for tau in THRESHOLDS)]
CASES: dict[str, tuple[list[Prune | None], int, float | None]] = {
    f"baseline and 8 thresholds, last {EDITED} steps, 10 samples": (LAST, 10, 3),
    "8 thresholds, every step, 10 samples": (EVERY, 10, 1.1),
    "8 thresholds, every step, 4 samples": (EVERY, 4, None),
    "8 thresholds, every step, 1 sample": (EVERY, 1, None),
}
"""Prunes, number of samples, and the ratio to reach."""


def ours(system: System, prunes: list[Prune | None], labels: Tensor) -> list[Tensor]:
    return sample(system, {"labels": labels}, steps=STEPS, guidance=SCALE, prune=prunes, seeds=_seeds(labels))


@torch.inference_mode()
def a_call_a_prune(system: System, prunes: list[Prune | None], labels: Tensor) -> list[Tensor]:
    both = torch.cat([labels, system.null_inputs(len(labels))["labels"]])
    results = []
    for prune in prunes:
        x = gaussian_noise(_seeds(labels), 0, system.latent_shape)
        for i in range(STEPS):
            c = system.condition(torch.full((len(both),), i / STEPS), {"labels": both})
            if prune is not None and prune.active(i, STEPS):
                c = prune(c)
            conditional, null = system(torch.cat([x, x]), c).chunk(2)
            x = x + (null + SCALE * (conditional - null)) / STEPS
        results.append(x)
    return results


def _seeds(labels: Tensor) -> list[Seed]:
    return [(0, int(label)) for label in labels]


def _seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def run() -> Section:
    """One table: both sides in turn, median and spread of the ratio."""
    system = load(MODEL)
    apart, together = len(LAST) * STEPS, STEPS - EDITED + len(LAST) * EDITED
    lines = [
        "## One call with a list of prunes, against a call a prune\n",
        f"shapes-sit, Euler, {STEPS} steps, guidance {SCALE}; median of {REPEATS} rounds. Runs that part at "
        f"the last {EDITED} of {STEPS} steps share {STEPS - EDITED}: {together} evaluations of a sample stand for "
        f"{apart}, {apart / together:.2f} times fewer. Runs that part at once only share a batch.\n",
        "| request | a call a prune | one call | ratio | least to most | largest difference |",
        "|---|---|---|---|---|---|",
    ]
    aims = []
    for name, (prunes, count, least) in CASES.items():
        labels = LABELS[:count]
        pairs = zip(ours(system, prunes, labels), a_call_a_prune(system, prunes, labels), strict=True)
        difference = max((a - b).abs().max().item() for a, b in pairs)
        rounds = [
            (_seconds(partial(a_call_a_prune, system, prunes, labels)), _seconds(partial(ours, system, prunes, labels)))
            for _ in range(REPEATS)
        ]
        others, own = zip(*rounds, strict=True)
        if least is not None:
            aims.append(at_least(f"{name}, against a call each", others, own, least))
        theirs, mine = statistics.median(others), statistics.median(own)
        ratios = sorted(a / b for a, b in rounds)
        lines.append(
            f"| {name} | {theirs:.2f} s | {mine:.2f} s | {statistics.median(ratios):.2f} "
            f"| {ratios[0]:.2f} to {ratios[-1]:.2f} | {difference:.1e} |"
        )
    return Section("\n".join(lines) + "\n", aims)
