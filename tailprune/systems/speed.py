"""Which forms the layers of a system have on this CPU, and whether it is faster in bfloat16 there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping

import torch

from tailprune.systems.base import System
from tailprune.systems.choices import MARGIN, Layer, recorded
from tailprune.systems.kernels import choice_for

__all__ = ["bfloat16_speed", "faster_in_bfloat16", "forms_in_use", "has_bfloat16", "layers_of"]

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


def faster_in_bfloat16(system: System) -> bool:
    """Whether the system's `bfloat16_speed` is clearly above 1; a CPU without bfloat16 is not measured for that."""
    speed = bfloat16_speed(system) if has_bfloat16() else None
    return speed is not None and speed * (1 - MARGIN) > 1


def has_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16, as far as torch tells."""
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):  # it is not public
        return True


@torch.no_grad()
def layers_of(system: System) -> Mapping[Layer, int]:
    """How often each layer is in the network, counted without computing them; none on a GPU, or where it is compiled.

    system: the system; systems of one configuration have the same layers
    """
    if next(system.parameters()).device.type != "cpu" or system.compiled is not None:
        return {}
    key = type(system), system.config, system.precision
    if key not in _layers:
        x, c = (torch.zeros(1, *shape) for shape in (system.latent_shape, (system.condition_dim,)))
        with recorded() as layers:
            system(x, c)
        _layers[key] = layers
    return _layers[key]
