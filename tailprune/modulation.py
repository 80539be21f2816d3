"""How much a prune changes the modulations of a sampling run, without sampling.

    error = sqrt( E e'Me / E s'Ms ),   s = SiLU(c),  e = SiLU(c') - s,  M = sum of W'W

c' is the pruned c, W the weights of each layer that makes shifts, scales and gates of s, and E the mean over the
condition vectors of a run, at all of its steps, the null condition's left out. So the error is the root mean square of
the change of all shifts, scales and gates, relative to their part that depends on c; where only some blocks see the
prune, M above the line is that of their layers. The condition vectors and AdaLN's weights are all that is read. Between
prunes of one model it orders them much as their drift does (`docs/pruning.md`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import torch
from torch import Tensor

from tailprune.arguments import of_kind, sequence_of
from tailprune.condition_table import ConditionTable, with_guidance_scale
from tailprune.pruning import Blocks, Prune
from tailprune.sampling import Guidance, sampling_times
from tailprune.systems.base import InputsLike, System
from tailprune.systems.dit import PerBlockDiT

__all__ = ["ModulationMetric", "modulation_error"]


class ModulationMetric:
    """The squared size of the modulations that a vector makes, s'Ms, where the layers of a system read it.

    system: a system with weights
    blocks: of these alone, as in `Prune`; of all by default
    """

    def __init__(self, system: System, blocks: Blocks | None = None) -> None:
        counted = zip(system.modulated, system.layers_of(blocks), strict=True)
        layers = [layer.adaLN_modulation.linear.weight[: None if counts else 0] for layer, counts in counted]
        if isinstance(system, PerBlockDiT):  # each block reads a part of its own, and the final layer the first
            *each, final = layers
            self._parts = [_metric([weight, final] if not place else [weight]) for place, weight in enumerate(each)]
        else:
            self._parts = [_metric(layers)]

    @property
    def weights(self) -> Tensor:
        """The weight M_kk of each component that is read, with shape (width,)."""
        return torch.cat([metric.diagonal() for metric in self._parts])

    def squares(self, read: Tensor) -> Tensor:
        """s'Ms of each vector. read: what AdaLN reads, with shape (N, width) -> (N,), float64."""
        parts = zip(read.chunk(len(self._parts), dim=-1), self._parts, strict=True)
        return sum(((part @ metric) * part).sum(-1, dtype=torch.float64) for part, metric in parts)  # type: ignore[return-value]


def _metric(weights: Sequence[Tensor]) -> Tensor:
    """M = sum of W'W -> float32, (width, width), from sums in float64."""
    total = torch.zeros(weights[0].shape[1], weights[0].shape[1], dtype=torch.float64, device=weights[0].device)
    for weight in weights:
        total += (weight.float().T @ weight.float()).double()
    return total.float()


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
    guidance: the guidance scale, which only a system that takes it as an input depends on; 1 by default
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
    table = ConditionTable(system, inputs, sampling_times(system, sampler, steps, shift), population)
    for each in prunes:
        each.check_steps(table.steps)
    prunes = [table.resolved(each) for each in prunes]
    metric = metric or ModulationMetric(system)
    seen = {
        blocks: ModulationMetric(system, blocks) if blocks else metric for blocks in {each.blocks for each in prunes}
    }
    weights = table.rows.bincount(minlength=table.null_row).double().to(table.device)  # how many samples have each row
    whole, changed = 0.0, [0.0] * len(prunes)
    for step in range(table.steps):
        for stage in range(table.stages):
            read = system.read(table.conditions_at(step, stage, None))[: table.null_row]
            whole += (weights @ metric.squares(read)).item()
            for place, each in enumerate(prunes):
                if each.active(step, table.steps):
                    edited = system.read(table.conditions_at(step, stage, each))[: table.null_row]
                    changed[place] += (weights @ seen[each.blocks].squares(edited - read)).item()
    errors = [(part / whole) ** 0.5 if whole else 0.0 for part in changed]
    return errors[0] if one else errors
