"""What a prune takes away from the vectors of a run: how many components, when, and what that does to c."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tailprune.condition_table import ConditionTable
from tailprune.pruning import Prune
from tailprune.statistics import participation_ratio, summarise_cosine
from tailprune.systems.base import Condition, Inputs

__all__ = ["Embedding", "Removal", "measure_removal"]


@dataclass(frozen=True)
class Embedding:
    """nPR and mean pairwise cosine of the condition vectors; no cosine for a single vector."""

    npr: float
    cosine: float | None


@dataclass(frozen=True)
class Removal:
    """Components removed from the condition vectors of the inputs, the null condition's aside."""

    mean: float
    """Components a vector, over the edited steps."""
    min: int
    max: int
    fraction: float
    """`mean` as a share of all d components, in [0, 1]."""
    by_step: list[float]
    """Components a vector at each sampling step; 0 where the schedule leaves the step alone."""
    measured_at_step: int
    """The first edited step, where `before` and `after` were measured."""
    before: Embedding
    after: Embedding


@torch.inference_mode()
def measure_removal(
    condition: Condition, inputs: Inputs, prune: Prune, times: Tensor, population: Inputs | None = None
) -> Removal:
    """What `prune` removes from the vectors of `inputs`. times, with shape (steps, stages), from `sampling_times`."""
    table = ConditionTable(condition, inputs, times, population)
    steps, stages = times.shape
    active = [i for i in range(steps) if prune.active(i, steps)]
    gone = torch.stack(
        [table.removed(i, stage, prune)[: table.null_row].sum(-1) for i in active for stage in range(stages)]
    ).view(len(active), stages, -1)  # (active steps, stages, U)
    by_step = dict(zip(active, gone.double().mean((1, 2)).tolist(), strict=True))
    first = active[0]
    mean = gone.double().mean().item()
    return Removal(
        mean=mean,
        min=int(gone.min()),
        max=int(gone.max()),
        fraction=mean / condition.condition_dim,
        by_step=[by_step.get(i, 0.0) for i in range(steps)],
        measured_at_step=first,
        before=_embedding(table.edited(first, 0, None)[: table.null_row]),
        after=_embedding(table.edited(first, 0, prune)[: table.null_row]),
    )


def _embedding(vectors: Tensor) -> Embedding:
    npr = participation_ratio(vectors).mean().item() / vectors.shape[1]
    return Embedding(npr=npr, cosine=summarise_cosine(vectors).mean if len(vectors) > 1 else None)
