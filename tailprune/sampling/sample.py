"""Sampling a system under any number of prunes, from the same noise.

    x = noise;   for each step i:   x = solver.step(i, x, guided network);   latents = x

Several prunes of a sample are as many outputs, and one batch; they share a trajectory until their prunes differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypedDict, Unpack, overload

import torch
from torch import Tensor

from tailprune.arguments import as_tensor, closest, of_kind, sequence_of
from tailprune.condition_table import ConditionTable, with_guidance_scale
from tailprune.edit import AnyEdit
from tailprune.progress import OnStep, reporting
from tailprune.pruning import Prune
from tailprune.sampling.guidance import Guidance
from tailprune.sampling.network import GuidedNetwork
from tailprune.sampling.noise import INITIAL, Seed, as_seeds, gaussian_noise
from tailprune.sampling.solvers import build_solver
from tailprune.sampling.solvers.base import Solver
from tailprune.sampling.solvers.dopri5 import Dopri5
from tailprune.sampling.trajectories import trajectories_by_step
from tailprune.spec import InputError
from tailprune.systems.base import Inputs, InputsLike, System
from tailprune.systems.kernels import packing

__all__ = ["sample", "sample_each", "sampling_times"]

SYSTEM = "a system, such as tailprune.load('models/shapes-sit')"
PRUNE = "Prune('tail', 0.05)"


class Keywords(TypedDict, total=False):
    """The options of `sample`, for the type checker to read its overloads; see there for their meaning."""

    sampler: str | None
    steps: int
    guidance: Guidance | float
    seeds: Sequence[Seed] | None
    noise: Tensor | None
    step_noise: Tensor | None
    population: InputsLike | None
    on_step: OnStep | None
    progress: bool
    diffusion: str | None
    last_step: str | None
    shift: float | None
    atol: float
    rtol: float


@dataclass
class Options:
    """The options of a call, checked; see `sample` for their meaning. Raises InputError for a wrong type or number."""

    sampler: str | None
    steps: int
    guidance: Guidance | float
    seeds: Sequence[Seed] | None
    noise: Tensor | None
    step_noise: Tensor | None
    population: InputsLike | None
    on_step: OnStep | None
    progress: bool
    diffusion: str | None
    last_step: str | None
    shift: float | None
    atol: float
    rtol: float

    def __post_init__(self) -> None:
        if self.seeds is not None:
            self.seeds = as_seeds(self.seeds)
        if self.noise is not None:
            self.noise = _gaussian("noise", self.noise)
        if self.step_noise is not None:
            self.step_noise = _gaussian("step_noise", self.step_noise)


@overload
def sample(
    system: System, inputs: InputsLike, *, prune: AnyEdit | None = None, **options: Unpack[Keywords]
) -> Tensor: ...
@overload
def sample(
    system: System, inputs: InputsLike, *, prune: Sequence[AnyEdit | None], **options: Unpack[Keywords]
) -> list[Tensor]: ...
def sample(
    system: System,
    inputs: InputsLike,
    *,
    prune: AnyEdit | Sequence[AnyEdit | None] | None = None,
    sampler: str | None = None,
    steps: int = 50,
    guidance: Guidance | float = 1.0,
    seeds: Sequence[Seed] | None = None,
    noise: Tensor | None = None,
    step_noise: Tensor | None = None,
    population: InputsLike | None = None,
    on_step: OnStep | None = None,
    progress: bool = False,
    diffusion: str | None = None,
    last_step: str | None = None,
    shift: float | None = None,
    atol: float = 1e-6,
    rtol: float = 1e-3,
) -> Tensor | list[Tensor]:
    """Latents of B samples, with shape (B, C, H, W), float32; for a sequence of prunes, a list of one such per prune.

    system: a system with weights
    inputs: what the B samples are conditioned on, as the system's `condition` takes it
    prune: an edit of every condition vector, the null condition's included, or an `Edit`, which leaves that as it is;
        None, the default, for neither. Those of a sequence start from the same noise
    sampler: `ddim`, `ddpm`, `dpmpp` (systems that predict noise), `euler`, `heun`, `sde`, `dopri5` (velocity); the
        system's default sampler by default
    steps: the number of steps, 2 or more, 50 by default; dopri5 chooses its own
    guidance: the guidance scale, 0 or more, 1 (no guidance) by default, on the channels that the system's authors
        guide; or a `Guidance`. A system that takes the scale as an input gets it as an input only
    seeds: B seeds, each an integer or (seed, sample index), from 0 to 2^64 - 1
    noise: instead of seeds, the initial latents, with shape (B, C, H, W)
    step_noise: with `noise`, for `ddpm` and `sde`, the noise of each step, with shape (steps, B, C, H, W)
    population: inputs for the mean or variance that a prune may need, all classes by default; required for such a
        prune if the system has no classes
    on_step: called with (done, total) after each step; may raise to stop. With dopri5 it is called before each
        evaluation of the network and after each sample, and counts finished samples
    progress: whether a progress bar is drawn, false by default
    diffusion: for `sde`, `sigma` (default) or `linear`
    last_step: for `sde`, `mean` (default) or `tweedie`
    shift: for `euler` and `heun`, above 0; below 1, more steps are near the noise; None, the default, for no shift
    atol, rtol: for `dopri5`, the error of a step, absolute and relative to x; 1e-6 and 1e-3 by default. Each sample is
        solved on its own, so that its steps do not depend on the batch

    Raises InputError for a sampler or an option that the system or the sampler does not have, both or neither of seeds
    and noise, shapes that do not fit, steps, thresholds by step or blocks of a prune that do not fit the run or the
    system, or, with dopri5, any that is not the same at every step.
    """
    options = Options(
        sampler, steps, guidance, seeds, noise, step_noise, population, on_step, progress, diffusion, last_step, shift,
        atol, rtol,
    )  # fmt: skip
    one = prune is None or isinstance(prune, AnyEdit)
    prunes: list[AnyEdit | None] = sequence_of(AnyEdit, "prune", [prune] if one else prune, PRUNE)
    if not prunes:
        raise InputError("the list of prunes is empty: give one prune or more; None stands for the unpruned baseline")
    checked = _checked(system, inputs)
    count = len(next(iter(checked.values())))
    outputs = [(n, each) for each in prunes for n in range(count)]
    latents = _sample(system, checked, outputs, options)
    results = [torch.stack(latents[first : first + count]) for first in range(0, len(latents), count)]
    return results[0] if one else results


def sample_each(
    system: System,
    inputs: InputsLike,
    *,
    prunes: Sequence[Sequence[AnyEdit | None]],
    sampler: str | None = None,
    steps: int = 50,
    guidance: Guidance | float = 1.0,
    seeds: Sequence[Seed] | None = None,
    noise: Tensor | None = None,
    step_noise: Tensor | None = None,
    population: InputsLike | None = None,
    on_step: OnStep | None = None,
    progress: bool = False,
    diffusion: str | None = None,
    last_step: str | None = None,
    shift: float | None = None,
    atol: float = 1e-6,
    rtol: float = 1e-3,
) -> list[list[Tensor]]:
    """Latents of B samples, each under its own prunes: a list per sample, with shape (C, H, W), float32, per prune.

    All go through the network as one batch.

    prunes: B lists, the prunes of each sample; None for no edit
    The other parameters are those of `sample`.

    Raises InputError as `sample` does, and if there are not B lists of prunes.
    """
    options = Options(
        sampler, steps, guidance, seeds, noise, step_noise, population, on_step, progress, diffusion, last_step, shift,
        atol, rtol,
    )  # fmt: skip
    lists = sequence_of(Sequence, "prunes", prunes, f"[None, {PRUNE}]")
    checked = _checked(system, inputs)
    if len(lists) != (count := len(next(iter(checked.values())))):
        raise InputError(f"give one list of prunes per sample: there are {count} samples and {len(lists)} lists")
    outputs = [(n, prune) for n, each in enumerate(lists) for prune in sequence_of(AnyEdit, "prunes", each, PRUNE)]
    latents = iter(_sample(system, checked, outputs, options))
    return [[next(latents) for _ in each] for each in lists]


def sampling_times(
    system: System | type[System], sampler: str | None = None, steps: int = 50, shift: float | None = None
) -> Tensor:
    """The times at which each step evaluates the network, in the system's own time -> (steps, stages).

    system: a system, with or without weights, or the class of its family
    sampler: as in `sample`; for dopri5, which chooses its own times, evenly spaced times are returned
    steps: the number of steps, 2 or more, 50 by default
    shift: for `euler` and `heun`, as in `sample`

    Raises InputError for a sampler or an option that the system or the sampler does not have.
    """
    family = system if isinstance(system, type) else type(system)
    if not (issubclass(family, System) and hasattr(family, "facts")):
        of_kind(System, "system", system, SYSTEM)
    name = _sampler_name(family, sampler)
    solver = build_solver("euler" if name == "dopri5" else name, steps, family, shift=shift)
    assert not isinstance(solver, Dopri5)
    return solver.times


def _checked(system: System, inputs: InputsLike) -> Inputs:
    """The inputs as tensors. Raises InputError if the system is none, or does not take them."""
    of_kind(System, "system", system, SYSTEM)
    return system.check_inputs(inputs)


def _gaussian(name: str, noise: Tensor) -> Tensor:
    """Recorded noise as a tensor. Raises InputError for anything but finite floating-point numbers."""
    tensor = as_tensor(name, noise)
    if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
        raise InputError(f"{name} must hold finite floating-point numbers, such as torch.randn makes")
    return tensor


@torch.no_grad()
@packing()
def _sample(
    system: System, inputs: Inputs, outputs: Sequence[tuple[int, AnyEdit | None]], options: Options
) -> list[Tensor]:
    """The latents of each output, a (sample, prune), with shape (C, H, W)."""
    if not outputs:
        raise InputError("nothing to sample: give at least one sample, and at least one prune for it")
    inputs, guidance = _guided(system, inputs, options.guidance)
    name, steps = _sampler_name(system, options.sampler), options.steps

    for blocks in {prune.blocks for _, prune in outputs if prune is not None}:
        system.layers_of(blocks)  # raises

    # Times and noise
    x = _initial_latents(system, len(next(iter(inputs.values()))), options)  # (B, C, H, W)
    solver = _solver(system, name, options)  # solver.times: (steps, stages)
    if isinstance(solver, Dopri5):
        return _sample_adaptively(system, inputs, x, outputs, solver, guidance, options)

    # Trajectories and their condition vectors
    for _, prune in outputs:
        if prune is not None:
            prune.check_steps(steps)
    table = ConditionTable(system, inputs, solver.times, options.population, guidance.modulation)
    outputs = _resolved(outputs, table)
    # One scale for all stages of a step, as REPA does.
    scales = [guidance.scale_at(solver.times[i, 0], solver.progress[i, 0].item()) for i in range(steps)]
    trajectories = trajectories_by_step(outputs, steps, table, guided=any(scale != 1.0 for scale in scales))
    network = GuidedNetwork(system, table, trajectories, guidance, scales)

    # The loop: evaluate and guide (the network), step (the solver)
    def noise(i: int) -> Tensor:
        return _step_noise(system, name, i, options).to(x.device, solver.dtype)[trajectories[i].samples]

    state = solver.begin(x.to(solver.dtype))
    with reporting(options.progress, options.on_step, "step") as report:
        for i in range(steps):
            if i == 0 or trajectories[i] is not trajectories[i - 1]:
                state = tuple(tensor[trajectories[i].parents] for tensor in state)  # each (R, C, H, W)
            state = solver.step(i, state, network, noise)
            report(i + 1, steps)

    results = {
        output: latents.to(torch.float32, copy=True)
        for latents, indices in zip(state[0], trajectories[-1].outputs, strict=True)
        for output in indices
    }
    return [results[output] for output in range(len(outputs))]


def _sample_adaptively(
    system: System,
    inputs: Inputs,
    x: Tensor,
    outputs: Sequence[tuple[int, AnyEdit | None]],
    solver: Dopri5,
    guidance: Guidance,
    options: Options,
) -> list[Tensor]:
    """The latents of each output by a solver that chooses its own times, one output after the other.

    system, inputs, outputs: as in `_sample`
    x: the initial latents, with shape (B, C, H, W)
    solver, guidance, options: the solver, the guidance with its channels, and the options of the call
    """
    if any(prune is not None and not prune.every_step for _, prune in outputs):
        raise InputError(
            "dopri5 chooses its own steps: give prunes with the schedule 'every' and one threshold, or another sampler"
        )
    evenly = sampling_times(system, "dopri5", options.steps)
    outputs = _resolved(outputs, ConditionTable(system, inputs, evenly, options.population, guidance.modulation))

    def solved(index: int, prune: AnyEdit | None, report: Callable[[], None]) -> Tensor:
        one = {name: tensor[index : index + 1] for name, tensor in inputs.items()}

        def velocity(t: Tensor, x: Tensor) -> Tensor:
            report()
            table = ConditionTable(system, one, t.view(1, 1), options.population, guidance.modulation)
            scale = guidance.scale_at(t, solver.progress(t.item()))
            trajectories = trajectories_by_step([(0, prune)], 1, table, guided=scale != 1.0)
            return GuidedNetwork(system, table, trajectories, guidance, [scale])(x, 0, 0)

        return solver.solve(velocity, x[index : index + 1])[0]

    results: list[Tensor] = []
    with reporting(options.progress, options.on_step, "sample") as report:
        for done, (index, prune) in enumerate(outputs):
            results.append(solved(index, prune, partial(report, done, len(outputs))))
            report(done + 1, len(outputs))
    return results


def _resolved(outputs: Sequence[tuple[int, AnyEdit | None]], table: ConditionTable) -> list[tuple[int, AnyEdit | None]]:
    """The outputs with the threshold of each prune that removes a share of the run's vectors, found once."""
    prunes = {prune: table.resolved(prune) if isinstance(prune, Prune) else prune for _, prune in outputs}
    return [(sample, prunes[prune]) for sample, prune in outputs]


def _sampler_name(system: System | type[System], sampler: str | None) -> str:
    if sampler is None:
        return system.facts.default_sampler
    if sampler not in system.facts.samplers:
        raise InputError(
            f"{system.family} has no sampler {sampler!r}: give one of {', '.join(system.facts.samplers)}"
            + closest(sampler, system.facts.samplers)
        )
    return sampler


def _guided(system: System, inputs: Inputs, guidance: Guidance | float) -> tuple[Inputs, Guidance]:
    """Inputs and guidance; for a system that takes the scale as an input, the scale moves from the guidance there."""
    if not isinstance(guidance, Guidance):
        guidance = Guidance(guidance, channels=system.facts.guided_channels)
    if system.takes_guidance:
        return with_guidance_scale(inputs, guidance.scale), Guidance(modulation=guidance.modulation)
    if guidance.scale != 1 and not system.null_condition:
        raise InputError(
            f"guidance must be 1, not {guidance.scale:g}: this system has no null condition to guide away from, since "
            "it was trained without dropping labels"
        )
    return inputs, guidance


def _solver(system: System, name: str, options: Options) -> Solver | Dopri5:
    given: dict[str, str | float | None] = {
        "diffusion": options.diffusion,
        "last_step": options.last_step,
        "shift": options.shift,
    }
    if name == "dopri5":  # tolerances have defaults, so other samplers ignore them
        given |= {"atol": options.atol, "rtol": options.rtol}
    return build_solver(name, options.steps, type(system), **given)


def _initial_latents(system: System, count: int, options: Options) -> Tensor:
    """The latents at pure noise, with shape (B, C, H, W), float32. Raises InputError for noise that does not fit."""
    device = next(system.parameters()).device
    seeds, noise, step_noise = options.seeds, options.noise, options.step_noise
    shape = (count, *system.latent_shape)
    if (seeds is None) == (noise is None):
        raise InputError("give either seeds, one per sample, or noise, the initial latents")
    if noise is not None:
        if tuple(noise.shape) != shape:
            raise InputError(f"noise must have shape {shape}, not {tuple(noise.shape)}")
        if step_noise is not None and tuple(step_noise.shape[1:]) != shape:
            sizes = ", ".join(map(str, shape))
            raise InputError(f"step_noise must have shape (steps, {sizes}), not {tuple(step_noise.shape)}")
        return noise.to(device, torch.float32)
    assert seeds is not None
    if len(seeds) != count:
        raise InputError(f"give one seed per sample: there are {count} samples and {len(seeds)} seeds")
    if step_noise is not None:
        raise InputError("step_noise goes with noise, not with seeds, which give the noise of each step: leave it out")
    return gaussian_noise(seeds, INITIAL, system.latent_shape).to(device)


def _step_noise(system: System, name: str, i: int, options: Options) -> Tensor:
    """The noise of step i, with shape (B, C, H, W)."""
    if options.seeds is not None:
        return gaussian_noise(options.seeds, i + 1, system.latent_shape)
    given = 0 if options.step_noise is None else len(options.step_noise)
    if options.step_noise is None or i >= given:
        raise InputError(f"{name} draws noise at step {i}, and step_noise has {given} steps: give more, or seeds")
    return options.step_noise[i]
