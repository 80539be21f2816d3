"""Sampling by dopri5, which chooses its own steps: each sample by itself, with conditions made as it goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchdiffeq import odeint

from tailprune.condition_table import ConditionTable
from tailprune.pruning import Prune
from tailprune.sampling.guidance import Guidance
from tailprune.sampling.network import ModulationTable, evaluate
from tailprune.sampling.trajectories import Want, phases_of
from tailprune.systems.base import Inputs, System

__all__ = ["sample_adaptively"]

MOST_ADAPTIVE_STEPS = 2_000


def sample_adaptively(
    system: System,
    inputs: Inputs,
    start: Tensor,
    wants: Sequence[Want],
    guidance: Guidance,
    population: Inputs | None,
    on_step: Callable[[int, int], None] | None,
    atol: float,
    rtol: float,
) -> list[Tensor]:
    """The latents of each want, with shape (C, H, W), from noise `start`, (B, C, H, W). The rest is as of `sample`."""
    if any(prune is not None and prune.schedule != "every" for _, prune in wants):
        raise ValueError("dopri5 chooses its own steps, so its prunes have the schedule 'every'")
    begin, end = system.facts.noise_time, system.facts.data_time
    span = torch.tensor([begin, end], dtype=torch.float32, device=start.device)

    def tell(done: int) -> None:
        if on_step is not None:
            on_step(done, len(wants))

    results: list[Tensor] = []
    for done, (index, prune) in enumerate(wants):
        one = {key: value[index : index + 1] for key, value in inputs.items()}

        def velocity(t: Tensor, x: Tensor, one: Inputs = one, prune: Prune | None = prune, done: int = done) -> Tensor:
            tell(done)
            table = ConditionTable(system, one, t.view(1, 1), population)
            scale = guidance.scale_at(t, (t.item() - begin) / (end - begin))
            (phase,) = phases_of([(0, prune)], 1, table, guided=scale != 1.0)
            told = ModulationTable(system, table, [phase]).at(0, 0)
            return evaluate(system, x, told, phase, guidance, scale)

        results.append(_solved(velocity, start[index : index + 1], span, atol, rtol)[0])
        tell(done + 1)
    return results


def _solved(
    velocity: Callable[[Tensor, Tensor], Tensor], start: Tensor, span: Tensor, atol: float, rtol: float
) -> Tensor:
    """Where the path that begins at `start` ends, by Dormand and Prince's method of order 5."""
    limit = {"max_num_steps": MOST_ADAPTIVE_STEPS}
    try:
        path: Tensor = odeint(velocity, start, span, method="dopri5", atol=atol, rtol=rtol, options=limit)
    except AssertionError as error:  # how torchdiffeq gives up
        raise ValueError(
            f"dopri5 found no path within {MOST_ADAPTIVE_STEPS} steps ({error}): lower the guidance scale, or use euler"
        ) from error
    return path[-1]
