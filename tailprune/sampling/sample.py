"""One call that samples a system with any number of prunes, from the same noise.

Prunes that agree on every step so far share one trajectory: a prune of the last k steps forks off where its edit
begins. All trajectories of a step go through the network as one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torchdiffeq import odeint

from tailprune.conditions import ConditionTable, told_guidance
from tailprune.pruning import Prune
from tailprune.sampling.flow import SDE, Euler, Heun
from tailprune.sampling.gaussian import DDIM, DDPM, DPMSolverPP
from tailprune.sampling.guidance import Guidance
from tailprune.sampling.method import Method
from tailprune.sampling.noise import INITIAL, Seed, gaussian_noise
from tailprune.systems.base import Inputs, System

__all__ = ["build_method", "sample", "sampling_times"]

MOST_ADAPTIVE_STEPS = 2_000
CPU_ROWS = 64
"""So many samples go through the network at once on a CPU: the activations of more leave its caches."""

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


@torch.no_grad()
def sample(
    system: System,
    inputs: Inputs,
    *,
    sampler: str | None = None,
    steps: int = 50,
    guidance: Guidance | float = 1.0,
    prune: Prune | Sequence[Prune | None] | None = None,
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
) -> Tensor | list[Tensor]:
    """Latents of B samples, with shape (B, C, H, W); one such tensor a prune where `prune` is a list.

    inputs: of B samples, as the system's `condition` takes them. sampler: `ddim`, `ddpm`, `dpmpp` (systems that
    predict noise), `euler`, `heun`, `dopri5`, `sde` (velocity); the system's first unless said. guidance: a scale for
    the channels that the system's authors guide, or a `Guidance`; a system that takes its scale as an input is told it
    and not guided besides. prune: an edit of every condition vector, the null condition's too; a list shares noise
    and, while they agree, trajectories. seeds: one a sample; or `noise`, the initial latents (B, C, H, W), with
    `step_noise`, (steps, B, C, H, W), where the method draws any. population: stands for all classes where the
    system has none. on_step(done, total) is called after each step and may raise to stop; dopri5 calls it at every
    evaluation, counting finished samples. diffusion, last_step: of `sde`. shift: of `euler` and `heun`. atol, rtol: of
    `dopri5`, which solves each sample by itself, so that its steps do not depend on the batch.

    Raises ValueError for a method the system has not, both or neither of seeds and noise, shapes that do not fit, or
    a schedule other than `every` with dopri5.
    """
    prunes = list(prune) if isinstance(prune, Sequence) else [prune]
    if not prunes:
        raise ValueError("an empty list of prunes asks for nothing; None stands for the unpruned baseline")
    device = next(system.parameters()).device
    guidance = guidance if isinstance(guidance, Guidance) else Guidance(guidance, channels=system.guided_channels)
    name = _sampler_name(system, sampler)
    count = len(next(iter(inputs.values())))
    x = _initial(system, count, seeds, noise).to(device, torch.float32)
    if step_noise is not None:
        _check_step_noise(step_noise, seeds, (count, *system.latent_shape))
    if system.takes_guidance:
        inputs, guidance = told_guidance(inputs, guidance.scale), Guidance()
    options = _said(diffusion=diffusion, last_step=last_step, shift=shift)
    if name == "dopri5":
        _refuse_options(name, options)
        results = _adaptive(system, inputs, x, prunes, guidance, population, on_step, atol, rtol)
    else:
        method = build_method(name, steps, type(system), **options)
        if any(p is not None and p.count is not None and p.count > steps for p in prunes):
            raise ValueError(f"a schedule counts at most the {steps} steps there are")
        table = ConditionTable(system, inputs, method.times, population)

        def draw(i: int) -> Tensor:
            if seeds is not None:
                return gaussian_noise(seeds, i + 1, system.latent_shape).to(device, method.dtype)
            if step_noise is None or i >= len(step_noise):
                drawn = 0 if step_noise is None else len(step_noise)
                raise ValueError(f"{name} draws noise at step {i}; step_noise holds {drawn}: give more, or seeds")
            return step_noise[i].to(device, method.dtype)

        results = _stepwise(system, method, table, x, prunes, guidance, draw, on_step)
    return results if isinstance(prune, Sequence) else results[0]


def _stepwise(
    system: System,
    method: Method,
    table: ConditionTable,
    start: Tensor,
    prunes: list[Prune | None],
    guidance: Guidance,
    draw: Callable[[int], Tensor],
    on_step: Callable[[int, int], None] | None,
) -> list[Tensor]:
    steps = len(method.times)
    tracks = [list(range(len(prunes)))]  # which prunes each trajectory stands for
    state = method.begin(start.to(method.dtype).unsqueeze(0))  # each (tracks, B, C, H, W)
    for i in range(steps):
        forks: list[tuple[int, Prune | None, list[int]]] = []
        for track, members in enumerate(tracks):
            by_edit: dict[Prune | None, list[int]] = {}
            for member in members:
                by_edit.setdefault(_edit_at(prunes[member], i, steps), []).append(member)
            forks += [(track, edit, together) for edit, together in by_edit.items()]
        if len(forks) > len(tracks):
            state = tuple(carried[[track for track, _, _ in forks]] for carried in state)
        tracks = [together for _, _, together in forks]
        edits = [edit for _, edit, _ in forks]
        scale = guidance.scale_at(method.times[i, 0], method.progress[i, 0].item())  # one for all stages, as REPA does

        def evaluate(
            x: Tensor, stage: int, i: int = i, edits: list[Prune | None] = edits, scale: float = scale
        ) -> Tensor:
            vectors = torch.stack([table.at(i, stage, edit) for edit in edits])  # (tracks, U + 1, d)
            return _guided(system, x, vectors[:, table.rows], vectors[:, table.null_row], guidance, scale)

        state = method.step(i, state, evaluate, partial(draw, i))
        if on_step is not None:
            on_step(i + 1, steps)
    results: list[Tensor] = [start] * len(prunes)
    for latents, members in zip(state[0], tracks, strict=True):
        for member in members:
            results[member] = latents.to(torch.float32, copy=True)
    return results


def _guided(system: System, x: Tensor, conditional: Tensor, null: Tensor, guidance: Guidance, scale: float) -> Tensor:
    """x, with shape (T, B, C, H, W), conditional (T, B, d), null (T, d) -> the guided output of T x B samples."""
    tracks, count = x.shape[:2]
    rows, c = x.flatten(0, 1).float(), conditional.flatten(0, 1)
    if scale == 1.0:
        return _forward(system, rows, c).to(x.dtype).unflatten(0, (tracks, count))
    null_rows = null.unsqueeze(1).expand_as(conditional).flatten(0, 1)
    both = _forward(system, torch.cat([rows, rows]), torch.cat([c, null_rows]))
    guided, unguided = both.to(x.dtype).unflatten(0, (2, tracks, count))
    return guidance.combine(guided, unguided, scale)


def _forward(system: System, x: Tensor, c: Tensor) -> Tensor:
    """x, with shape (B, C, H, W); c, with shape (B, d) -> as the system's forward."""
    if x.device.type != "cpu" or len(x) <= CPU_ROWS:
        return system(x, c)
    return torch.cat([system(*some) for some in zip(x.split(CPU_ROWS), c.split(CPU_ROWS), strict=True)])


def _adaptive(
    system: System,
    inputs: Inputs,
    start: Tensor,
    prunes: list[Prune | None],
    guidance: Guidance,
    population: Inputs | None,
    on_step: Callable[[int, int], None] | None,
    atol: float,
    rtol: float,
) -> list[Tensor]:
    if any(p is not None and p.schedule != "every" for p in prunes):
        raise ValueError("dopri5 chooses its own steps, so its prunes have the schedule 'every'")
    begin, end = system.noise_time, system.data_time
    span = torch.tensor([begin, end], dtype=torch.float32, device=start.device)
    total = len(start) * len(prunes)

    def tell(done: int) -> None:
        if on_step is not None:
            on_step(done, total)

    results: list[list[Tensor]] = [[] for _ in prunes]
    for index in range(len(start)):
        one = {key: value[index : index + 1] for key, value in inputs.items()}
        for variant, prune in enumerate(prunes):
            done = index * len(prunes) + variant

            def velocity(
                t: Tensor, x: Tensor, one: Inputs = one, prune: Prune | None = prune, done: int = done
            ) -> Tensor:
                tell(done)
                table = ConditionTable(system, one, t.view(1, 1), population)
                vectors = table.at(0, 0, prune).unsqueeze(0)
                scale = guidance.scale_at(t, (t.item() - begin) / (end - begin))
                conditional, null = vectors[:, table.rows], vectors[:, table.null_row]
                return _guided(system, x.unsqueeze(0), conditional, null, guidance, scale)[0]

            results[variant].append(_solved(velocity, start[index : index + 1], span, atol, rtol))
            tell(done + 1)
    return [torch.cat(samples) for samples in results]


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


def _edit_at(prune: Prune | None, step: int, steps: int) -> Prune | None:
    """What `prune` does at this step, whatever its schedule says of others."""
    if prune is None or not prune.active(step, steps):
        return None
    return replace(prune, schedule="every", count=None)


def _sampler_name(system: System, sampler: str | None) -> str:
    if sampler is None:
        return system.samplers[0]
    if sampler not in system.samplers:
        raise ValueError(f"{system.family} is sampled by {', '.join(system.samplers)}, not by {sampler!r}")
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
