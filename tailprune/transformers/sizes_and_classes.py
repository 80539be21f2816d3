"""The sizes of pictures, and the classes, that a compaction covers, as their parts of c."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tailprune.arguments import as_whole
from tailprune.checkpoints.files import CheckpointError
from tailprune.spec import InputError
from tailprune.spec.transformers import LARGEST_SIDE, SIDE_STEP, Number
from tailprune.transformers.population import vector_part
from tailprune.transformers.ranks import linear, sinusoids
from tailprune.transformers.recognise import Model

__all__ = ["classes_of", "parts_of_classes", "parts_of_sizes", "sizes_of"]

SIDES = 6
"""Height and width of the original, what is cropped at the top and on the left, height and width of the picture."""


def sizes_of(model: Model, resolutions: Sequence[tuple[int, int]]) -> list[tuple[int, int]] | None:
    """The widths and heights in pixels that are covered; None for a model that takes no sizes.

    Raises InputError for none, and for sides that its pipeline does not take.
    """
    part = vector_part(model)
    if part is None or part.what != "sizes":
        return None
    if not resolutions:
        raise InputError(
            f"{model.source.path}: its condition depends on the size of the picture: give one or more resolutions, "
            "such as 1024x1024"
        )
    sides = [as_whole("a side", side, least=SIDE_STEP, most=LARGEST_SIDE) for sides in resolutions for side in sides]
    if wrong := next((side for side in sides if side % SIDE_STEP), None):
        raise InputError(f"sides must be multiples of {SIDE_STEP} pixels, not {wrong}")
    return list(zip(sides[::2], sides[1::2], strict=True))


def parts_of_sizes(model: Model, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """The parts of c of pictures that are not cropped, and as large as their originals, with shape (K, d), float64."""
    part = vector_part(model)
    assert part is not None, "the model takes sizes"
    (first, first_bias), (second, bias) = (linear(model.source, layer) for layer in part.layers)
    channels, rest = divmod(first.shape[1], SIDES)
    if rest:
        raise CheckpointError(
            f"{model.source.path}: {part.layers[0]} reads {first.shape[1]} columns, not {SIDES} times"
        )
    sides = torch.tensor([[high, wide, 0, 0, high, wide] for wide, high in sizes], dtype=torch.float32)
    read = sinusoids(sides.flatten(), channels, Number(LARGEST_SIDE)).double().reshape(len(sizes), -1)
    return F.silu(read @ first.T + first_bias) @ second.T + bias


def classes_of(model: Model, classes: Sequence[int] | None) -> list[int] | None:
    """The rows of the table that are covered: these classes, and the last, which stands for none, as guidance needs it.

    None for a model that takes no class.

    Raises InputError for classes that are missing, not needed, or not in the table.
    """
    part = vector_part(model)
    if part is None or part.what != "class":
        if classes is not None:
            raise InputError(f"{model.source.path}: takes no class: leave classes out")
        return None
    none = model.source.shape(f"{part.layers[0].replace('*', '0')}.weight")[0] - 1
    if not classes:
        raise InputError(f"{model.source.path}: its condition depends on a class: give classes, of 0 to {none - 1}")
    return [*sorted({as_whole("a class", each, least=0, most=none - 1) for each in classes}), none]


def parts_of_classes(model: Model, rows: Sequence[int]) -> Tensor:
    """The parts of c that rows of the table of classes make, with shape (K, d), float64."""
    part = vector_part(model)
    assert part is not None, "the model takes a class"
    table = model.source.read(f"{part.layers[0].replace('*', '0')}.weight")
    return table.double()[[as_whole("a class", row, least=0, most=len(table) - 1) for row in rows]]
