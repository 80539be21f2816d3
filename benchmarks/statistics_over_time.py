"""Does one Gram matrix for all timesteps beat a matrix of cosines a timestep?

The other side is what a user writes: a loop over the timesteps that adds, normalises, multiplies, and reduces what it
has, in float32 throughout. The vectors are random and as near-parallel as those of trained models: small differences
between classes beside a large part in common, which turns and grows with time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.cold_metrics import Peak
from benchmarks.report import Section, at_least, at_most, ratio, shown
from tailprune.statistics_over_time import DescriptionOverTime, describe_over_time

CLASSES, TIMES, DIM, ROUNDS = 1_000, 250, 1_152, 3
THRESHOLDS = (0.01, 0.05, 0.1, 0.5)


def parts() -> tuple[Tensor, Tensor]:
    """y, with shape (CLASSES, DIM), and t, with shape (TIMES, DIM)."""
    generator = torch.Generator().manual_seed(0)
    begin, end = torch.randn(2, DIM, generator=generator)
    share = torch.linspace(0, 1, TIMES)[:, None]
    return 0.3 * torch.randn(CLASSES, DIM, generator=generator), begin.lerp(3 * end, share)


def ours(y: Tensor, t: Tensor) -> dict[str, Tensor]:
    found: DescriptionOverTime = describe_over_time(y, t, THRESHOLDS)
    return {
        "mean cosine": found.cosine_mean,
        "least cosine": found.cosine_min,
        "greatest cosine": found.cosine_max,
        "nPR": found.npr,
        "PR, relative": found.pr,
        "norm, relative": found.norm,
        "sparsity": found.sparsity,
    }


@torch.inference_mode()
def a_matrix_a_timestep(y: Tensor, t: Tensor) -> dict[str, Tensor]:
    found: dict[str, list[Tensor]] = {}
    pairs = CLASSES * (CLASSES - 1)
    for time_part in t:
        c = y + time_part
        unit = F.normalize(c, dim=1)
        cosine = unit @ unit.T
        magnitudes = c.abs()
        pr = (magnitudes.sum(1).square() / c.square().sum(1)).mean()
        numbers = {
            "mean cosine": (cosine.sum() - cosine.trace()) / pairs,
            "least cosine": cosine.min(),
            "greatest cosine": cosine.fill_diagonal_(-1).max(),
            "nPR": pr / DIM,
            "PR, relative": pr,
            "norm, relative": c.norm(dim=1).mean(),
            "sparsity": torch.stack([(magnitudes < tau).float().mean() for tau in THRESHOLDS]),
        }
        for name, number in numbers.items():
            found.setdefault(name, []).append(number)
    return {name: torch.stack(numbers) for name, numbers in found.items()}


def run() -> Section:
    """Two tables: time of both sides and memory of ours; how far each number of one is from the other's."""
    y, t = parts()
    peak = Peak()
    mine = ours(y, t)
    memory = peak.bytes
    theirs = a_matrix_a_timestep(y, t)
    rounds = [(_seconds(a_matrix_a_timestep, y, t), _seconds(ours, y, t)) for _ in range(ROUNDS)]
    others, own = zip(*rounds, strict=True)
    cosines = theirs["mean cosine"]
    lines = [
        "## Statistics of all classes at all timesteps, against a matrix of cosines a timestep\n",
        f"{CLASSES} classes x {TIMES} timesteps, {DIM} components, mean cosine {cosines.min():.2f} to "
        f"{cosines.max():.2f}, sparsity at {len(THRESHOLDS)} thresholds; median of {ROUNDS} rounds (least to most). "
        f"Ours took {memory / 1e6:.0f} MB at its peak, above the vectors' two parts.\n",
        "| a matrix a timestep | one call | ratio |",
        "|---|---|---|",
        f"| {shown(others, _in_seconds)} | {shown(own, _in_seconds)} | {ratio(others, own)} |\n",
        "| number | largest difference over the timesteps |",
        "|---|---|",
        *(f"| {name} | {_difference(mine[name], theirs[name], name.endswith('relative')):.1e} |" for name in mine),
    ]
    worst = max(_difference(mine[name], theirs[name], name.endswith("relative")) for name in mine)
    return Section(
        "\n".join(lines) + "\n",
        [
            at_least("statistics over time, against a matrix a timestep", others, own, 10),
            at_most("its largest difference", worst, 1e-5),
        ],
    )


def _difference(mine: Tensor, theirs: Tensor, relative: bool) -> float:
    difference = (mine - theirs).abs()
    return (difference / mine if relative else difference).max().item()


def _seconds(side: Callable[[Tensor, Tensor], object], y: Tensor, t: Tensor) -> float:
    begun = time.perf_counter()
    side(y, t)
    return time.perf_counter() - begun


def _in_seconds(value: float) -> str:
    return f"{value:.2f} s"
