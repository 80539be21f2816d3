"""Which trajectories there are at each step of sampling.

Samples that are wanted under several prunes share a trajectory for as long as their prunes agree: a prune of the last k
steps forks off where its edit begins. All trajectories of a step go through the network as one batch.

What is wanted is a list of (sample, prune), a sample by its number from 0 to B - 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tailprune.condition_table import ConditionTable
from tailprune.pruning import Prune

__all__ = ["Trajectories", "trajectories_by_step"]


@dataclass(frozen=True)
class Trajectories:
    """The R trajectories of a step, each with the edit of its condition vector."""

    parents: Tensor
    """The trajectory of the step before that each goes on from, with shape (R,); at the first step, its sample."""
    samples: Tensor
    """The sample of each, with shape (R,)."""
    wanted: list[list[int]]
    """The places in the list of what is wanted that each stands for."""
    vectors: list[tuple[Prune | None, Tensor]]
    """The V condition vectors that the network reads, each once: by edit, the rows of the condition table."""
    conditional: Tensor
    """The place of each trajectory's vector among those V, with shape (R,)."""
    null: Tensor
    """The place of its null condition's, with shape (R,); empty where no step is guided."""


def trajectories_by_step(
    wanted: Sequence[tuple[int, Prune | None]], steps: int, table: ConditionTable, guided: bool
) -> list[Trajectories]:
    """The trajectories of each step; one object for as long as none forks and no edit changes.

    wanted: samples, each with its prune
    steps: how many
    table: the condition vectors of the samples
    guided: whether the null condition is evaluated too
    """
    edits = [tuple(_edit_at(prune, i, steps) for _, prune in wanted) for i in range(steps)]
    rows = table.rows.tolist()
    latest = [sample for sample, _ in wanted]  # the trajectory of each; before the first step, its sample
    by_step: list[Trajectories] = []
    for i in range(steps):
        if i and edits[i] == edits[i - 1]:
            by_step.append(by_step[-1])
            continue
        forks: dict[tuple[int, Prune | None], list[int]] = {}
        for place in range(len(wanted)):
            forks.setdefault((latest[place], edits[i][place]), []).append(place)
        for trajectory, places in enumerate(forks.values()):
            for place in places:
                latest[place] = trajectory
        samples = [wanted[places[0]][0] for places in forks.values()]
        by_step.append(_trajectories(forks, samples, [rows[sample] for sample in samples], table, guided))
    return by_step


def _trajectories(
    forks: dict[tuple[int, Prune | None], list[int]],
    samples: list[int],
    rows: list[int],
    table: ConditionTable,
    guided: bool,
) -> Trajectories:
    """Those of one step.

    forks: for each (parent, edit), the places that it stands for
    samples, rows: for each, its sample and that sample's row of the table
    """
    rows_of_edit: dict[Prune | None, dict[int, None]] = {}  # each row once, in order
    for (_, edit), row in zip(forks, rows, strict=True):
        rows_of_edit.setdefault(edit, {})[row] = None
    if guided:
        for of_edit in rows_of_edit.values():
            of_edit[table.null_row] = None
    vectors = {
        key: place for place, key in enumerate((edit, row) for edit, some in rows_of_edit.items() for row in some)
    }
    device = table.vectors.device

    def tensor(numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=device)

    return Trajectories(
        parents=tensor([parent for parent, _ in forks]),
        samples=tensor(samples),
        wanted=list(forks.values()),
        vectors=[(edit, tensor(list(some))) for edit, some in rows_of_edit.items()],
        conditional=tensor([vectors[edit, row] for (_, edit), row in zip(forks, rows, strict=True)]),
        null=tensor([vectors[edit, table.null_row] for _, edit in forks] if guided else []),
    )


def _edit_at(prune: Prune | None, step: int, steps: int) -> Prune | None:
    """What `prune` does at this step, whatever its schedule does at others."""
    if prune is None or not prune.active(step, steps):
        return None
    return replace(prune, schedule="every", count=None)
