"""Making a full system the compacted one that a file has, or that compaction wants: AdaLN reads less of c."""

from __future__ import annotations

from torch import nn

from tailprune.spec import InputError
from tailprune.systems.base import System
from tailprune.systems.infer import Shapes, dimensions
from tailprune.systems.readers import BASIS, KEPT, TIMES, VALUES, Directions, KeptComponents, TimeColumns

__all__ = ["narrow", "narrow_as"]

DIMENSIONS = {KEPT: 1, BASIS: 2, TIMES: 1, VALUES: 2}
"""How many dimensions the tensors have that only a compacted file has."""


def narrow(system: System, reader: KeptComponents | Directions, columns: TimeColumns | None, width: int) -> None:
    """Has the AdaLN of a full system read what `reader` makes of c, `width` columns; its linear layers are new."""
    system.reader, system.time_columns = reader, columns
    for layer in system.modulated:
        rows = layer.adaLN_modulation.linear.out_features
        layer.adaLN_modulation.add_module("1", nn.Linear(width, rows))


def narrow_as(system: System, shapes: Shapes) -> None:
    """Makes a full system what a file has, by the shapes of its tensors, if that is compacted.

    Raises InputError for tensors that contradict each other, with their names.
    """
    found = {name: dimensions(shapes, name, count) for name, count in DIMENSIONS.items() if name in shapes}
    if not found:
        return
    dim = system.condition_dim
    if BASIS in found:
        if len(found) > 1:
            other = next(name for name in found if name != BASIS)
            raise InputError(f"{other} is there beside {BASIS}: AdaLN reads either components or directions")
        count = found[BASIS][0]
        narrow(system, Directions(count, dim), None, count)
        return
    if KEPT not in found:
        raise InputError(f"{next(iter(found))} is there without {KEPT}: columns of time stand beside components")
    count, columns, rho = found[KEPT][0], None, 0
    if len(found) > 1:
        times, rho = found.get(VALUES, (*found.get(TIMES, ()), 0))
        columns = TimeColumns(times, rho)
    narrow(system, KeptComponents(count, dim), columns, count + rho)
