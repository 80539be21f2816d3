"""What a sampling method is: times at which the network is evaluated, and steps from one to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Evaluate", "Method", "Noise", "State"]

Evaluate = Callable[[Tensor, int], Tensor]
"""The guided output of the network for x at a stage of the present step."""

Noise = Callable[[], Tensor]
"""The noise of the present step."""

State = tuple[Tensor, ...]
"""What a method carries from step to step: x first, then what it remembers, all of x's shape."""


class Method(Protocol):
    """A method that advances latents step by step.

    `times`, in the system's own time, and `progress` (0 noise, 1 data), both with shape (steps, stages), say when
    `step` evaluates the network. Steps are added up in `dtype`.
    """

    times: Tensor
    progress: Tensor
    dtype: torch.dtype

    def begin(self, x: Tensor) -> State:
        """The state at the initial latents."""
        ...

    def step(self, i: int, state: State, evaluate: Evaluate, noise: Noise) -> State:
        """The state after step i."""
        ...
