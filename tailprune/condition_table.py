"""The condition vectors of a whole sampling run, at all evaluation times and of all distinct inputs.

c[e, u] = time part(t_e) + input part(u)        shape (E, U + 1, d); the last row is the null condition's, if any

E = steps * stages is the number of evaluations of the network, U that of distinct inputs among the B inputs. The two
parts are computed in advance, and added when a vector is looked up: a condition may have 32,256 components (a DiT of
diffusers with embedders in each block), and all vectors of a run then be more than fit into memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

from tailprune.arguments import as_tensor, of_kind
from tailprune.edit import AnyEdit, Edit
from tailprune.magnitudes import Magnitudes
from tailprune.pruning import Population, Prune
from tailprune.spec import InputError
from tailprune.spec.display import Shown
from tailprune.spec.edit import ModulationGuidance
from tailprune.systems.base import Condition, Inputs, InputsLike

__all__ = [
    "PIECE_BYTES",
    "ConditionTable",
    "class_inputs",
    "population_at",
    "sums_in_pieces",
    "unique_rows",
    "with_guidance_scale",
]

PIECE_BYTES = 64 * 2**20
"""The most bytes of the condition vectors, or of the time parts, that are computed at once: those of 14,563 vectors of
DiT-XL/2, so that a run of usual size is one piece."""


def with_guidance_scale(inputs: Inputs, scale: float) -> Inputs:
    """Inputs with the guidance scale added, for a system that takes it as an input; an existing scale is kept."""
    labels = inputs["labels"]
    return {"scale": torch.full((len(labels),), scale, device=labels.device), **inputs}


def unique_rows(inputs: Inputs) -> tuple[Inputs, Tensor]:
    """The U distinct inputs in order of first appearance, and each input's index among them, (B,) on the CPU."""
    raw = [tensor.contiguous().cpu().view(len(tensor), -1).view(torch.uint8).numpy() for tensor in inputs.values()]
    row_of: dict[bytes, int] = {}
    firsts: list[int] = []
    rows: list[int] = []
    for sample, parts in enumerate(zip(*raw, strict=True)):
        content = hashlib.sha256()
        for part in parts:
            content.update(part)
        row = row_of.setdefault(content.digest(), len(row_of))
        if row == len(firsts):
            firsts.append(sample)
        rows.append(row)
    return {name: tensor[firsts] for name, tensor in inputs.items()}, torch.tensor(rows)


def sums_in_pieces(times: Tensor, inputs: Tensor) -> Iterator[Tensor]:
    """The vectors c[e, n] = times[e] + inputs[n], in pieces of at most `PIECE_BYTES` (or one vector), each (e, n, d).

    times, inputs: the time and input parts, with shape (E, d) and (N, d)
    """
    rows = max(1, PIECE_BYTES // inputs[0].nbytes)
    for some_times in times.split(max(1, rows // len(inputs))):
        for some_inputs in inputs.split(rows):
            yield some_times.unsqueeze(1) + some_inputs


def population_at(condition: Condition, times: Tensor, population: InputsLike | None = None) -> Population:
    """Statistics of the condition vectors over all classes at each time -> tensors with shape (E, d).

    condition: a condition, or a whole system
    times: times in the system's own unit, with shape (E,)
    population: inputs to take the statistics over, all classes by default; required if the system has no classes

    Raises InputError for a population that the system does not take.
    """
    parts = condition.embed_inputs(condition.all_inputs() if population is None else population)  # (N, d)
    at_each = [Population.of((time + parts).unsqueeze(0)) for time in condition.embed_time(times.float())]
    return Population(mean=torch.cat([p.mean for p in at_each]), variation=torch.cat([p.variation for p in at_each]))


class ConditionTable(Shown):
    """Condition vectors by evaluation and input, edited when they are looked up.

    condition: a condition, or a whole system; everything is moved to its device
    inputs: what the B samples are conditioned on
    times: the times at which each step evaluates the network, with shape (steps, stages), from `sampling_times`
    population: inputs for the mean or variance that a prune may need, all classes by default; required for such a
        prune if the system has no classes
    modulation: modulation guidance: the vector of each input, and of the population, is c + weight (c+ - c-); the null
        condition's is not moved

    Raises InputError for inputs that the condition does not take, such as a label out of range, and for modulation
    guidance with classes or a null condition that it does not have.
    """

    rows: Tensor
    """The row of each sample's vector, with shape (B,), on the CPU."""

    def __init__(
        self,
        condition: Condition,
        inputs: InputsLike,
        times: Tensor,
        population: InputsLike | None = None,
        modulation: ModulationGuidance | None = None,
    ) -> None:
        of_kind(Condition, "condition", condition, "a system of tailprune.load")
        inputs = condition.check_inputs(inputs)
        if not len(next(iter(inputs.values()))):
            raise InputError("inputs are empty: give at least one")
        times = as_tensor("times", times)
        if times.ndim != 2 or not times.numel():
            raise InputError(f"times must have shape (steps, stages), as of sampling_times, not {tuple(times.shape)}")
        device = next(condition.parameters()).device
        self._condition = condition
        self._modulation = modulation
        self._times = times.to(device)
        self._population_inputs = None if population is None else _moved(condition.check_inputs(population), device)
        self._population_parts: Tensor | None = None  # (N, d)
        self._population: tuple[int, Population] | None = None  # of the evaluation looked up last
        self._scales = inputs.get("scale")
        distinct, self.rows = unique_rows(inputs)
        distinct = _moved(distinct, device)
        parts = self._embedded(distinct)
        self._inputs_count = len(parts)
        if condition.null_condition:
            parts = torch.cat([parts, condition.embed_inputs(condition.null_inputs(1))])
        self._parts = parts  # (U + 1, d)
        self._evaluated = self._times.flatten().float()
        self._time_parts: tuple[int, Tensor] | None = None  # from this evaluation on, (e, d)
        self._time_columns = condition.time_columns_at(self._evaluated)

    def shown(self) -> dict[str, object]:
        return {
            "steps": self.steps,
            "stages": self.stages,
            "samples": len(self.rows),
            "inputs": self._inputs_count,
            "components": self._parts.shape[1],
        }

    @property
    def vectors(self) -> Tensor:
        """The vectors before any prune, with shape (E, U + 1, d); all of them are made when this is read."""
        return torch.stack([self._vectors(evaluation) for evaluation in range(len(self._evaluated))])

    @property
    def device(self) -> torch.device:
        """The device of the vectors."""
        return self._parts.device

    @property
    def steps(self) -> int:
        """How many steps the run has."""
        return self._times.shape[0]

    @property
    def stages(self) -> int:
        """How many times each step evaluates the network."""
        return self._times.shape[1]

    @property
    def null_row(self) -> int:
        """The row of the null condition's vector, behind those of the inputs; a system may have none."""
        return self._inputs_count

    def resolved(self, prune: Prune) -> Prune:
        """The same prune with the threshold that removes its share of this run; itself if it does not remove one.

        prune: the edit; its share is that of all components of the vectors of the inputs at the steps that it prunes
        """
        return prune.over(lambda: Magnitudes(lambda: self._seen_by(prune)))

    def conditions_at(self, step: int, stage: int, prune: AnyEdit | None) -> Tensor:
        """The `c` that the system's `forward` takes at one evaluation, edited -> (U + 1, d).

        step, stage: the evaluation, each from 0
        prune: the prune, or an edit, which leaves the null condition's vector as it is; each by its schedule

        For a compacted system with columns of time, these stand beside the vectors, unedited -> (U + 1, d + rho).
        """
        vectors = self.vectors_at(step, stage, prune)
        if self._time_columns is None:
            return vectors
        columns = self._time_columns[self._evaluation(step, stage)]
        return torch.cat([vectors, columns.expand(len(vectors), -1)], dim=-1)

    def vectors_at(self, step: int, stage: int, prune: AnyEdit | None) -> Tensor:
        """The vectors of one evaluation, edited where `prune`, unless that is None, is active -> (U + 1, d)."""
        evaluation = self._evaluation(step, stage)
        vectors = self._vectors(evaluation)
        edit = prune and prune.at(step, self.steps)
        if isinstance(edit, Edit):
            edit.check_width(vectors.shape[1])
            return torch.cat([edit(vectors[: self.null_row]), vectors[self.null_row :]])
        return vectors if edit is None else edit(vectors, self._population_for(edit, evaluation))

    def removed_at(self, step: int, stage: int, prune: Prune) -> Tensor:
        """Which components `prune` removes at one evaluation, none where it is not active -> bool, (U + 1, d)."""
        evaluation = self._evaluation(step, stage)
        vectors = self._vectors(evaluation)
        edit = prune.at(step, self.steps)
        if edit is None:
            return torch.zeros_like(vectors, dtype=torch.bool)
        return edit.removed(vectors, self._population_for(edit, evaluation))

    def _seen_by(self, prune: Prune) -> Iterator[Tensor]:
        """The vectors of the inputs, without the null condition's, at the steps that a prune is active, one by one."""
        for step in range(self.steps):
            for stage in range(self.stages if prune.active(step, self.steps) else 0):
                yield prune.seen(self._vectors(self._evaluation(step, stage))[: self.null_row])

    def _evaluation(self, step: int, stage: int) -> int:
        return step * self.stages + stage

    def _vectors(self, evaluation: int) -> Tensor:
        """The vectors of one evaluation before any prune -> (U + 1, d)."""
        return self._time_part(evaluation) + self._parts

    def _time_part(self, evaluation: int) -> Tensor:
        """The time part of one evaluation -> (d,), computed with those of the evaluations around it."""
        if self._time_parts is None or not 0 <= evaluation - self._time_parts[0] < len(self._time_parts[1]):
            count = max(1, PIECE_BYTES // self._parts[0].nbytes)
            first = evaluation - evaluation % count
            self._time_parts = first, self._condition.embed_time(self._evaluated[first : first + count])
        first, parts = self._time_parts
        return parts[evaluation - first]

    def _embedded(self, inputs: Inputs) -> Tensor:
        """The input parts of N inputs, moved by the modulation guidance, if any -> (N, d)."""
        own = self._condition.embed_inputs(inputs)
        modulation = self._modulation
        if modulation is None or modulation.weight == 0:
            return own
        plus = own if modulation.plus is None else self._class_part(modulation.plus, inputs)
        return own + modulation.weight * (plus - self._class_part(modulation.minus, inputs))

    def _class_part(self, label: int | None, inputs: Inputs) -> Tensor:
        """The input part of a class, or of the null condition for None, at the guidance scale of each of N inputs."""
        count = len(next(iter(inputs.values())))
        if label is None and not self._condition.null_condition:
            raise InputError(
                "this system has no null condition to lead away from, since it was trained without dropping labels: "
                "give minus, a class"
            )
        others = self._condition.null_inputs(count) if label is None else {"labels": torch.full((count,), label)}
        if label is not None:
            others = self._condition.check_inputs(others)
        return self._condition.embed_inputs(
            {**others, "scale": inputs["scale"]} if "scale" in inputs else others  # c+ and c- differ in the class alone
        )

    def _population_for(self, prune: Prune, evaluation: int) -> Population | None:
        if not prune.needs_population:
            return None
        if self._population_parts is None:
            population = self._population_inputs or class_inputs(self._condition, self._scales)
            self._population_parts = self._embedded(population)
        if self._population is None or self._population[0] != evaluation:
            vectors = self._time_part(evaluation) + self._population_parts
            self._population = evaluation, Population.of(vectors)
        return self._population[1]


def class_inputs(condition: Condition, scales: Tensor | None) -> Inputs:
    """Inputs of every class, with the samples' guidance scale if the system takes it as an input.

    condition: a condition, or a whole system
    scales: the guidance scales of the samples, with shape (B,); None if they have none

    Raises InputError if the scales differ, or if the system has no classes.
    """
    classes = condition.all_inputs()
    if not condition.takes_guidance or scales is None:
        return classes
    low, high = scales.min().item(), scales.max().item()
    if low < high:
        raise InputError(
            f"the mean over the classes needs one guidance scale, not scales from {low:g} to {high:g}: give one, or a "
            "population"
        )
    return with_guidance_scale(classes, low)


def _moved(inputs: Inputs, device: torch.device) -> Inputs:
    return {name: tensor.to(device) for name, tensor in inputs.items()}
