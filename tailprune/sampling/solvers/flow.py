"""Samplers of the linear path, for systems that predict its velocity (arXiv 2401.08740).

x_a = a x_1 + (1 - a) x_0,   x_0 noise, x_1 data;    dx/da = u(x, a)
score = (a u - x) / (1 - a)                          (SiT, eq. 9)
dx = (u + w score) da + sqrt(2 w) dW,  w = 1 - a     (SiT, eq. 6; the forms `sigma` and `linear` agree on this path)

Where a system's own time t runs from 0 (noise) to 1 (data), t = a and u is what it predicts; where it runs from 1 to
0, t = 1 - a and u is the opposite of that.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from tailprune.sampling.solvers.base import Network, Noise, Solver, State
from tailprune.spec import InputError
from tailprune.systems.base import System

__all__ = ["SDE", "Euler", "Heun"]

LAST_STEP = 0.04
"""The length of the last step of `SDE`, which draws no noise (SiT, REPA)."""


class _FlowSolver(Solver):
    """A solver of the linear path over a grid of times; step i runs from edge i to edge i + 1.

    edges: the grid, from noise to data in the system's own time, with shape (steps + 1,), float64
    system: the class of the systems
    """

    stages: ClassVar[int]

    def __init__(self, edges: Tensor, system: type[System]) -> None:
        begin, end = system.facts.noise_time, system.facts.data_time
        self._towards_data = end > begin
        self._progress = (edges - begin) / (end - begin)
        self.dtype = torch.float64 if system.facts.float64_steps else torch.float32
        self.times = _by_stage(edges, self.stages).to(self.dtype)
        self.progress = _by_stage(self._progress, self.stages)

    def width(self, i: int) -> float:
        """h, the length of step i, above 0."""
        return (self._progress[i + 1] - self._progress[i]).item()

    def is_last(self, i: int) -> bool:
        return i == len(self.times) - 1

    def velocity(self, network: Network, x: Tensor, i: int, stage: int) -> Tensor:
        """u(x, a): the prediction of the system, with its sign changed if its time runs from data to noise."""
        predicted = network(x, i, stage)
        return predicted if self._towards_data else -predicted


class Euler(_FlowSolver):
    """x <- x + h u(x, a).

    shift: above 0; a point g of the grid becomes `shift g / (1 + (shift - 1) g)` (LightningDiT). None for no shift
    """

    options = ("shift",)
    stages = 1

    def __init__(self, steps: int, system: type[System], shift: float | None = None) -> None:
        super().__init__(_shifted(steps, system, shift), system)

    def step(self, i: int, state: State, network: Network, noise: Noise) -> State:
        (x,) = state
        return (x + self.width(i) * self.velocity(network, x, i, 0),)


class Heun(_FlowSolver):
    """x <- x + h (u(x, a) + u(x + h u(x, a), a + h)) / 2; two evaluations per step, pruned alike.

    For REPA and MG the last step is one of Euler, as published.

    shift: as in `Euler`
    """

    options = ("shift",)
    stages = 2

    def __init__(self, steps: int, system: type[System], shift: float | None = None) -> None:
        super().__init__(_shifted(steps, system, shift), system)
        self._corrects_last = system.facts.heun_corrects_last_step

    def step(self, i: int, state: State, network: Network, noise: Noise) -> State:
        (x,) = state
        h = self.width(i)
        slope = self.velocity(network, x, i, 0)
        if self.is_last(i) and not self._corrects_last:
            return (x + h * slope,)
        return (x + h / 2 * (slope + self.velocity(network, x + h * slope, i, 1)),)


class SDE(_FlowSolver):
    """x <- x + h (u + w score) + sqrt(2 w h) noise: Euler-Maruyama up to 0.04 before the data, then one step of 0.04.

    diffusion: the form of w, `sigma` (default) or `linear`
    last_step: the last step, without noise: `mean` (default), the drift alone, or `tweedie`, the posterior mean of the
        data, x / a + (1 - a)^2 / a score
    """

    options = ("diffusion", "last_step")
    stages = 1

    def __init__(
        self,
        steps: int,
        system: type[System],
        diffusion: Literal["sigma", "linear"] = "sigma",
        last_step: Literal["mean", "tweedie"] = "mean",
    ) -> None:
        if diffusion not in ("sigma", "linear"):
            raise InputError(f"the diffusion form must be 'sigma' or 'linear', not {diffusion!r}")
        if last_step not in ("mean", "tweedie"):
            raise InputError(f"the last step must be 'mean' or 'tweedie', not {last_step!r}")
        begin, end = system.facts.noise_time, system.facts.data_time
        inner = torch.linspace(begin, end + (begin - end) * LAST_STEP, steps, dtype=torch.float64)
        super().__init__(torch.cat([inner, torch.tensor([end], dtype=torch.float64)]), system)
        self.last_step = last_step

    def step(self, i: int, state: State, network: Network, noise: Noise) -> State:
        (x,) = state
        a, h = self._progress[i].item(), self.width(i)
        velocity = self.velocity(network, x, i, 0)
        score = (a * velocity - x) / (1 - a)
        if self.is_last(i) and self.last_step == "tweedie":
            return (x / a + (1 - a) ** 2 / a * score,)
        mean = x + h * (velocity + (1 - a) * score)
        return (mean if self.is_last(i) else mean + (2 * (1 - a) * h) ** 0.5 * noise(i),)


def _shifted(steps: int, system: type[System], shift: float | None) -> Tensor:
    """Evenly spaced times from noise to data, shifted; below 1, more of them are near the noise -> (steps + 1,)."""
    begin, end = system.facts.noise_time, system.facts.data_time
    if shift is None:
        return torch.linspace(begin, end, steps + 1, dtype=torch.float64)
    progress = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return begin + (end - begin) * (shift * progress / (1 + (shift - 1) * progress))


def _by_stage(edges: Tensor, stages: int) -> Tensor:
    """The time of each step's evaluations, from the edges of the steps -> (steps, stages)."""
    return torch.stack([edges[stage : len(edges) - 1 + stage] for stage in range(stages)], dim=1)
