"""Which forms the layers of a system have on this CPU, and whether it is faster in bfloat16 there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping

import torch

from tailprune.systems.base import System
from tailprune.systems.choices import MARGIN, Layer, recorded
from tailprune.systems.kernels import choice_for

__all__ = ["bfloat16_speed", "faster_in_bfloat16", "forms_in_use", "layers_of"]

_layers: dict[Hashable, Counter[Layer]] = {}


def forms_in_use(system: System) -> dict[str, str]:
    """The form of each layer of the blocks on this CPU, by its kind, sizes and precision.

    Empty on a GPU, for a compiled network, and where choices cannot be kept: then all are torch's own.
    """
    choices = {str(layer): choice_for(layer) for layer in sorted(layers_of(system), key=str)}
    return {name: choice.form for name, choice in choices.items() if choice is not None}


def bfloat16_speed(system: System) -> float | None:
    """The time of the network's products, attention and GELU in float32, divided by that in bfloat16, on this CPU.

    It is a sum of kept measurements, the same for all systems of one configuration. None on a GPU, for a compiled
    network, and where none can be kept.
    """
    totals = {torch.float32: 0.0, torch.bfloat16: 0.0}
    for layer, count in layers_of(system).items():
        for dtype in totals:
            choice = choice_for(layer._replace(dtype=dtype))
            if choice is None:
                return None
            totals[dtype] += count * choice.time
    return totals[torch.float32] / totals[torch.bfloat16] if totals[torch.bfloat16] else None


def faster_in_bfloat16(speed: float | None) -> bool:
    """Whether a `bfloat16_speed` is clearly above 1."""
    return speed is not None and speed * (1 - MARGIN) > 1


@torch.no_grad()
def layers_of(system: System) -> Mapping[Layer, int]:
    """How often each layer is in the network, which is run once for that; none on a GPU, or where it is compiled.

    system: the system; systems of one configuration have the same layers
    """
    parameter = next(system.parameters())
    if parameter.device.type != "cpu" or system.compiled is not None:
        return {}
    key = type(system), system.config, system.precision
    if key not in _layers:
        parts = [(layer.adaLN_modulation.count, layer.adaLN_modulation.linear) for layer in system.modulated]
        modulations = [
            torch.zeros(1, count, linear.out_features // count, dtype=system.precision) for count, linear in parts
        ]
        with recorded() as layers:
            system.forward_modulated(torch.zeros(1, *system.latent_shape), modulations)
        _layers[key] = layers
    return _layers[key]
