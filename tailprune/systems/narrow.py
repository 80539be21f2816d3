"""Turning a full system into a compacted one, whose AdaLN reads fewer columns: for a file, or for compaction."""

from __future__ import annotations

from torch import nn

from tailprune.spec import InputError
from tailprune.systems.base import System
from tailprune.systems.infer import Shapes, dimensions
from tailprune.systems.readers import BASIS, KEPT, TIMES, VALUES, Directions, KeptComponents, TimeColumns

__all__ = ["narrow", "narrow_as"]

DIMENSIONS = {KEPT: 1, BASIS: 2, TIMES: 1, VALUES: 2}
"""The number of dimensions of the tensors that only a compacted file has."""


def narrow(system: System, reader: KeptComponents | Directions, columns: TimeColumns | None, width: int) -> None:
    """Give a full system a reader, and AdaLN layers of its width, whose weights are still to be set.

    system: a full system, changed in place
    reader: what AdaLN reads of c
    columns: the columns of time behind the kept components; None for none
    width: how many columns AdaLN reads, those of time included
    """
    system.reader, system.time_columns = reader, columns
    for layer in system.modulated:
        rows = layer.adaLN_modulation.linear.out_features
        layer.adaLN_modulation.add_module("1", nn.Linear(width, rows))


def narrow_as(system: System, shapes: Shapes) -> None:
    """Narrow a full system as the shapes of a file's tensors require; a full file changes nothing.

    Raises InputError for tensors that contradict each other, with their names.
    """
    found = {name: dimensions(shapes, name, count) for name, count in DIMENSIONS.items() if name in shapes}
    if not found:
        return
    dim = system.condition_dim
    if BASIS in found:
        if len(found) > 1:
            other = next(name for name in found if name != BASIS)
            raise InputError(f"the file has both {other} and {BASIS}, but AdaLN reads either components or directions")
        count = found[BASIS][0]
        narrow(system, Directions(count, dim), None, count)
        return
    if KEPT not in found:
        raise InputError(f"the file has {next(iter(found))} without {KEPT}: columns of time go with kept components")
    count, columns, rho = found[KEPT][0], None, 0
    if len(found) > 1:
        times, rho = found.get(VALUES, (*found.get(TIMES, ()), 0))
        columns = TimeColumns(times, rho)
    narrow(system, KeptComponents(count, dim), columns, count + rho)
