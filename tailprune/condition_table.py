"""The condition vectors of a whole sampling run: every evaluation time, every different input, computed up front.

c[e, u] = time part(t_e) + input part(u)        shape (E, U, d)
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from tailprune.pruning import Population, Prune
from tailprune.systems.base import Condition, Inputs

__all__ = ["ConditionTable", "everyone", "population_at", "unique_inputs", "with_guidance_scale"]


def with_guidance_scale(inputs: Inputs, scale: float) -> Inputs:
    """Inputs of a system that takes its guidance scale as one of them; a scale that they have already stays."""
    labels = inputs["labels"]
    return {"scale": torch.full((len(labels),), scale, device=labels.device), **inputs}


def unique_inputs(inputs: Inputs) -> tuple[Inputs, Tensor]:
    """The different rows of `inputs` and, with shape (B,) on the CPU, which of them each sample has."""
    held = [tensor.contiguous().cpu().view(len(tensor), -1).view(torch.uint8).numpy() for tensor in inputs.values()]
    places: dict[bytes, int] = {}
    firsts: list[int] = []
    rows: list[int] = []
    for sample, parts in enumerate(zip(*held, strict=True)):
        content = hashlib.sha256()
        for part in parts:
            content.update(part)
        row = places.setdefault(content.digest(), len(places))
        if row == len(firsts):
            firsts.append(sample)
        rows.append(row)
    return {name: tensor[firsts] for name, tensor in inputs.items()}, torch.tensor(rows)


def population_at(condition: Condition, times: Tensor, population: Inputs | None = None) -> Population:
    """What all classes' vectors have in common at each time. times, with shape (E,) -> tensors of shape (E, d).

    `population` replaces the classes for systems that have none. Raises ValueError where it is not what they take.
    """
    if population is not None:
        condition.check_inputs(population)
    everyone = condition.embed_inputs(condition.all_inputs() if population is None else population)
    at_each = [Population.of((time + everyone).unsqueeze(0)) for time in condition.embed_time(times.float())]
    return Population(mean=torch.cat([p.mean for p in at_each]), variation=torch.cat([p.variation for p in at_each]))


class ConditionTable:
    """Condition vectors by evaluation time and input, edited when they are looked up.

    times, with shape (steps, stages): when the sampler evaluates the network within each step. `population` stands
    for all classes where a prune asks for their mean or variation. Everything is moved to the condition's device.

    Raises ValueError for a label that is no class.
    """

    def __init__(self, condition: Condition, inputs: Inputs, times: Tensor, population: Inputs | None = None) -> None:
        condition.check_inputs(inputs)
        device = next(condition.parameters()).device
        self._condition = condition
        self._times = times.to(device)
        self._population_inputs = None if population is None else _moved(population, device)
        self._population: Population | None = None
        self._scales = inputs.get("scale")
        different, self.rows = unique_inputs(inputs)
        different = _moved(different, device)
        parts = torch.cat([condition.embed_inputs(different), condition.embed_inputs(condition.null_inputs(1))])
        evaluated = self._times.flatten().float()
        # (steps * stages, U + 1, d)
        self.vectors = condition.embed_time(evaluated).unsqueeze(1) + parts
        self._beside = condition.time_columns_at(evaluated)

    @property
    def stages(self) -> int:
        """How often the sampler evaluates the network within a step."""
        return self._times.shape[1]

    @property
    def null_row(self) -> int:
        """Where the null condition's vector stands among the rows."""
        return self.vectors.shape[1] - 1

    def at(self, step: int, stage: int, prune: Prune | None) -> Tensor:
        """What `forward` takes at one evaluation: the vectors, edited where a prune is given -> (U + 1, d).

        A compacted system may have columns of time beside them, which are not edited -> (U + 1, d + rho).
        """
        vectors = self.edited(step, stage, prune)
        if self._beside is None:
            return vectors
        columns = self._beside[self._evaluation(step, stage)]
        return torch.cat([vectors, columns.expand(len(vectors), -1)], dim=-1)

    def edited(self, step: int, stage: int, prune: Prune | None) -> Tensor:
        """The vectors of one evaluation alone, edited where a prune is given -> (U + 1, d)."""
        evaluation = self._evaluation(step, stage)
        vectors = self.vectors[evaluation]
        return vectors if prune is None else prune(vectors, self._known_to(prune, evaluation))

    def removed(self, step: int, stage: int, prune: Prune) -> Tensor:
        """Which components `prune` takes away at one evaluation -> bool, (U + 1, d)."""
        evaluation = self._evaluation(step, stage)
        return prune.removed(self.vectors[evaluation], self._known_to(prune, evaluation))

    def _evaluation(self, step: int, stage: int) -> int:
        return step * self.stages + stage

    def _known_to(self, prune: Prune, evaluation: int) -> Population | None:
        if not prune.needs_population:
            return None
        if self._population is None:
            population = self._population_inputs or everyone(self._condition, self._scales)
            self._population = population_at(self._condition, self._times.flatten(), population)
        return self._population.at(evaluation)


def everyone(condition: Condition, scales: Tensor | None) -> Inputs:
    """Every class, told the guidance scale that the samples are told where the system takes one.

    Raises ValueError for scales that differ, or a system without classes.
    """
    classes = condition.all_inputs()
    if not condition.takes_guidance or scales is None:
        return classes
    low, high = scales.min().item(), scales.max().item()
    if low < high:
        raise ValueError(
            f"the classes have no mean in common at guidance scales from {low:g} to {high:g}: give a population"
        )
    return with_guidance_scale(classes, low)


def _moved(inputs: Inputs, device: torch.device) -> Inputs:
    return {name: tensor.to(device) for name, tensor in inputs.items()}
