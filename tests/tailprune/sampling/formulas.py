"""Networks that are formulas, to compare samplers on with the same methods written out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tailprune.systems import Inputs, System
from tailprune.systems.base import Modulations
from tailprune.systems.dit import DiTConfig
from tailprune.systems.layers import Modulated

ROUNDING = 1e-5  # float32 beside float64
NULL = 10
LABELS = torch.tensor([3.0, 7.0])
INPUTS = {"labels": LABELS.long()}

Law = Callable[[Tensor, Tensor, Tensor], Tensor]
"""What a network returns for x, with shape (B, C, H, W), and times and labels, (B, 1, 1, 1)."""


@dataclass
class Calls:
    """The calls of a network: the time of each, and how many rows it had."""

    times: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)


def formula(base: type[System], law: Law, channels: int = 4) -> Any:
    """A system of the family of `base` whose network is `law`; its condition vectors are (t, label)."""

    class Written(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            config = DiTConfig(
                input_size=2, patch_size=1, in_channels=channels, hidden_size=2, depth=1, num_heads=1, num_classes=NULL
            )
            System.__init__(self, config)
            self.condition_dim, self.num_classes = 2, NULL
            self.anchor = nn.Parameter(torch.zeros(()))
            self.calls = Calls()

        def embed_time(self, t: Tensor) -> Tensor:
            return torch.stack([t, torch.zeros_like(t)], dim=1)

        def embed_inputs(self, inputs: Inputs) -> Tensor:
            labels = inputs["labels"].float()
            return torch.stack([torch.zeros_like(labels), labels], dim=1)

        @property
        def modulated(self) -> Sequence[Modulated]:
            return []

        def modulations(self, c: Tensor) -> Modulations:
            return [c]

        def forward_modulated(self, x: Tensor, modulations: Modulations) -> Tensor:
            t, y = modulations[0][:, :, None, None, None].unbind(1)
            self.calls.times.append(t[0].item())
            self.calls.rows.append(len(x))
            assert x.dtype == torch.float32
            return law(x, t, y)

    return Written().requires_grad_(False)


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


Z = normal(len(LABELS), 4, 2, 2)
COLUMN = LABELS.double().view(-1, 1, 1, 1)


def velocity(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """Some velocity towards the data, t from 0 (noise) to 1 (data)."""
    return torch.sin(x + y) * (1 + t) - x * t**2 + y / 10


def backwards(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """The same field as REPA and MG have it: t from 1 (noise) to 0 (data)."""
    return -velocity(x, 1 - t, y)
