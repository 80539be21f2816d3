"""The network as samplers call it: told its modulations, guided, a few samples at a time on a CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tailprune.condition_table import ConditionTable
from tailprune.sampling.guidance import Guidance
from tailprune.sampling.trajectories import Phase
from tailprune.systems.base import Modulations, System

__all__ = ["ModulationTable", "evaluate"]

MODULATION_BYTES = 128 * 2**20
"""So much is made ahead. A condition vector's modulations are 0.8 MB in DiT-XL/2."""
CPU_ELEMENTS = 2**20
"""So many numbers of tokens go through the network at once on a CPU: the activations of more leave its caches."""


class ModulationTable:
    """The modulations of a sampling run: made for as many steps at once as fit, and once for each different vector.

    AdaLN's weights, a third of a network, are then read once for all these steps. phases: that of each step.
    """

    def __init__(self, system: System, table: ConditionTable, phases: Sequence[Phase]) -> None:
        self._system = system
        self._table = table
        self._phases = phases
        self._made: dict[tuple[int, int], Modulations] = {}
        numbers = sum(layer.adaLN_modulation.linear.out_features for layer in system.modulated)
        self._vector_bytes = numbers * system.precision.itemsize

    def at(self, step: int, stage: int) -> Modulations:
        """Those of one evaluation, a row each for what the step's phase asks for."""
        if (step, stage) not in self._made:
            self._made = self._from(step)
        return self._made[step, stage]

    def _from(self, first: int) -> dict[tuple[int, int], Modulations]:
        evaluations: dict[tuple[int, int], Tensor] = {}
        count = 0
        for step in range(first, len(self._phases)):
            asks = self._phases[step].asks
            count += self._table.stages * sum(len(rows) for _, rows in asks)
            if evaluations and count * self._vector_bytes > MODULATION_BYTES:
                break
            for stage in range(self._table.stages):
                vectors = [self._table.at(step, stage, edit)[rows] for edit, rows in asks]
                evaluations[step, stage] = torch.cat(vectors)
        made = self._system.modulations(torch.cat(list(evaluations.values())))
        sizes = [len(vectors) for vectors in evaluations.values()]
        each = zip(*(tensor.split(sizes) for tensor in made), strict=True)
        return dict(zip(evaluations, each, strict=True))


def evaluate(system: System, x: Tensor, told: Modulations, phase: Phase, guidance: Guidance, scale: float) -> Tensor:
    """The guided output of R samples. x, with shape (R, C, H, W); told: the modulations of all that the phase asks for.

    At a scale of 1 the null condition's branch is left out.
    """
    rows = x.float()
    if scale == 1.0:
        return _forward(system, rows, [tensor[phase.conditional] for tensor in told]).to(x.dtype)
    both = torch.cat([phase.conditional, phase.null])
    out = _forward(system, torch.cat([rows, rows]), [tensor[both] for tensor in told]).to(x.dtype)
    conditional, null = out.chunk(2)
    return guidance.combine(conditional, null, scale)


def _forward(system: System, x: Tensor, told: Modulations) -> Tensor:
    """As the system's `forward_modulated`."""
    run = system.compiled or system.forward_modulated
    at_once = max(1, CPU_ELEMENTS // (math.prod(system.grid) * told[0].shape[-1]))
    if x.device.type != "cpu" or len(x) <= at_once:
        return run(x, told)
    size = math.ceil(len(x) / math.ceil(len(x) / at_once))  # parts as large as each other
    parts = zip(*(tensor.split(size) for tensor in told), strict=True)
    return torch.cat([run(*part) for part in zip(x.split(size), parts, strict=True)])
