"""How much a prune changes the modulations of a sampling run, without sampling.

    error = sqrt( E e'Me / E s'Ms ),   s = SiLU(c),  e = SiLU(c') - s,  M = sum of W'W

c' is the pruned c, W the weights of each layer that makes shifts, scales and gates of s, and E the mean over the
condition vectors of a run, at all of its steps, the null condition's left out. So the error is the root mean square of
the change of all shifts, scales and gates, relative to their part that depends on c; where only some blocks see the
prune, M above the line is that of their layers. The condition vectors and AdaLN's weights are all that is read. Between
prunes of one model it orders them much as their drift does (`docs/pruning.md`).

Two numbers in the same unit are not means. `largest` is that of the vector of the run that changes most,
sqrt(max e'Me / E s'Ms). `bound` holds for every vector there is, of any class at any time, and needs none: a prune that
sets components below the threshold t to zero changes SiLU(c) by e with

    |e_k| <= r = t / (1 + exp(-t))    for |c_k| < t, as |SiLU| is largest at the upper end;  r = t for |SiLU(c_k)| < t
    e'Me  <= sum_kl |M_kl| |e_k| |e_l| <= r^2 sum |M|,    so    bound = r sqrt(sum |M| / E s'Ms)

and error <= largest <= bound. It is far above the others where the changes of components do not add up.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from tailprune.arguments import of_kind, sequence_of
from tailprune.checkpoints.load import adaln_weights
from tailprune.condition_table import PIECE_BYTES, ConditionTable, with_guidance_scale
from tailprune.progress import OnStep
from tailprune.pruning import Blocks, Prune
from tailprune.sampling import Guidance, sampling_times
from tailprune.spec.display import Shown
from tailprune.spec.edit import ModulationGuidance
from tailprune.spec.prune import layers_of
from tailprune.systems.base import Condition, InputsLike, System
from tailprune.systems.dit import PerBlockDiT
from tailprune.systems.readers import Directions

__all__ = ["ModulationChange", "ModulationMetric", "measure_modulation", "modulation_error"]


class ModulationMetric:
    """The squared size of the modulations that a vector makes, s'Ms, where the layers of a system read it.

    system: a system; on the meta device if the weights are given
    weights: those of AdaLN of each layer, in the order of `system.modulated`, gone through once; by default those of
        the system
    """

    layers: Tensor
    """W'W of each layer, with shape (layers, width, width), in float32."""

    def __init__(self, system: System, weights: Iterable[Tensor] | None = None) -> None:
        if weights is None:
            weights = (layer.adaLN_modulation.linear.weight for layer in system.modulated)
        self.layers = torch.stack([_squared(weight) for weight in weights])
        self.parts = len(system.all_blocks) if isinstance(system, PerBlockDiT) else 1
        """In how many parts a vector is read: each block reads one of its own, and the final layer the first."""
        self.reader = system.reader
        """What is read of c in a compacted system; None for all components."""

    @classmethod
    def load(cls, source: str | os.PathLike[str], **arguments: Any) -> ModulationMetric:
        """That of a checkpoint, of which only AdaLN's weights are read, one layer at a time.

        source, arguments: as in `tailprune.load`

        Raises NoModulations for a file of the condition alone, and the errors of `tailprune.load`.
        """
        return cls(*adaln_weights(source, **arguments))

    def read(self, c: Tensor) -> Tensor:
        """What AdaLN reads of c, as `System.read` has it."""
        c = c.to(self.layers.device)
        return F.silu(c) if self.reader is None else self.reader(c)

    def of_blocks(self, blocks: Blocks | None) -> ModulationMetric:
        """That of the layers of some blocks alone, which may be None for all.

        Raises InputError for a block that there is not.
        """
        if blocks is None:
            return self
        counts = torch.tensor(layers_of(blocks, len(self.layers) - 1), device=self.layers.device)
        other = copy.copy(self)
        for name in ("most", "_of_parts"):  # computed from the layers where they are asked for
            other.__dict__.pop(name, None)
        other.layers = self.layers * counts[:, None, None]
        return other

    @property
    def norms(self) -> Tensor:
        """|W_i|, the size of the modulations that each component makes, with shape (width,), float64."""
        return self._of_parts.double().diagonal(dim1=-2, dim2=-1).flatten().clamp(min=0).sqrt()

    def weighted(self, read: Tensor) -> Tensor:
        """M s of each vector. read: with shape (N, width) -> the same shape, float64."""
        parts = zip(read.double().chunk(self.parts, dim=-1), self._of_parts, strict=True)
        return torch.cat([part @ metric.double() for part, metric in parts], dim=-1)

    def squares(self, read: Tensor) -> Tensor:
        """s'Ms of each vector. read: what AdaLN reads, with shape (..., width) -> (...), float64."""
        parts = zip(read.chunk(self.parts, dim=-1), self._of_parts, strict=True)
        sums = [((part @ metric) * part).sum(-1, dtype=torch.float64) for part, metric in parts]
        return torch.stack(sums).sum(0).clamp(min=0)  # M has no negative eigenvalue but by rounding

    @cached_property
    def most(self) -> float:
        """At least e'Me of every e whose components are not above 1 in magnitude: the sum of the magnitudes of M."""
        return self._of_parts.abs().sum(dtype=torch.float64).item()

    @cached_property
    def _of_parts(self) -> Tensor:
        """M of each part, with shape (parts, width, width): the sum over the layers that read it."""
        if self.parts == 1:
            return self.layers.double().sum(0, keepdim=True).float()
        *blocks, final = self.layers
        return torch.stack([blocks[0] + final, *blocks[1:]])


def _squared(weight: Tensor) -> Tensor:
    weight = weight.float()
    return weight.T @ weight


@dataclass(frozen=True, repr=False)
class ModulationChange(Shown):
    """How much a prune changes the modulations of a run, relative to the root mean square of theirs that c makes."""

    error: float
    """The root mean square of the change over the run, the modulation error."""
    by_step: list[float]
    """The same at each sampling step, relative to the whole run: their root mean square is `error`."""
    largest: float
    """The change of the vector of the run that changes most."""
    bound: float | None
    """At most so much changes for any vector, of the run or not; None where no threshold and no zero fill bound it."""


@torch.inference_mode()
def measure_modulation(
    condition: Condition,
    inputs: InputsLike,
    prunes: Sequence[Prune],
    times: Tensor,
    population: InputsLike | None = None,
    modulation: ModulationGuidance | None = None,
    *,
    metric: ModulationMetric,
    on_step: OnStep | None = None,
) -> list[ModulationChange]:
    """Measure what each of some prunes changes in the modulations of a sampling run.

    condition: a condition, or a whole system
    inputs: what the samples are conditioned on
    prunes: the edits of the condition vectors, with their schedules
    times: the times at which each step evaluates the network, with shape (steps, stages), from `sampling_times`
    population, modulation: as in `measure_removal`
    metric: that of the system
    on_step: called with (done, total) evaluations as it goes on; may raise to stop

    Raises InputError for inputs or a population that the condition does not take, no inputs, or steps, thresholds by
    step or blocks of a prune that do not fit the run or the system.
    """
    prunes = sequence_of(Prune, "prunes", prunes, "Prune('tail', 0.05)")
    table = ConditionTable(condition, inputs, times, population, modulation)
    for each in prunes:
        each.check_steps(table.steps)
    prunes = [table.resolved(each) for each in prunes]
    counts = table.rows.bincount(minlength=table.null_row).double().to(metric.layers.device)  # samples of each row
    whole = 0.0
    changed = torch.zeros(len(prunes), table.steps, dtype=torch.float64)
    largest = [0.0] * len(prunes)

    def read_at(evaluations: Sequence[tuple[int, int]], prune: Prune | None) -> Tensor:
        vectors = [table.conditions_at(step, stage, prune)[: table.null_row] for step, stage in evaluations]
        return metric.read(torch.stack(vectors))  # (E, U, width)

    seen = {each.blocks: metric.of_blocks(each.blocks) for each in prunes}
    evaluations = [(step, stage) for step in range(table.steps) for stage in range(table.stages)]
    at_once = max(1, PIECE_BYTES // (4 * table.null_row * condition.condition_dim))
    for first in range(0, len(evaluations), at_once):
        piece = evaluations[first : first + at_once]
        before = read_at(piece, None)
        whole += (metric.squares(before) @ counts).sum().item()
        for place, each in enumerate(prunes):
            active = [at for at, (step, _) in enumerate(piece) if each.active(step, table.steps)]
            if active:
                changes = read_at([piece[at] for at in active], each) - before[active]
                squares = seen[each.blocks].squares(changes)
                largest[place] = max(largest[place], squares.max().item())
                for at, total in zip(active, (squares @ counts).tolist(), strict=True):
                    changed[place, piece[at][0]] += total
        if on_step is not None:
            on_step(first + len(piece), len(evaluations))
    if not whole:  # no layer reads anything of c
        return [ModulationChange(0.0, [0.0] * table.steps, 0.0, None) for _ in prunes]
    mean_square = whole / (counts.sum().item() * table.steps * table.stages)
    return [
        ModulationChange(
            error=math.sqrt(sums.sum().item() / whole),
            by_step=(sums * table.steps / whole).sqrt().tolist(),
            largest=math.sqrt(most / mean_square),
            bound=_bound(prune, seen[prune.blocks], mean_square),
        )
        for prune, sums, most in zip(prunes, changed, largest, strict=True)
    ]


def _bound(prune: Prune, metric: ModulationMetric, mean_square: float) -> float | None:
    """See above. metric: of the layers that see the prune; mean_square: of all modulations of the run, E s'Ms."""
    if isinstance(metric.reader, Directions):  # its columns are sums of many components
        return None
    if prune.threshold is None or prune.side != "tail" or prune.fill != "zero":
        return None
    thresholds = prune.threshold if isinstance(prune.threshold, Sequence) else [prune.threshold]
    threshold = max((each for each in thresholds if each is not None), default=0.0)
    reach = threshold if prune.of == "read" else threshold / (1 + math.exp(-threshold))
    return reach * math.sqrt(metric.most / mean_square)


@overload
def modulation_error(
    system: System,
    prune: Prune,
    inputs: InputsLike,
    *,
    sampler: str | None = None,
    steps: int = 50,
    guidance: Guidance | float = 1.0,
    population: InputsLike | None = None,
    shift: float | None = None,
    metric: ModulationMetric | None = None,
) -> float: ...
@overload
def modulation_error(
    system: System,
    prune: Sequence[Prune],
    inputs: InputsLike,
    *,
    sampler: str | None = None,
    steps: int = 50,
    guidance: Guidance | float = 1.0,
    population: InputsLike | None = None,
    shift: float | None = None,
    metric: ModulationMetric | None = None,
) -> list[float]: ...
@torch.inference_mode()
def modulation_error(
    system: System,
    prune: Prune | Sequence[Prune],
    inputs: InputsLike,
    *,
    sampler: str | None = None,
    steps: int = 50,
    guidance: Guidance | float = 1.0,
    population: InputsLike | None = None,
    shift: float | None = None,
    metric: ModulationMetric | None = None,
) -> float | list[float]:
    """The modulation error of a prune over a sampling run, 0 for one that changes nothing; of several, a list.

    system: a system with weights
    prune: the edit of the condition vectors, with its schedule; or several
    inputs: what the samples are conditioned on
    sampler, steps, shift: the steps of the run, as in `tailprune.sample`
    guidance: the guidance scale, which only a system that takes it as an input depends on, 1 by default; or a
        `Guidance`, whose modulation guidance moves the vectors
    population: as in `tailprune.sample`
    metric: that of the system, where it is at hand from an earlier call

    Raises InputError for inputs, a sampler or a population that the system does not take, no inputs, or steps,
    thresholds by step or blocks of a prune that do not fit the run or the system.
    """
    of_kind(System, "system", system, "a system, such as tailprune.load('models/shapes-sit')")
    one = isinstance(prune, Prune)
    prunes: list[Prune] = sequence_of(Prune, "prune", [prune] if one else prune, "Prune('tail', 0.05)")
    inputs = system.check_inputs(inputs)
    if system.takes_guidance:
        inputs = with_guidance_scale(inputs, guidance.scale if isinstance(guidance, Guidance) else guidance)
    modulation = guidance.modulation if isinstance(guidance, Guidance) else None
    times = sampling_times(system, sampler, steps, shift)
    metric = metric or ModulationMetric(system)
    changes = measure_modulation(system, inputs, prunes, times, population, modulation, metric=metric)
    return changes[0].error if one else [change.error for change in changes]
