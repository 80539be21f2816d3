"""Which trajectories a sampling run follows at each step.

The outputs of a run are a list of (sample, prune), a sample by its index from 0 to B - 1. Outputs of one sample share a
trajectory while their prunes agree, whatever steps these edit: a prune of the last k steps forks off where its edit
begins. Once apart they stay apart. All trajectories of a step go through the network as one batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tailprune.condition_table import ConditionTable
from tailprune.edit import AnyEdit

__all__ = ["Trajectories", "trajectories_by_step"]


@dataclass(frozen=True)
class Trajectories:
    """The R trajectories of a step, each with its prune, if any, at that step (its edit)."""

    parents: Tensor
    """The index of each trajectory among those of the step before, with shape (R,); at the first step, its sample."""
    samples: Tensor
    """The index of each trajectory's sample, with shape (R,)."""
    outputs: list[list[int]]
    """The indices of the outputs that each trajectory leads to."""
    vectors: list[tuple[AnyEdit | None, Tensor]]
    """The V distinct condition vectors of the step: for each edit, rows of the condition table."""
    conditional: Tensor
    """The index of each trajectory's vector among those V, with shape (R,)."""
    null: Tensor
    """The index of its null condition's vector, with shape (R,); empty if no step is guided."""


def trajectories_by_step(
    outputs: Sequence[tuple[int, AnyEdit | None]], steps: int, table: ConditionTable, guided: bool
) -> list[Trajectories]:
    """The trajectories of each step; the same object while no edit changes.

    outputs: samples, each with its prune
    steps: the number of steps
    table: the condition vectors of the samples
    guided: whether the null condition is evaluated too
    """
    edit_at = {prune: [prune and prune.at(i, steps) for i in range(steps)] for _, prune in outputs}
    edits = [tuple(edit_at[prune][i] for _, prune in outputs) for i in range(steps)]
    rows = table.rows.tolist()
    latest = [sample for sample, _ in outputs]  # the trajectory of each output; before the first step, its sample
    by_step: list[Trajectories] = []
    for i in range(steps):
        if i and edits[i] == edits[i - 1]:
            by_step.append(by_step[-1])
            continue
        forks: dict[tuple[int, AnyEdit | None], list[int]] = {}
        for output in range(len(outputs)):
            forks.setdefault((latest[output], edits[i][output]), []).append(output)
        for trajectory, indices in enumerate(forks.values()):
            for output in indices:
                latest[output] = trajectory
        samples = [outputs[indices[0]][0] for indices in forks.values()]
        by_step.append(_trajectories(forks, samples, [rows[sample] for sample in samples], table, guided))
    return by_step


def _trajectories(
    forks: dict[tuple[int, AnyEdit | None], list[int]],
    samples: list[int],
    rows: list[int],
    table: ConditionTable,
    guided: bool,
) -> Trajectories:
    """The trajectories of one step.

    forks: for each trajectory, by (parent, edit), the indices of its outputs
    samples: for each trajectory, the index of its sample
    rows: for each trajectory, the row of that sample in the table
    table: the condition vectors of the samples
    guided: whether the null condition is evaluated too
    """
    rows_of_edit: dict[AnyEdit | None, dict[int, None]] = {}  # each row once, in order
    for (_, edit), row in zip(forks, rows, strict=True):
        rows_of_edit.setdefault(edit, {})[row] = None
    if guided:
        for edit_rows in rows_of_edit.values():
            edit_rows[table.null_row] = None
    keys = [(edit, row) for edit, edit_rows in rows_of_edit.items() for row in edit_rows]
    vectors = {key: index for index, key in enumerate(keys)}

    def tensor(numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=table.device)

    return Trajectories(
        parents=tensor([parent for parent, _ in forks]),
        samples=tensor(samples),
        outputs=list(forks.values()),
        vectors=[(edit, tensor(list(edit_rows))) for edit, edit_rows in rows_of_edit.items()],
        conditional=tensor([vectors[edit, row] for (_, edit), row in zip(forks, rows, strict=True)]),
        null=tensor([vectors[edit, table.null_row] for _, edit in forks] if guided else []),
    )
