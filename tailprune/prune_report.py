"""What a prune removes from the condition vectors of a sampling run: how much, when, and what that does to them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tailprune.condition_table import ConditionTable
from tailprune.pruning import Prune
from tailprune.statistics import participation_ratio, summarise_cosine
from tailprune.systems.base import Condition, Inputs

__all__ = ["Removal", "VectorStatistics", "measure_removal"]


@dataclass(frozen=True)
class VectorStatistics:
    """Statistics of the condition vectors of one evaluation (see `tailprune.statistics`)."""

    npr: float
    """The mean of their participation ratios, divided by d."""
    cosine: float | None
    """Their mean pairwise cosine; None for a single vector."""


@dataclass(frozen=True)
class Removal:
    """Components removed from the condition vectors of the inputs; the null condition's is not counted."""

    mean: float
    """Components removed of a vector, over all evaluations of the edited steps."""
    min: int
    """The fewest of any vector there."""
    max: int
    """The most of any vector there."""
    fraction: float
    """`mean` as a share of all d components, in [0, 1]."""
    by_step: list[float]
    """Components removed of a vector, for each sampling step; 0 where the schedule leaves the step alone."""
    measured_at_step: int
    """The first edited step, where `before` and `after` were measured."""
    before: VectorStatistics
    after: VectorStatistics


@torch.inference_mode()
def measure_removal(
    condition: Condition, inputs: Inputs, prune: Prune, times: Tensor, population: Inputs | None = None
) -> Removal:
    """What `prune` removes from the condition vectors of `inputs` while they are sampled.

    condition: a condition, or a whole system
    inputs: what the samples are conditioned on
    prune: the prune, with its schedule
    times: when each step evaluates the network, with shape (steps, stages), from `sampling_times`
    population: inputs that stand for all classes where the prune takes their mean or variance; needed where the system
        has no classes

    Raises InputError for inputs or a population that the system does not take.
    """
    table = ConditionTable(condition, inputs, times, population)
    steps, stages = times.shape
    active = [i for i in range(steps) if prune.active(i, steps)]
    gone = torch.stack(
        [table.removed_at(i, stage, prune)[: table.null_row].sum(-1) for i in active for stage in range(stages)]
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
        before=_statistics(table.vectors_at(first, 0, None)[: table.null_row]),
        after=_statistics(table.vectors_at(first, 0, prune)[: table.null_row]),
    )


def _statistics(vectors: Tensor) -> VectorStatistics:
    npr = participation_ratio(vectors).mean().item() / vectors.shape[1]
    return VectorStatistics(npr=npr, cosine=summarise_cosine(vectors).mean if len(vectors) > 1 else None)
