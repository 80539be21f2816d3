"""Calls that sample a system with any number of prunes, from the same noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypedDict, Unpack

import torch
from torch import Tensor

from tailprune.condition_table import ConditionTable, with_guidance_scale
from tailprune.pruning import Prune
from tailprune.sampling.guidance import Guidance
from tailprune.sampling.network import ModulationTable, evaluate
from tailprune.sampling.noise import INITIAL, Seed, gaussian_noise
from tailprune.sampling.solvers.base import Method
from tailprune.sampling.solvers.dopri5 import sample_adaptively
from tailprune.sampling.solvers.flow import SDE, Euler, Heun
from tailprune.sampling.solvers.gaussian import DDIM, DDPM, DPMSolverPP
from tailprune.sampling.trajectories import Phase, Want, phases_of
from tailprune.systems.base import Inputs, System

__all__ = ["build_method", "sample", "sample_each", "sampling_times"]

OPTIONS = {"euler": ("shift",), "heun": ("shift",), "sde": ("diffusion", "last_step")}
"""What can be said of a method besides its steps."""


def build_method(name: str, steps: int, system: type[System], **options: str | float) -> Method:
    """The method of that name, on the times of a system.

    Raises ValueError for fewer than 2 steps or an option it does not have.
    """
    if steps < 2:
        raise ValueError(f"sampling takes at least 2 steps, not {steps}")
    _refuse_options(name, options)
    gaussian: dict[str, Callable[..., Method]] = {"ddim": DDIM, "ddpm": DDPM, "dpmpp": DPMSolverPP}
    if name in gaussian:
        return gaussian[name](steps)
    flow: dict[str, Callable[..., Method]] = {"euler": Euler, "heun": Heun, "sde": SDE}
    return flow[name](steps, system, **options)


def sampling_times(system: System, sampler: str | None = None, steps: int = 50, shift: float | None = None) -> Tensor:
    """When each step evaluates the network, in the system's time -> (steps, stages).

    dopri5 chooses its own times; for it, `steps` evenly spaced ones.
    """
    name = _sampler_name(system, sampler)
    return build_method("euler" if name == "dopri5" else name, steps, type(system), **_said(shift=shift)).times


class Options(TypedDict, total=False):
    """What `sample` and `sample_each` may be told, besides inputs and prunes."""

    sampler: str | None
    steps: int
    guidance: Guidance | float
    seeds: Sequence[Seed] | None
    noise: Tensor | None
    step_noise: Tensor | None
    population: Inputs | None
    on_step: Callable[[int, int], None] | None
    diffusion: str | None
    last_step: str | None
    shift: float | None
    atol: float
    rtol: float


def sample(
    system: System,
    inputs: Inputs,
    *,
    prune: Prune | Sequence[Prune | None] | None = None,
    **options: Unpack[Options],
) -> Tensor | list[Tensor]:
    """Latents of B samples, with shape (B, C, H, W); one such tensor a prune where `prune` is a list.

    inputs: of B samples, as the system's `condition` takes them. prune: an edit of every condition vector, the null
    condition's too; a list shares noise and, while they agree, trajectories.

    sampler: `ddim`, `ddpm`, `dpmpp` (systems that predict noise), `euler`, `heun`, `dopri5`, `sde` (velocity); the
    system's first unless said. steps: 50 unless said. guidance: a scale for the channels that the system's authors
    guide, or a `Guidance`; 1 unless said; a system that takes its scale as an input is told it and not guided besides.
    seeds: one a sample; or `noise`, the initial latents (B, C, H, W), with `step_noise`, (steps, B, C, H, W), where the
    method draws any. population: stands for all classes where the system has none. on_step(done, total) is called after
    each step and may raise to stop; dopri5 calls it at every evaluation, counting finished samples. diffusion,
    last_step: of `sde`. shift: of `euler` and `heun`. atol (1e-6), rtol (1e-3): of `dopri5`, which solves each sample
    by itself, so that its steps do not depend on the batch.

    Raises ValueError for a method the system has not, both or neither of seeds and noise, shapes that do not fit, or
    a schedule other than `every` with dopri5.
    """
    prunes = list(prune) if isinstance(prune, Sequence) else [prune]
    if not prunes:
        raise ValueError("an empty list of prunes asks for nothing; None stands for the unpruned baseline")
    count = len(next(iter(inputs.values())))
    made = _sample(system, inputs, [(n, each) for each in prunes for n in range(count)], **options)
    results = [torch.stack(made[at : at + count]) for at in range(0, len(made), count)]
    return results if isinstance(prune, Sequence) else results[0]


def sample_each(
    system: System, inputs: Inputs, *, prunes: Sequence[Sequence[Prune | None]], **options: Unpack[Options]
) -> list[list[Tensor]]:
    """Latents of B samples, each under prunes of its own: for each sample, a tensor (C, H, W) a prune.

    All go through the network as one batch; the rest is as in `sample`.
    """
    if len(prunes) != (count := len(next(iter(inputs.values())))):
        raise ValueError(f"one list of prunes a sample: {count} samples, {len(prunes)} lists")
    made = iter(_sample(system, inputs, [(n, prune) for n, some in enumerate(prunes) for prune in some], **options))
    return [[next(made) for _ in some] for some in prunes]


@torch.no_grad()
def _sample(
    system: System,
    inputs: Inputs,
    wants: Sequence[Want],
    *,
    sampler: str | None = None,
    steps: int = 50,
    guidance: Guidance | float = 1.0,
    seeds: Sequence[Seed] | None = None,
    noise: Tensor | None = None,
    step_noise: Tensor | None = None,
    population: Inputs | None = None,
    on_step: Callable[[int, int], None] | None = None,
    diffusion: str | None = None,
    last_step: str | None = None,
    shift: float | None = None,
    atol: float = 1e-6,
    rtol: float = 1e-3,
) -> list[Tensor]:
    """The latents of each want, with shape (C, H, W)."""
    if not wants:
        raise ValueError("there is nothing to sample: give one sample or more, each with one prune or more")
    device = next(system.parameters()).device
    guidance = guidance if isinstance(guidance, Guidance) else Guidance(guidance, channels=system.facts.guided_channels)
    name = _sampler_name(system, sampler)
    count = len(next(iter(inputs.values())))
    x = _initial(system, count, seeds, noise).to(device, torch.float32)
    if step_noise is not None:
        _check_step_noise(step_noise, seeds, (count, *system.latent_shape))
    if system.takes_guidance:
        inputs, guidance = with_guidance_scale(inputs, guidance.scale), Guidance()
    options = _said(diffusion=diffusion, last_step=last_step, shift=shift)
    if name == "dopri5":
        _refuse_options(name, options)
        return sample_adaptively(system, inputs, x, wants, guidance, population, on_step, atol, rtol)
    method = build_method(name, steps, type(system), **options)
    if any(prune is not None and prune.count is not None and prune.count > steps for _, prune in wants):
        raise ValueError(f"a schedule counts at most the {steps} steps there are")
    table = ConditionTable(system, inputs, method.times, population)

    def draw(i: int, phase: Phase) -> Tensor:
        """The noise of a step, with shape (R, C, H, W)."""
        if seeds is not None:
            drawn = gaussian_noise(seeds, i + 1, system.latent_shape)
        elif step_noise is None or i >= len(step_noise):
            there = 0 if step_noise is None else len(step_noise)
            raise ValueError(f"{name} draws noise at step {i}; step_noise holds {there}: give more, or seeds")
        else:
            drawn = step_noise[i]
        return drawn.to(device, method.dtype)[phase.samples]

    return _stepwise(system, method, table, x, wants, guidance, draw, on_step)


def _stepwise(
    system: System,
    method: Method,
    table: ConditionTable,
    start: Tensor,
    wants: Sequence[Want],
    guidance: Guidance,
    draw: Callable[[int, Phase], Tensor],
    on_step: Callable[[int, int], None] | None,
) -> list[Tensor]:
    steps = len(method.times)
    # One scale for all stages of a step, as REPA does.
    scales = [guidance.scale_at(method.times[i, 0], method.progress[i, 0].item()) for i in range(steps)]
    phases = phases_of(wants, steps, table, guided=any(scale != 1.0 for scale in scales))
    modulations = ModulationTable(system, table, phases)
    state = method.begin(start.to(method.dtype))
    for i, phase in enumerate(phases):
        if i == 0 or phase is not phases[i - 1]:
            state = tuple(carried[phase.parents] for carried in state)  # each (R, C, H, W)

        def evaluated(x: Tensor, stage: int, i: int = i, phase: Phase = phase) -> Tensor:
            return evaluate(system, x, modulations.at(i, stage), phase, guidance, scales[i])

        state = method.step(i, state, evaluated, partial(draw, i, phase))
        if on_step is not None:
            on_step(i + 1, steps)
    results: list[Tensor] = [start] * len(wants)
    for latents, members in zip(state[0], phases[-1].wants, strict=True):
        for want in members:
            results[want] = latents.to(torch.float32, copy=True)
    return results


def _sampler_name(system: System, sampler: str | None) -> str:
    if sampler is None:
        return system.facts.default_sampler
    if sampler not in system.facts.samplers:
        raise ValueError(f"{system.family} is sampled by {', '.join(system.facts.samplers)}, not by {sampler!r}")
    return sampler


def _said(**options: str | float | None) -> dict[str, str | float]:
    return {name: value for name, value in options.items() if value is not None}


def _refuse_options(name: str, options: Mapping[str, str | float]) -> None:
    for option in options:
        if option not in OPTIONS.get(name, ()):
            owners = " and ".join(owner for owner, theirs in OPTIONS.items() if option in theirs)
            raise ValueError(f"the option {option} belongs to the sampler {owners}, not to {name}")


def _check_step_noise(step_noise: Tensor, seeds: Sequence[Seed] | None, shape: tuple[int, ...]) -> None:
    if seeds is not None:
        raise ValueError("step_noise goes with noise; seeds make their own")
    if step_noise.shape[1:] != shape:
        raise ValueError(f"step_noise has shape (steps, {', '.join(map(str, shape))}), not {tuple(step_noise.shape)}")


def _initial(system: System, count: int, seeds: Sequence[Seed] | None, noise: Tensor | None) -> Tensor:
    if (seeds is None) == (noise is None):
        raise ValueError("give either seeds, one a sample, or noise, the initial latents")
    if noise is not None:
        if noise.shape != (count, *system.latent_shape):
            raise ValueError(f"noise has shape {(count, *system.latent_shape)}, not {tuple(noise.shape)}")
        return noise
    assert seeds is not None
    if len(seeds) != count:
        raise ValueError(f"one seed a sample: {count} samples, {len(seeds)} seeds")
    return gaussian_noise(seeds, INITIAL, system.latent_shape)
