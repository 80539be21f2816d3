"""Classifier-free guidance (arXiv 2207.12598), as the published systems apply it.

out = null + s (conditional - null),    s = 1 + (scale - 1) r(u)
r = 1, or (1 - cos(pi u^power)) / 2 (power-cosine, MDT, arXiv 2303.14389),  u from 0 at noise to 1 at data

Modulation guidance (arXiv 2602.09268) moves the condition instead: c + w (c+ - c-). It costs no call of the network,
can be used with or without the other, and leaves the null condition's vector as it is (see `ConditionTable`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tailprune.arguments import as_number, as_numbers, as_whole, of_kind
from tailprune.spec import InputError
from tailprune.spec.edit import MOST_STRENGTH, ModulationGuidance

__all__ = ["Guidance"]


@dataclass(frozen=True)
class Guidance:
    """The scale of guidance, and the times and channels it applies to.

    scale: 0 or more; 1, the default, is no guidance
    channels: how many of the first channels are guided, 1 or more; the others come from the conditional output. None,
        the default, guides all
    power: the power of the power-cosine ramp, above 0; None, the default, for a constant scale
    interval: (low, high), guided for low <= t <= high, in the system's own time; None, the default, guides always
    modulation: modulation guidance, at every step and in all channels; None, the default, for none

    Raises InputError for a number outside its range.
    """

    scale: float = 1.0
    channels: int | None = None
    power: float | None = None
    interval: tuple[float, float] | None = None
    modulation: ModulationGuidance | None = None

    def __post_init__(self) -> None:
        as_number("the guidance scale", self.scale, least=0)
        if self.channels is not None:
            as_whole("the number of guided channels", self.channels, least=1)
        if self.power is not None:
            as_number("the guidance power", self.power, above=0)
        ends = [0.0, 1.0] if self.interval is None else as_numbers("the guidance interval", self.interval)
        if len(ends) != 2 or ends[0] > ends[1]:
            raise InputError(f"the guidance interval must be (low, high), low first, not {self.interval!r}")
        if self.modulation is not None:
            of_kind(ModulationGuidance, "modulation", self.modulation, "a ModulationGuidance, such as of weight 0.5")
            if abs(as_number("the weight of modulation guidance", self.modulation.weight)) > MOST_STRENGTH:
                raise InputError(
                    f"the weight of modulation guidance must be from -{MOST_STRENGTH:g} to {MOST_STRENGTH:g}, not "
                    f"{self.modulation.weight:g}"
                )

    def scale_at(self, t: Tensor, progress: float) -> float:
        """The scale at time `t`, a single number, with `progress` from 0 (noise) to 1 (data).

        Whether t lies in the interval is decided in the precision of t, which is the solver's.
        """
        if self.interval is not None:
            low, high = self.interval
            if not (t >= low and t <= high):
                return 1.0
        if self.power is None:
            return self.scale
        ramp = (1 - math.cos(math.pi * min(max(progress, 0.0), 1.0) ** self.power)) / 2
        return 1 + (self.scale - 1) * ramp

    def combine(self, conditional: Tensor, null: Tensor, scale: float | Tensor) -> Tensor:
        """The guided output. conditional and null, with shape (..., C, H, W) -> the same shape.

        scale: for all, or one for each, with shape (..., 1, 1, 1)
        """
        guided = null + scale * (conditional - null)
        if self.channels is None or self.channels >= conditional.shape[-3]:
            return guided
        return torch.cat([guided[..., : self.channels, :, :], conditional[..., self.channels :, :, :]], dim=-3)
