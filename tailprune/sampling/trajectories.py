"""Which trajectories there are at each step of sampling.

Samples that are wanted under several prunes share a trajectory for as long as their prunes agree: a prune of the last k
steps forks off where its edit begins. All trajectories of a step go through the network as one batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tailprune.condition_table import ConditionTable
from tailprune.pruning import Prune

__all__ = ["Phase", "Want", "phases_of"]

Want = tuple[int, Prune | None]
"""A sample by its number, and the prune that it is wanted under."""


@dataclass(frozen=True)
class Phase:
    """Steps in a row with the same trajectories, each under the same edit."""

    parents: Tensor
    """The trajectory of the phase before that each comes from, (R,); of the first phase, the sample."""
    samples: Tensor
    """The sample of each, (R,)."""
    wants: list[list[int]]
    """What each stands for."""
    asks: list[tuple[Prune | None, Tensor]]
    """The condition vectors that are told to the network: edits, and for each the rows of the condition table."""
    conditional: Tensor
    """Where the vector of each trajectory stands among all that is asked for, (R,)."""
    null: Tensor
    """The same of its null condition; empty where nothing is guided."""


def phases_of(wants: Sequence[Want], steps: int, table: ConditionTable, guided: bool) -> list[Phase]:
    """The phase of each step. A phase that lasts is one object."""
    edits = [tuple(_edit_at(prune, i, steps) for _, prune in wants) for i in range(steps)]
    rows = table.rows.tolist()
    at = [sample for sample, _ in wants]  # the trajectory of each want; before the first step, its sample
    phases: list[Phase] = []
    for i in range(steps):
        if i and edits[i] == edits[i - 1]:
            phases.append(phases[-1])
            continue
        forks: dict[tuple[int, Prune | None], list[int]] = {}
        for want in range(len(wants)):
            forks.setdefault((at[want], edits[i][want]), []).append(want)
        for track, members in enumerate(forks.values()):
            for want in members:
                at[want] = track
        samples = [wants[members[0]][0] for members in forks.values()]
        phases.append(_phase(forks, samples, [rows[sample] for sample in samples], table, guided))
    return phases


def _phase(
    forks: dict[tuple[int, Prune | None], list[int]],
    samples: list[int],
    own: list[int],
    table: ConditionTable,
    guided: bool,
) -> Phase:
    """own: for each trajectory, the row of its condition in the table."""
    asked: dict[Prune | None, dict[int, None]] = {}  # rows of the table by edit, each once
    for (_, edit), row in zip(forks, own, strict=True):
        asked.setdefault(edit, {})[row] = None
    if guided:
        for of_edit in asked.values():
            of_edit[table.null_row] = None
    places = {key: place for place, key in enumerate((edit, row) for edit, rows in asked.items() for row in rows)}
    device = table.vectors.device

    def tensor(numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=device)

    return Phase(
        parents=tensor([parent for parent, _ in forks]),
        samples=tensor(samples),
        wants=list(forks.values()),
        asks=[(edit, tensor(list(rows))) for edit, rows in asked.items()],
        conditional=tensor([places[edit, row] for (_, edit), row in zip(forks, own, strict=True)]),
        null=tensor([places[edit, table.null_row] for _, edit in forks] if guided else []),
    )


def _edit_at(prune: Prune | None, step: int, steps: int) -> Prune | None:
    """What `prune` does at this step, whatever its schedule says of others."""
    if prune is None or not prune.active(step, steps):
        return None
    return replace(prune, schedule="every", count=None)
