"""Reading a configuration from the names and shapes of a checkpoint's tensors."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from tailprune.spec import InputError

__all__ = ["PUBLISHED_HEADS", "MissingArgument", "Shapes", "block_count", "dimensions", "head_count", "patches_of"]

Shapes = Mapping[str, tuple[int, ...]]
"""The shapes of a checkpoint's tensors by name."""

PUBLISHED_HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16}
"""Heads by width in the published sizes S, B, L and XL, for files whose tensors do not show them."""


class MissingArgument(InputError):
    """An argument has to be given, since names and shapes do not determine it. No tensor depends on it."""

    def __init__(self, argument: str, message: str) -> None:
        super().__init__(message)
        self.argument = argument


def dimensions(shapes: Shapes, name: str, count: int) -> tuple[int, ...]:
    """The shape of a tensor. Raises KeyError if it is missing, InputError for another number of dimensions."""
    if len(shapes[name]) != count:
        raise InputError(f"{name} has shape {shapes[name]}, not {count} dimensions")
    return shapes[name]


def block_count(shapes: Shapes, stack: str = "blocks") -> int:
    """The number of blocks of a stack, from the greatest index in the names of its tensors; 0 if there are none."""
    numbers = (re.match(rf"{re.escape(stack)}\.(\d+)\.", name) for name in shapes)
    return max((int(found[1]) + 1 for found in numbers if found), default=0)


def head_count(shapes: Shapes, width: int, block: str, **given: Any) -> int:
    """The number of attention heads: as given, as the tensors show it, or as published for the width.

    shapes: the shapes of the tensors by name
    width: d, the width of a token
    block: the name of one of the blocks, such as `blocks.0`
    given: may have `num_heads`

    Raises MissingArgument if none of the three gives it, InputError if it does not divide the width or is not what the
    tensors show.
    """
    shown = _heads_in(shapes, width, block)
    heads = given.get("num_heads") or shown or PUBLISHED_HEADS.get(width)
    if shown is not None and heads != shown:
        raise InputError(f"num_heads = {heads} was given, but the tensors have {shown} heads")
    if heads is None:
        raise MissingArgument(
            "num_heads",
            f"the number of attention heads cannot be read from a checkpoint of width {width}: give num_heads "
            f"(published widths: {', '.join(f'{w} has {n}' for w, n in PUBLISHED_HEADS.items())})",
        )
    if heads < 1 or width % heads:
        raise InputError(f"num_heads = {heads} does not divide the width {width}")
    return int(heads)


def patches_of(shapes: Shapes) -> dict[str, int]:
    """`input_size`, `patch_size`, `in_channels` and `hidden_size`, from the patch embedding and the positions."""
    hidden, channels, patch, _ = dimensions(shapes, "x_embedder.proj.weight", 4)
    _, positions, _ = dimensions(shapes, "pos_embed", 3)
    return {
        "input_size": math.isqrt(positions) * patch,
        "patch_size": patch,
        "in_channels": channels,
        "hidden_size": hidden,
    }


def _heads_in(shapes: Shapes, width: int, block: str) -> int | None:
    table = shapes.get(f"{block}.attn.rel_pos_bias.relative_position_bias_table")
    if table is not None:
        return table[-1]  # one column per head
    for name in (f"{block}.attn.q_norm.weight", "feat_rope.freqs_cos"):  # as wide as one head
        if name in shapes and shapes[name][-1]:
            return width // shapes[name][-1]
    return None
