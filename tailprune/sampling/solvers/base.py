"""The interface of a solver: the times at which the network is evaluated, and the step from its output to the next x.

    x_(i+1) = step(x_i, network(x_i, t_i), noise_i),    i = 0, 1, ..., steps - 1,    x_0 noise, x_steps data

R is the number of trajectories that take a step together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from tailprune.systems.base import System

__all__ = ["Network", "Noise", "Solver", "State"]

Network = Callable[[Tensor, int, int], Tensor]
"""network(x, i, stage): the guided output at the time `times[i, stage]`. x, with shape (R, C, H, W)."""

Noise = Callable[[int], Tensor]
"""noise(i): the standard normal noise of step i, with shape (R, C, H, W)."""

State = tuple[Tensor, ...]
"""What a step passes to the next: x, then what a multistep solver keeps, each with shape (R, C, H, W)."""


class Solver(ABC):
    """A method of a fixed number of steps, each of one stage or more; a stage is one evaluation of the network."""

    options: ClassVar[tuple[str, ...]] = ()
    """The keyword arguments of its constructor."""

    times: Tensor
    """The times at which the network is evaluated, in the system's own time, with shape (steps, stages)."""
    progress: Tensor
    """The same times on a scale from 0 (noise) to 1 (data), with shape (steps, stages)."""
    dtype: torch.dtype
    """The precision of x between steps."""

    @abstractmethod
    def __init__(self, steps: int, system: type[System], **options: Any) -> None:
        """A solver for the systems of a family.

        steps: the number of steps, 2 or more
        system: the class of the systems; the times run from its noise time to its data time
        options: the options that the class declares
        """

    def begin(self, x: Tensor) -> State:
        """The state at the initial latents."""
        return (x,)

    @abstractmethod
    def step(self, i: int, state: State, network: Network, noise: Noise) -> State:
        """The state after step i.

        i: the step, from 0
        state: the state after step i - 1, or from `begin`
        network: the guided network, called at stage 0, 1, ... of step i
        noise: the noise of a step, for a solver that draws any
        """
