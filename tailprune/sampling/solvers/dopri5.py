"""dopri5, the method of Dormand and Prince (1980), of order 5, which chooses its own steps.

dx/dt = v(t, x),    each step as long as its estimated error allows: at most atol + rtol |x|
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from tailprune.spec import InputError
from tailprune.systems.base import System

__all__ = ["Dopri5"]

MOST_STEPS = 2_000


class Dopri5:
    """A solver of the whole path at once, in place of single steps.

    steps: not used
    system: the class of the systems; the path runs from its noise time to its data time
    atol: the absolute error of a step, above 0, 1e-6 by default
    rtol: the error of a step relative to x, above 0, 1e-3 by default
    """

    options: ClassVar[tuple[str, ...]] = ("atol", "rtol")

    def __init__(self, steps: int, system: type[System], atol: float = 1e-6, rtol: float = 1e-3) -> None:
        self._begin, self._end = system.facts.noise_time, system.facts.data_time
        self._atol, self._rtol = atol, rtol

    def progress(self, t: float) -> float:
        """The time t on a scale from 0 (noise) to 1 (data)."""
        return (t - self._begin) / (self._end - self._begin)

    def solve(self, velocity: Callable[[Tensor, Tensor], Tensor], x: Tensor) -> Tensor:
        """The data at the end of the path from the noise `x`. x, with shape (B, C, H, W) -> the same shape.

        velocity: v(t, x), t a single number in the system's own time; all of x takes the same steps

        Raises InputError if it takes more than 2,000 steps, or if the step size vanishes.
        """
        from torchdiffeq import odeint  # it imports scipy, which takes a worker's start a second

        span = torch.tensor([self._begin, self._end], dtype=torch.float32, device=x.device)
        limit = {"max_num_steps": MOST_STEPS}
        try:
            path: Tensor = odeint(
                velocity, x, span, method="dopri5", atol=self._atol, rtol=self._rtol, options=limit
            )  # (2, B, C, H, W)
        except AssertionError as error:  # how torchdiffeq gives up
            raise InputError(
                f"dopri5 did not finish within {MOST_STEPS} steps ({error}): lower the guidance scale, or use euler"
            ) from error
        return path[-1]
