"""What every diffusion transformer here is: a condition vector, and blocks that see `x` and `c` alone.

    c = condition(t, inputs)        out = forward(x, c)

Pruning is an edit of `c` between the two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

__all__ = ["Condition", "Inputs", "System", "dimensions"]

Inputs = Mapping[str, Tensor]
"""What a sample is conditioned on, B rows each: `{"labels": (B,)}` for the label models."""


def dimensions(shapes: Mapping[str, tuple[int, ...]], name: str, count: int) -> tuple[int, ...]:
    """The shape of a tensor. Raises KeyError where there is none, ValueError for another number of dimensions."""
    if len(shapes[name]) != count:
        raise ValueError(f"{name} has shape {shapes[name]}, not {count} dimensions")
    return shapes[name]


class Condition(nn.Module, ABC):
    """The part of a system that makes condition vectors, `c = time part + input part`.

    It stands on its own so that statistics of `c` need no block of the network (see `tailprune.conditions`).
    """

    condition_dim: int

    @abstractmethod
    def check_inputs(self, inputs: Inputs) -> None:
        """Raises ValueError where `inputs` are not what this condition takes, such as a label that is no class."""

    @abstractmethod
    def all_inputs(self) -> Inputs:
        """Inputs of every class, in order of their labels: the population that statistics are taken over."""

    @abstractmethod
    def embed_time(self, t: Tensor) -> Tensor:
        """The time part. t, with shape (B,), in the system's own time -> (B, d)."""

    @abstractmethod
    def embed_inputs(self, inputs: Inputs) -> Tensor:
        """The input part (label, pose or video). Inputs of B samples -> (B, d)."""

    @abstractmethod
    def null_inputs(self, count: int) -> Inputs:
        """Inputs that stand for "no condition", the other branch of classifier-free guidance."""

    def condition(self, t: Tensor, inputs: Inputs) -> Tensor:
        """The condition vectors `c`. t, with shape (B,), and inputs of B samples -> (B, d)."""
        return self.embed_time(t) + self.embed_inputs(inputs)


class System(Condition):
    """A diffusion transformer: an architecture family, with or without weights."""

    family: str
    prediction: Literal["epsilon", "velocity"]
    """What `forward` returns: noise (and variance) of a Gaussian diffusion, or the velocity of the linear path."""
    noise_time: float
    """The time of pure noise, where sampling starts."""
    data_time: float
    """The time of data, where sampling ends."""
    latent_shape: tuple[int, int, int]
    guided_channels: int | None
    """How many of the first channels the published sampler guides; None for all."""

    @abstractmethod
    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """x, with shape (B, C, H, W), and c, with shape (B, d) -> what the official forward returns."""

    @classmethod
    @abstractmethod
    def condition_part(cls, shapes: Mapping[str, tuple[int, ...]]) -> Condition:
        """The condition part alone, as the shapes of a checkpoint's tensors have it."""

    @classmethod
    @abstractmethod
    def infer_configuration(cls, shapes: Mapping[str, tuple[int, ...]], **given: Any) -> dict[str, Any]:
        """Constructor arguments read off the names and shapes of a checkpoint's tensors.

        Raises ValueError where they do not determine one that was not given (the number of heads, mostly).
        """
