"""What a prune removes from the condition vectors of a sampling run, and their nPR and cosine before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tailprune.arguments import of_kind
from tailprune.condition_table import ConditionTable
from tailprune.pruning import Prune
from tailprune.spec.display import Shown
from tailprune.spec.edit import ModulationGuidance
from tailprune.statistics import participation_ratio, summarise_cosine
from tailprune.systems.base import Condition, InputsLike

__all__ = ["Removal", "VectorStatistics", "measure_removal"]


@dataclass(frozen=True, repr=False)
class VectorStatistics(Shown):
    """Statistics of the condition vectors of one evaluation (see `tailprune.statistics`)."""

    npr: float
    """The mean of their participation ratios (sum_k |v_k|)^2 / sum_k v_k^2, divided by d; a fraction."""
    cosine: float | None
    """Their mean pairwise cosine; None for a single vector."""


@dataclass(frozen=True, repr=False)
class Removal(Shown):
    """Components removed from the condition vectors of the inputs; the null condition's is not counted."""

    mean: float
    """The mean number of components removed per vector, over all evaluations of the pruned steps."""
    min: int
    """The smallest number removed from any of these vectors."""
    max: int
    """The largest number removed from any of these vectors."""
    fraction: float
    """`mean` divided by d, in [0, 1]."""
    by_step: list[float]
    """The mean number of components removed per vector at each sampling step; 0 at a step that is not pruned."""
    threshold: float | None
    """The threshold of the prune: for one that removes a share, what that came to; None for one that keeps a number, or
    has a threshold for each step."""
    measured_at_step: int
    """The first pruned step, at which `before` and `after` are measured."""
    before: VectorStatistics
    after: VectorStatistics


@torch.inference_mode()
def measure_removal(
    condition: Condition,
    inputs: InputsLike,
    prune: Prune,
    times: Tensor,
    population: InputsLike | None = None,
    modulation: ModulationGuidance | None = None,
) -> Removal:
    """Measure what `prune` removes from the condition vectors of `inputs` over a sampling run.

    condition: a condition, or a whole system
    inputs: what the samples are conditioned on
    prune: the prune, with its schedule
    times: the times at which each step evaluates the network, with shape (steps, stages), from `sampling_times`
    population: inputs for the mean or variance that the prune may need, all classes by default; required for such a
        prune if the system has no classes
    modulation: modulation guidance, which moves the vectors before they are pruned; none by default

    What is removed is that of c, whichever blocks see it.

    Raises InputError for inputs, times or a population that the system does not take, no inputs, or steps or thresholds
    by step that do not fit the run.
    """
    of_kind(Prune, "prune", prune, "a Prune, such as Prune('tail', 0.05)")
    table = ConditionTable(condition, inputs, times, population, modulation)
    condition.check_times(times)
    steps, stages = table.steps, table.stages
    prune.check_steps(steps)
    prune = table.resolved(prune)
    active = [i for i in range(steps) if prune.active(i, steps)]
    removed = torch.stack(
        [table.removed_at(i, stage, prune)[: table.null_row].sum(-1) for i in active for stage in range(stages)]
    ).view(len(active), stages, -1)  # (active steps, stages, U)
    by_step = dict(zip(active, removed.double().mean((1, 2)).tolist(), strict=True))
    first = active[0]
    mean = removed.double().mean().item()
    return Removal(
        mean=mean,
        min=int(removed.min()),
        max=int(removed.max()),
        fraction=mean / condition.condition_dim,
        by_step=[by_step.get(i, 0.0) for i in range(steps)],
        threshold=None if isinstance(prune.threshold, Sequence) else prune.threshold,
        measured_at_step=first,
        before=_statistics(table.vectors_at(first, 0, None)[: table.null_row]),
        after=_statistics(table.vectors_at(first, 0, prune)[: table.null_row]),
    )


def _statistics(vectors: Tensor) -> VectorStatistics:
    npr = participation_ratio(vectors).mean().item() / vectors.shape[1]
    return VectorStatistics(npr=npr, cosine=summarise_cosine(vectors).mean if len(vectors) > 1 else None)
