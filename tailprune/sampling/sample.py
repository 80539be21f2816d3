"""Sampling a system under any number of prunes, from the same noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypedDict, Unpack

import torch
from torch import Tensor

from tailprune.condition_table import ConditionTable, with_guidance_scale
from tailprune.pruning import Prune
from tailprune.sampling.guidance import Guidance
from tailprune.sampling.network import GuidedNetwork
from tailprune.sampling.noise import INITIAL, Seed, gaussian_noise
from tailprune.sampling.solvers import build_solver
from tailprune.sampling.solvers.base import Solver
from tailprune.sampling.solvers.dopri5 import Dopri5
from tailprune.sampling.trajectories import trajectories_by_step
from tailprune.spec import InputError
from tailprune.systems.base import Inputs, System

__all__ = ["sample", "sample_each", "sampling_times"]


class Keywords(TypedDict, total=False):
    """The options of `sample` and `sample_each`, for the type checker; `Options` has their defaults."""

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


@dataclass(frozen=True)
class Options:
    """How to sample, as `sample` describes."""

    sampler: str | None = None
    steps: int = 50
    guidance: Guidance | float = 1.0
    seeds: Sequence[Seed] | None = None
    noise: Tensor | None = None
    step_noise: Tensor | None = None
    population: Inputs | None = None
    on_step: Callable[[int, int], None] | None = None
    diffusion: str | None = None
    last_step: str | None = None
    shift: float | None = None
    atol: float = 1e-6
    rtol: float = 1e-3


def sample(
    system: System, inputs: Inputs, *, prune: Prune | Sequence[Prune | None] | None = None, **options: Unpack[Keywords]
) -> Tensor | list[Tensor]:
    """Latents of B samples, with shape (B, C, H, W), float32; for a sequence of prunes, a list with those of each.

    system: a system with weights
    inputs: what the B samples are conditioned on, as the system's `condition` takes it
    prune: an edit of every condition vector, the null condition's too; None, the default, is none. Those of a sequence
        share the noise and, for as long as they agree, trajectories
    sampler: `ddim`, `ddpm`, `dpmpp` (systems that predict noise), `euler`, `heun`, `sde`, `dopri5` (velocity); the
        first of the system's by default
    steps: how many, 2 or more, 50 by default; dopri5 chooses its own
    guidance: the guidance scale, 0 or more, 1 by default, which is none, for the channels that the system's authors
        guide; or a `Guidance`. A system that takes its scale as an input gets it there alone
    seeds: B of them, each an integer or (seed, sample index), from 0 to 2^64 - 1
    noise: in place of seeds, the initial latents, with shape (B, C, H, W)
    step_noise: with `noise`, for `ddpm` and `sde`, what each step draws, with shape (steps, B, C, H, W)
    population: inputs that stand for all classes where a prune asks for their mean or variance; needed where the
        system has no classes
    on_step: called with (done, total) after each step, and may raise to stop; with dopri5 before each evaluation of the
        network and after each sample, counting finished samples
    diffusion: of `sde`, `sigma` (default) or `linear`
    last_step: of `sde`, `mean` (default) or `tweedie`
    shift: of `euler` and `heun`, above 0; below 1 more steps are near the noise; None, the default, is no shift
    atol, rtol: of `dopri5`, the error of a step, absolute and relative to x; 1e-6 and 1e-3 by default. It solves each
        sample by itself, so that its steps do not depend on the batch

    Raises InputError for a sampler or an option that the system or the sampler does not have, both or neither of seeds
    and noise, shapes that do not fit, or a schedule other than `every` with dopri5.
    """
    prunes = list(prune) if isinstance(prune, Sequence) else [prune]
    if not prunes:
        raise InputError("an empty list of prunes asks for nothing; None stands for the unpruned baseline")
    count = len(next(iter(inputs.values())))
    latents = _sample(system, inputs, [(n, each) for each in prunes for n in range(count)], Options(**options))
    results = [torch.stack(latents[first : first + count]) for first in range(0, len(latents), count)]
    return results if isinstance(prune, Sequence) else results[0]


def sample_each(
    system: System, inputs: Inputs, *, prunes: Sequence[Sequence[Prune | None]], **options: Unpack[Keywords]
) -> list[list[Tensor]]:
    """Latents of B samples, each under prunes of its own: by sample and prune, with shape (C, H, W), float32.

    All go through the network as one batch.

    system, inputs: as of `sample`
    prunes: for each of the B samples, its prunes; None is none
    options: as of `sample`

    Raises InputError as `sample` does, and where there are not B lists of prunes.
    """
    if len(prunes) != (count := len(next(iter(inputs.values())))):
        raise InputError(f"one list of prunes a sample: {count} samples, {len(prunes)} lists")
    wanted = [(n, prune) for n, some in enumerate(prunes) for prune in some]
    latents = iter(_sample(system, inputs, wanted, Options(**options)))
    return [[next(latents) for _ in some] for some in prunes]


def sampling_times(system: System, sampler: str | None = None, steps: int = 50, shift: float | None = None) -> Tensor:
    """When each step evaluates the network, in the system's own time -> (steps, stages).

    system: a system, with or without weights
    sampler: as of `sample`; dopri5 chooses its own times, and evenly spaced ones stand for them
    steps: how many, 2 or more
    shift: of `euler` and `heun`

    Raises InputError for a sampler or an option that the system or the sampler does not have.
    """
    name = _sampler_name(system, sampler)
    solver = build_solver("euler" if name == "dopri5" else name, steps, type(system), shift=shift)
    assert not isinstance(solver, Dopri5)
    return solver.times


@torch.no_grad()
def _sample(
    system: System, inputs: Inputs, wanted: Sequence[tuple[int, Prune | None]], options: Options
) -> list[Tensor]:
    """The latents of each (sample, prune) that is wanted, with shape (C, H, W)."""
    if not wanted:
        raise InputError("there is nothing to sample: give one sample or more, each with one prune or more")
    inputs, guidance = _guided(system, inputs, options.guidance)
    name, steps = _sampler_name(system, options.sampler), options.steps

    # Times and noise
    x = _initial_latents(system, len(next(iter(inputs.values()))), options)  # (B, C, H, W)
    solver = _solver(system, name, options)  # solver.times: (steps, stages)
    if isinstance(solver, Dopri5):
        return _sample_adaptively(system, inputs, x, wanted, solver, guidance, options)

    # Trajectories and their condition vectors
    if any(prune is not None and prune.count is not None and prune.count > steps for _, prune in wanted):
        raise InputError(f"a schedule counts at most the {steps} steps there are")
    table = ConditionTable(system, inputs, solver.times, options.population)
    # One scale for all stages of a step, as REPA does.
    scales = [guidance.scale_at(solver.times[i, 0], solver.progress[i, 0].item()) for i in range(steps)]
    trajectories = trajectories_by_step(wanted, steps, table, guided=any(scale != 1.0 for scale in scales))
    network = GuidedNetwork(system, table, trajectories, guidance, scales)

    # The loop: evaluate and guide (the network), step (the solver)
    def noise(i: int) -> Tensor:
        return _step_noise(system, name, i, options).to(x.device, solver.dtype)[trajectories[i].samples]

    state = solver.begin(x.to(solver.dtype))
    for i in range(steps):
        if i == 0 or trajectories[i] is not trajectories[i - 1]:
            state = tuple(tensor[trajectories[i].parents] for tensor in state)  # each (R, C, H, W)
        state = solver.step(i, state, network, noise)
        if options.on_step is not None:
            options.on_step(i + 1, steps)

    results = {
        place: latents.to(torch.float32, copy=True)
        for latents, places in zip(state[0], trajectories[-1].wanted, strict=True)
        for place in places
    }
    return [results[place] for place in range(len(wanted))]


def _sample_adaptively(
    system: System,
    inputs: Inputs,
    x: Tensor,
    wanted: Sequence[tuple[int, Prune | None]],
    solver: Dopri5,
    guidance: Guidance,
    options: Options,
) -> list[Tensor]:
    """As `_sample`, by a solver that chooses its own times: a sample by itself, its condition vectors made as it goes.

    x: the initial latents, with shape (B, C, H, W)
    """
    if any(prune is not None and prune.schedule != "every" for _, prune in wanted):
        raise InputError("dopri5 chooses its own steps, so its prunes have the schedule 'every'")

    def report(done: int) -> None:
        if options.on_step is not None:
            options.on_step(done, len(wanted))

    results: list[Tensor] = []
    for done, (index, prune) in enumerate(wanted):
        one = {name: tensor[index : index + 1] for name, tensor in inputs.items()}

        def velocity(t: Tensor, x: Tensor, one: Inputs = one, prune: Prune | None = prune, done: int = done) -> Tensor:
            report(done)
            table = ConditionTable(system, one, t.view(1, 1), options.population)
            scale = guidance.scale_at(t, solver.progress(t.item()))
            trajectories = trajectories_by_step([(0, prune)], 1, table, guided=scale != 1.0)
            return GuidedNetwork(system, table, trajectories, guidance, [scale])(x, 0, 0)

        results.append(solver.solve(velocity, x[index : index + 1])[0])
        report(done + 1)
    return results


def _sampler_name(system: System, sampler: str | None) -> str:
    if sampler is None:
        return system.facts.default_sampler
    if sampler not in system.facts.samplers:
        raise InputError(f"{system.family} is sampled by {', '.join(system.facts.samplers)}, not by {sampler!r}")
    return sampler


def _guided(system: System, inputs: Inputs, guidance: Guidance | float) -> tuple[Inputs, Guidance]:
    """The guidance with its channels; it is part of the inputs, and there alone, of a system that takes its scale."""
    if not isinstance(guidance, Guidance):
        guidance = Guidance(guidance, channels=system.facts.guided_channels)
    return (with_guidance_scale(inputs, guidance.scale), Guidance()) if system.takes_guidance else (inputs, guidance)


def _solver(system: System, name: str, options: Options) -> Solver | Dopri5:
    given: dict[str, str | float | None] = {
        "diffusion": options.diffusion,
        "last_step": options.last_step,
        "shift": options.shift,
    }
    if name == "dopri5":  # tolerances have defaults, and are not refused where they do nothing
        given |= {"atol": options.atol, "rtol": options.rtol}
    return build_solver(name, options.steps, type(system), **given)


def _initial_latents(system: System, count: int, options: Options) -> Tensor:
    """The latents at pure noise, with shape (B, C, H, W), float32. Raises InputError for noise that does not fit."""
    device = next(system.parameters()).device
    seeds, noise, step_noise = options.seeds, options.noise, options.step_noise
    shape = (count, *system.latent_shape)
    if (seeds is None) == (noise is None):
        raise InputError("give either seeds, one a sample, or noise, the initial latents")
    if noise is not None:
        if noise.shape != shape:
            raise InputError(f"noise has shape {shape}, not {tuple(noise.shape)}")
        if step_noise is not None and step_noise.shape[1:] != shape:
            sizes = ", ".join(map(str, shape))
            raise InputError(f"step_noise has shape (steps, {sizes}), not {tuple(step_noise.shape)}")
        return noise.to(device, torch.float32)
    assert seeds is not None
    if len(seeds) != count:
        raise InputError(f"one seed a sample: {count} samples, {len(seeds)} seeds")
    if step_noise is not None:
        raise InputError("step_noise goes with noise; seeds make their own")
    return gaussian_noise(seeds, INITIAL, system.latent_shape).to(device)


def _step_noise(system: System, name: str, i: int, options: Options) -> Tensor:
    """What step i draws, with shape (B, C, H, W)."""
    if options.seeds is not None:
        return gaussian_noise(options.seeds, i + 1, system.latent_shape)
    given = 0 if options.step_noise is None else len(options.step_noise)
    if options.step_noise is None or i >= given:
        raise InputError(f"{name} draws noise at step {i}; step_noise holds {given}: give more, or seeds")
    return options.step_noise[i]
