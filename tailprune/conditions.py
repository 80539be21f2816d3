"""The condition vectors of a whole sampling run: every evaluation time, every different input, computed up front.

c[e, u] = time part(t_e) + input part(u)        shape (E, U, d)
"""

from __future__ import annotations

import torch
from torch import Tensor

from tailprune.pruning import Population, Prune
from tailprune.systems.base import Condition, Inputs

__all__ = ["ConditionTable", "population_at", "unique_inputs"]


def unique_inputs(inputs: Inputs) -> tuple[Inputs, Tensor]:
    """The different rows of `inputs` and, with shape (B,), which of them each sample has.

    Labels are told apart by value; features (pose, image, video) count as different each.
    """
    if set(inputs) == {"labels"}:
        values, rows = torch.unique(inputs["labels"], return_inverse=True)
        return {"labels": values}, rows
    count = len(next(iter(inputs.values())))
    return inputs, torch.arange(count)


def population_at(condition: Condition, times: Tensor, population: Inputs | None = None) -> Population:
    """What all classes' vectors have in common at each time. times, with shape (E,) -> tensors of shape (E, d).

    `population` replaces the classes for systems that have none.
    """
    everyone = condition.embed_inputs(condition.all_inputs() if population is None else population)
    at_each = [Population.of((time + everyone).unsqueeze(0)) for time in condition.embed_time(times)]
    return Population(mean=torch.cat([p.mean for p in at_each]), variation=torch.cat([p.variation for p in at_each]))


class ConditionTable:
    """Condition vectors by evaluation time and input, with their edits.

    times, with shape (steps, stages): when the sampler evaluates the network within each step. `population` stands
    for all classes where a prune asks for their mean or variation.
    """

    def __init__(self, condition: Condition, inputs: Inputs, times: Tensor, population: Inputs | None = None) -> None:
        self._condition = condition
        self._times = times
        self._population_inputs = population
        self._population: Population | None = None
        self._edited: dict[Prune, Tensor] = {}
        different, self.rows = unique_inputs(inputs)
        parts = torch.cat([condition.embed_inputs(different), condition.embed_inputs(condition.null_inputs(1))])
        self.vectors = condition.embed_time(times.flatten()).unsqueeze(1) + parts  # (steps * stages, U + 1, d)

    @property
    def steps(self) -> int:
        return self._times.shape[0]

    @property
    def null_row(self) -> int:
        """Where the null condition's vector stands among the rows."""
        return self.vectors.shape[1] - 1

    @property
    def population(self) -> Population:
        """Mean and variation over all classes at each time, with shape (steps * stages, d)."""
        if self._population is None:
            self._population = population_at(self._condition, self._times.flatten(), self._population_inputs)
        return self._population

    def removed(self, prune: Prune) -> Tensor:
        """Which components `prune` takes away where it is active -> bool, (steps * stages, U + 1, d)."""
        return prune.removed(self.vectors, self.population if prune.needs_population else None)

    def at(self, step: int, stage: int, prune: Prune | None) -> Tensor:
        """The vectors of one evaluation, edited where a prune is given -> (U + 1, d)."""
        evaluation = step * self._times.shape[1] + stage
        if prune is None:
            return self.vectors[evaluation]
        if prune not in self._edited:
            self._edited[prune] = prune(self.vectors, self.population if prune.needs_population else None)
        return self._edited[prune][evaluation]
