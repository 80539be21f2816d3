"""Samplers of the linear path, for systems that predict its velocity (arXiv 2401.08740).

x_t = t x_1 + (1 - t) x_0,   x_0 noise, x_1 data;    dx/dt = v(x, t)
score = (t v - x) / (1 - t)                          (SiT, eq. 9)
dx = (v + w score) dt + sqrt(2 w) dW,  w = 1 - t     (SiT, eq. 6; the forms `sigma` and `linear` agree on this path)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor

__all__ = ["SDE", "Euler", "Heun"]

Evaluate = Callable[[Tensor, int], Tensor]
Noise = Callable[[], Tensor]


class _Grid:
    """Evenly spaced times from noise (0) to data (1)."""

    stages: ClassVar[int]

    def __init__(self, edges: Tensor) -> None:
        self.edges = edges  # float64, one more than there are steps
        offsets = range(self.stages)
        ends = [edges[stage : len(edges) - 1 + stage] for stage in offsets]
        self.progress = torch.stack(ends, dim=1)  # (steps, stages)
        self.times = self.progress.float()

    def width(self, i: int) -> float:
        return (self.edges[i + 1] - self.edges[i]).item()


class Euler(_Grid):
    """x <- x + h v(x, t)."""

    stages = 1

    def __init__(self, steps: int) -> None:
        super().__init__(torch.linspace(0, 1, steps + 1, dtype=torch.float64))

    def step(self, i: int, x: Tensor, evaluate: Evaluate, noise: Noise) -> Tensor:
        return x + self.width(i) * evaluate(x, 0)


class Heun(_Grid):
    """x <- x + h (v(x, t) + v(x + h v(x, t), t + h)) / 2; two evaluations a step, one edit for both."""

    stages = 2

    def __init__(self, steps: int) -> None:
        super().__init__(torch.linspace(0, 1, steps + 1, dtype=torch.float64))

    def step(self, i: int, x: Tensor, evaluate: Evaluate, noise: Noise) -> Tensor:
        h = self.width(i)
        slope = evaluate(x, 0)
        return x + h / 2 * (slope + evaluate(x + h * slope, 1))


class SDE(_Grid):
    """Euler-Maruyama from 0 to 1 - `last`, then one step of size `last` without noise.

    `diffusion` is the form of w, `sigma` or `linear`. `last_step`: `mean` takes the drift alone, `tweedie` the
    posterior mean of the data, x / t + (1 - t)^2 / t score.
    """

    stages = 1

    def __init__(
        self,
        steps: int,
        diffusion: Literal["sigma", "linear"] = "sigma",
        last_step: Literal["mean", "tweedie"] = "mean",
        last: float = 0.04,
    ) -> None:
        if diffusion not in ("sigma", "linear"):
            raise ValueError(f"the diffusion form is 'sigma' or 'linear', not {diffusion!r}")
        if last_step not in ("mean", "tweedie"):
            raise ValueError(f"the last step is 'mean' or 'tweedie', not {last_step!r}")
        inner = torch.linspace(0, 1 - last, steps, dtype=torch.float64)
        super().__init__(torch.cat([inner, torch.ones(1, dtype=torch.float64)]))
        self.last_step = last_step

    def step(self, i: int, x: Tensor, evaluate: Evaluate, noise: Noise) -> Tensor:
        t, h = self.edges[i].item(), self.width(i)
        velocity = evaluate(x, 0)
        score = (t * velocity - x) / (1 - t)
        is_last = i == len(self.times) - 1
        if is_last and self.last_step == "tweedie":
            return x / t + (1 - t) ** 2 / t * score
        mean = x + h * (velocity + (1 - t) * score)
        return mean if is_last else mean + (2 * (1 - t) * h) ** 0.5 * noise()
