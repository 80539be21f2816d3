"""What went through a system while it was sampled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tailprune.systems import System
from tailprune.systems.base import Modulations


@dataclass
class Watched:
    """The calls of a network, and of what makes its modulations."""

    rows: list[int] = field(default_factory=list)
    """How many samples went through the network, call by call."""
    conditions: list[Tensor] = field(default_factory=list)
    """The condition vectors that modulations were made of, call by call."""

    @property
    def vectors(self) -> Tensor:
        return torch.cat(self.conditions)


@contextmanager
def watched(system: System) -> Iterator[Watched]:
    seen = Watched()
    forward, make_modulations = system.forward_modulated, system.modulations

    def watched_forward(x: Tensor, modulations: Modulations) -> Tensor:
        seen.rows.append(len(x))
        return forward(x, modulations)

    def watched_modulations(c: Tensor) -> Modulations:
        seen.conditions.append(c)
        return make_modulations(c)

    vars(system).update(forward_modulated=watched_forward, modulations=watched_modulations)
    try:
        yield seen
    finally:
        for name in ("forward_modulated", "modulations"):
            del vars(system)[name]
