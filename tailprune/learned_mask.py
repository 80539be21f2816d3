"""Which components to keep, learned through the frozen network by a gate for each (arXiv 1712.01312).

    c' = z c + (1 - z) fill,    z = clamp(1.2 s - 0.1, 0, 1),    s = sigmoid((log u - log(1 - u) + a) / b)

z is a hard-concrete gate, with uniform noise u and b = 2 / 3; it is open at all with probability
sigmoid(a - b log(0.1 / 1.1)). The loss is the squared difference of the guided output to the full network's, relative,
at points of the full network's own sampling (self-distillation), or at given data with noise. In place of the paper's
penalty on open gates, the expected number of them is held at the number to keep, by an offset that all a share.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from tailprune.arguments import as_number, as_tensor, as_whole, of_kind
from tailprune.condition_table import ConditionTable, class_inputs, population_at, with_guidance_scale
from tailprune.modulation import ModulationMetric
from tailprune.progress import OnStep, reporting
from tailprune.pruning import Prune
from tailprune.sampling.guidance import Guidance
from tailprune.sampling.network import GuidedNetwork
from tailprune.sampling.noise import INITIAL, gaussian_noise
from tailprune.sampling.sample import sampling_times
from tailprune.sampling.solvers import build_solver
from tailprune.sampling.solvers.dopri5 import Dopri5
from tailprune.sampling.solvers.gaussian import trained_products
from tailprune.sampling.trajectories import trajectories_by_step
from tailprune.spec import InputError
from tailprune.spec.display import Shown
from tailprune.spec.prune import Fill
from tailprune.systems.base import InputsLike, System

__all__ = ["LearnedMask", "learn_mask"]

TEMPERATURE = 2 / 3
STRETCH = (-0.1, 1.1)
"""b, and the ends to which s is stretched before it is clamped, as in section 4 of the paper."""
SPREAD = 4.0
"""The standard deviation of the gates' first a. Sharp gates stay close to a mask, and so their gradients to its own."""
CHECKS = 10
"""How often the mask of the moment is compared with the best so far."""
CHECKED_POINTS = 64


@dataclass(frozen=True, repr=False)
class LearnedMask(Shown):
    """The components that were learned to be kept, and how."""

    prune: Prune
    """The prune that keeps them: `Prune.components`."""
    kept: tuple[int, ...]
    """Their indices, in ascending order."""
    error: float
    """sqrt of the mean relative squared error of the guided output under the prune, at some of the points."""
    first_error: float
    """The same for the mask that learning began with."""
    losses: tuple[float, ...] = field(repr=False)
    """The loss of each iteration, with random gates."""


def learn_mask(
    system: System,
    inputs: InputsLike,
    share: float,
    *,
    fill: Fill = "mean",
    data: Tensor | None = None,
    sampler: str | None = None,
    steps: int = 50,
    guidance: Guidance | float = 1.0,
    population: InputsLike | None = None,
    iterations: int = 300,
    batch_size: int = 16,
    learning_rate: float = 0.1,
    seed: int = 0,
    on_step: OnStep | None = None,
    progress: bool = False,
) -> LearnedMask:
    """Learn which components of the condition vectors to keep, the same ones of every vector; the system is unchanged.

    It begins with the components whose removal changes the modulations most, each alone, and ends with the mask that
    had the least error of those that it came by. Equal arguments give an equal mask.

    system: a full system with weights
    inputs: what B samples are conditioned on, at whose points the mask is learned
    share: the share of the components to remove, above 0 and below 1
    fill: what takes the place of a removed component, the `mean` over the population (the default) or `zero`
    data: latents of the inputs, with shape (B, C, H, W), to which noise is added; None, the default, for the points of
        the full network's own sampling
    sampler, steps: as in `tailprune.sample`; not `dopri5`, which chooses its own times
    guidance: as in `tailprune.sample`; the guided output is matched
    population: inputs to take the mean over, all classes by default; required if the system has no classes
    iterations: how often the gates are changed, 300 by default
    batch_size: points an iteration, 16 by default
    learning_rate: that of Adam, 0.1 by default, decreasing to 0 in a line
    seed: the seed of all noise, 0 by default
    on_step: called with (done, total) after each iteration; may raise to stop
    progress: whether a progress bar is drawn, false by default

    Raises InputError for a compacted system, and for arguments that the system or its samplers do not take.
    """
    of_kind(System, "system", system, "a system, such as tailprune.load('models/shapes-sit')")
    if system.reader is not None:
        raise InputError("the system is compacted: learn the mask of the full system")
    if not 0 < as_number("the share of components to remove", share) < 1:
        raise InputError(f"the share of components to remove must be above 0 and below 1, not {share!r}")
    if fill not in ("zero", "mean"):
        raise InputError(f"fill must be 'zero' or 'mean', not {fill!r}")
    as_whole("iterations", iterations, least=1)
    as_whole("batch_size, the points an iteration,", batch_size, least=1)
    as_number("learning_rate", learning_rate, above=0)
    keep = max(1, round((1 - share) * system.condition_dim))
    generator = torch.Generator().manual_seed(as_whole("seed", seed, least=0))
    with torch.no_grad():
        points = _Points(system, inputs, data, sampler, steps, guidance, population, fill, seed)
        logits = points.first_logits()
        checked = torch.randperm(points.count, generator=generator)[:CHECKED_POINTS]
        best = first = _mask(logits, keep)
        least = first_error = points.loss(checked, first).item()
    logits.requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=learning_rate)
    losses: list[float] = []
    with reporting(progress, on_step, "iteration") as report:
        for done in range(1, iterations + 1):
            optimiser.param_groups[0]["lr"] = learning_rate * (1 - (done - 1) / iterations)
            chosen = torch.randint(points.count, (batch_size,), generator=generator)
            noise = torch.rand(batch_size, len(logits), generator=generator).to(logits.device)
            with torch.enable_grad():
                loss = points.loss(chosen, _gates(logits + _offset(logits.detach(), keep), noise))
            (logits.grad,) = torch.autograd.grad(loss, [logits])  # of no parameter of the network
            optimiser.step()
            losses.append(loss.item())
            if done % max(1, iterations // CHECKS) == 0 or done == iterations:
                mask = _mask(logits.detach(), keep)
                with torch.no_grad():
                    error = points.loss(checked, mask).item()
                if error < least:
                    best, least = mask, error
            report(done, iterations)
    kept = tuple(best.nonzero().flatten().tolist())
    return LearnedMask(Prune.components(kept, fill), kept, math.sqrt(least), math.sqrt(first_error), tuple(losses))


class _Points:
    """Points (x, t, input) with the full network's guided output, and the loss of gates there."""

    def __init__(
        self,
        system: System,
        inputs: InputsLike,
        data: Tensor | None,
        sampler: str | None,
        steps: int,
        guidance: Guidance | float,
        population: InputsLike | None,
        fill: Fill,
        seed: int,
    ) -> None:
        if sampler == "dopri5":
            raise InputError("dopri5 chooses its own times: give another sampler")
        sampling_times(system, sampler, steps)  # for its errors
        device = next(system.parameters()).device
        checked = system.check_inputs(inputs)
        if not isinstance(guidance, Guidance):
            guidance = Guidance(guidance, channels=system.facts.guided_channels)
        if system.takes_guidance:
            checked, guidance = with_guidance_scale(checked, guidance.scale), Guidance()
        if guidance.scale != 1 and not system.null_condition:
            raise InputError(f"guidance must be 1, not {guidance.scale:g}: this system has no null condition")
        solver = build_solver(sampler or system.facts.default_sampler, steps, type(system))
        assert not isinstance(solver, Dopri5)
        self._system, self._guidance = system, guidance
        table = ConditionTable(system, checked, solver.times, population)
        scales = [guidance.scale_at(solver.times[i, 0], solver.progress[i, 0].item()) for i in range(steps)]
        guided = any(scale != 1.0 for scale in scales)
        samples = len(table.rows)
        outputs: list[tuple[int, Prune | None]] = [(sample, None) for sample in range(samples)]
        trajectories = trajectories_by_step(outputs, steps, table, guided)
        network = GuidedNetwork(system, table, trajectories, guidance, scales)
        seen: list[tuple[Tensor, Tensor]] = []

        def seeing(x: Tensor, i: int, stage: int) -> Tensor:
            out = network(x, i, stage)
            seen.append((x.float(), out.float()))
            return out

        seeds = [(seed, sample) for sample in range(samples)]
        x = gaussian_noise(seeds, INITIAL, system.latent_shape).to(device)

        def step_noise(i: int) -> Tensor:
            return gaussian_noise(seeds, i + 1, system.latent_shape).to(device)

        if data is None:
            state = solver.begin(x.to(solver.dtype))
            for i in range(steps):
                state = solver.step(i, state, seeing, lambda i: step_noise(i).to(solver.dtype))
        else:
            clean = as_tensor("data", data).to(device, torch.float32)
            if clean.shape != x.shape:
                raise InputError(f"data must have shape {tuple(x.shape)}, a latent an input, not {tuple(clean.shape)}")
            for i in range(steps):
                for stage in range(table.stages):
                    signal, spread = _mixture(system, solver.times[i, stage], solver.progress[i, stage])
                    seeing(signal * clean + spread * step_noise(i), i, stage)
        evaluations = len(seen)
        self.count = evaluations * samples
        self._samples = samples
        self._x, self._out = (torch.stack(parts) for parts in zip(*seen, strict=True))  # each (E, B, C, H, W)
        times = solver.times.flatten().float().to(device)
        scale_of = torch.tensor(scales).repeat_interleave(table.stages).to(device)
        self._scales = scale_of.view(-1, 1, 1, 1)
        self._time_parts = system.embed_time(times)  # (E, d)
        self._input_parts = system.embed_inputs({name: tensor.to(device) for name, tensor in checked.items()})  # (B, d)
        self._null_part = system.embed_inputs(system.null_inputs(1)) if guided else None
        self._fills = torch.zeros_like(self._time_parts)
        if fill == "mean":
            stands_for = class_inputs(system, checked.get("scale")) if population is None else population
            self._fills = population_at(system, times, stands_for).mean  # (E, d)

    def first_logits(self) -> Tensor:
        """The a that gates begin with: by the logarithm of what removing a component alone changes of modulations."""
        fills = F.silu(self._fills).unsqueeze(1)
        inputs = self._input_parts if self._null_part is None else torch.cat([self._input_parts, self._null_part])
        changes = self._input_parts.new_zeros(self._input_parts.shape[1])
        for time, fill in zip(self._time_parts, fills, strict=True):
            changes += (F.silu(time + inputs) - fill).square().mean(0)
        scores = (changes * ModulationMetric(self._system).norms.square().float()).clamp(min=1e-30).log()
        return SPREAD * (scores - scores.mean()) / scores.std().clamp(min=1e-6)

    def loss(self, points: Tensor, gates: Tensor) -> Tensor:
        """The mean relative squared error at some points. gates: with shape (d,) or (points, d)."""
        points = points.to(self._x.device)
        at, sample = points // self._samples, points % self._samples
        times, fills, x = self._time_parts[at], self._fills[at], self._x[at, sample]
        c = times + self._input_parts[sample]
        if self._null_part is not None:
            c, fills, x = torch.cat([c, times + self._null_part]), torch.cat([fills] * 2), torch.cat([x] * 2)
            gates = torch.cat([gates.expand(len(points), -1)] * 2)
        out = self._system(x, gates * c + (1 - gates) * fills).float()
        if self._null_part is not None:
            conditional, null = out.chunk(2)
            out = self._guidance.combine(conditional, null, self._scales[at])
        channels = self._x.shape[2]
        wanted = self._out[at, sample][:, :channels].flatten(1)
        errors = (out[:, :channels].flatten(1) - wanted).square().sum(1)
        return (errors / wanted.square().sum(1).clamp(min=1e-12)).mean()


def _mixture(system: System, time: Tensor, progress: Tensor) -> tuple[float, float]:
    """The factors of data and noise at a time of the family's path."""
    if system.facts.prediction == "velocity":
        return progress.item(), 1 - progress.item()
    product = trained_products()[round(time.item())].item()
    return math.sqrt(product), math.sqrt(1 - product)


def _gates(logits: Tensor, noise: Tensor) -> Tensor:
    """Hard-concrete gates. logits: a, with shape (d,); noise: u, with shape (N, d) -> (N, d), from 0 to 1."""
    low, high = STRETCH
    noise = noise.clamp(1e-6, 1 - 1e-6)
    s = torch.sigmoid((noise.log() - (-noise).log1p() + logits) / TEMPERATURE)
    return (s * (high - low) + low).clamp(0, 1)


def _offset(logits: Tensor, keep: int) -> float:
    """What to add to all a for the expected number of open gates to be `keep`, by bisection."""
    low, high = STRETCH
    shifted = logits.double() - TEMPERATURE * math.log(-low / high)
    bounds = (-shifted.max().item() - 40, -shifted.min().item() + 40)
    for _ in range(60):
        middle = sum(bounds) / 2
        bounds = (middle, bounds[1]) if torch.sigmoid(shifted + middle).sum() < keep else (bounds[0], middle)
    return sum(bounds) / 2


def _mask(logits: Tensor, keep: int) -> Tensor:
    """1 for the components of the `keep` greatest a, else 0 -> (d,)."""
    return torch.zeros_like(logits).scatter_(0, logits.topk(keep).indices, 1.0)
