"""Reading a configuration from the names and shapes of a checkpoint's tensors."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from tailprune.spec import InputError

__all__ = [
    "LABEL_TABLE", "PUBLISHED_HEADS", "MissingArgument", "Shapes", "block_count", "classes_of", "dimensions",
    "head_count", "patches_of", "shows_heads",
]  # fmt: skip

Shapes = Mapping[str, tuple[int, ...]]
"""The shapes of a checkpoint's tensors by name."""

LABEL_TABLE = "y_embedder.embedding_table.weight"
"""The label table of a class-conditional system, one row for each class and usually one for the null condition."""
SHOWING_HEADS = ("attn.rel_pos_bias.relative_position_bias_table", "attn.q_norm.weight", "feat_rope.freqs_cos")
"""Tensors with one column for each head, and two that are as wide as one head."""
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
    """The number of blocks of a stack, from the greatest index in the names of its tensors; 0 if there are none.

    Raises InputError for more blocks than there are tensors: building them would use up the memory.
    """
    numbers = (re.match(rf"{re.escape(stack)}\.(\d+)\.", name) for name in shapes)
    count = max((int(found[1]) + 1 for found in numbers if found), default=0)
    if count > len(shapes):
        raise InputError(
            f"{stack}.{count - 1} is among the names, but {_counted(len(shapes), 'tensor')} cannot make {count} "
            "blocks: number the blocks from 0"
        )
    return count


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


def shows_heads(shapes: Shapes) -> bool:
    """Whether the tensors of a file show the number of attention heads."""
    return any(name.endswith(SHOWING_HEADS) for name in shapes)


def classes_of(rows: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """`num_classes` and `null_condition`, from the rows of a label table.

    The last row is the null condition's, unless `given` has as many `num_classes` as there are rows, or there is only
    one.

    Raises InputError for any other number of classes.
    """
    classes = given.get("num_classes") or max(rows - 1, 1)
    if classes not in (rows, rows - 1):
        raise InputError(
            f"classes = {classes} was given, but the label table has {_counted(rows, 'row')}: for "
            + (f"{_counted(rows - 1, 'class')} and the null condition, or " if rows > 1 else "")
            + f"{_counted(rows, 'class')} and no null condition"
        )
    return {"num_classes": int(classes), "null_condition": classes < rows}


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun.endswith('s') else 's'}"


def patches_of(shapes: Shapes) -> dict[str, int]:
    """`input_size`, `patch_size`, `in_channels` and `hidden_size`, from the patch embedding and the positions."""
    hidden, channels, patch, _ = dimensions(shapes, "x_embedder.proj.weight", 4)
    _, positions, _ = dimensions(shapes, "pos_embed", 3)
    if math.isqrt(positions) ** 2 != positions:
        raise InputError(
            f"pos_embed has {positions} positions, which are no square grid: only square latents can be sampled, with "
            f"as many rows as columns of patches, such as {math.isqrt(positions) ** 2} or "
            f"{(math.isqrt(positions) + 1) ** 2}"
        )
    return {
        "input_size": math.isqrt(positions) * patch,
        "patch_size": patch,
        "in_channels": channels,
        "hidden_size": hidden,
    }


def _heads_in(shapes: Shapes, width: int, block: str) -> int | None:
    bias, *as_wide_as_a_head = SHOWING_HEADS
    table = shapes.get(f"{block}.{bias}")
    if table is not None:
        return table[-1]  # one column per head
    for name in (f"{block}.{as_wide_as_a_head[0]}", as_wide_as_a_head[1]):
        if name in shapes and shapes[name][-1]:
            return width // shapes[name][-1]
    return None
