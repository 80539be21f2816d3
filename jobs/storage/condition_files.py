"""The files of conditions as they are stored: named arrays, those of one family.

One file holds one or several conditions. It is stored in a canonical form, a safetensors file of float32 arrays whose
first dimension is the number of conditions, so that the same numbers have the same id in whatever format they were
sent (`upload_parsing`).
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from jobs.storage.condition_info import POOLED, TRANSFORMER, ConditionInfo
from tailprune.spec.families import FAMILIES
from tailprune.spec.safetensors import read_header

__all__ = ["ANY", "FEATURES", "MOST_START_BYTES", "Conditions", "Shape", "described", "fits"]

MOST_START_BYTES = 4096
"""The whole header of a canonical file lies within this many first bytes."""

Shape = tuple[int, ...]

ANY = -1
"""In the shape of a feature, a size in which models differ; in messages it is W."""
FEATURES: Mapping[str, Mapping[str, Shape]] = {
    name: family.features for name, family in FAMILIES.items() if family.features
} | {TRANSFORMER: {POOLED: (ANY,)}}
"""The arrays of one condition, with their shapes, for each family that takes conditions."""


@dataclass(frozen=True)
class Conditions:
    """One or several conditions, in canonical form."""

    id: str
    """The sha256 of the content, in hexadecimal."""
    family: str
    count: int
    content: bytes = field(repr=False)
    """A safetensors file without metadata: each feature as float32, with shape (count, *shape of one)."""


def fits(shape: Shape, one: Shape) -> bool:
    """Whether an array of this shape is one condition of a feature."""
    return len(shape) == len(one) and all(
        size > 0 if stated == ANY else size == stated for size, stated in zip(shape, one, strict=True)
    )


def described(conditions: str, start: bytes, size: int) -> ConditionInfo | None:
    """The description of a stored file from its first bytes; None if it is not a canonical file of conditions.

    conditions: the id.
    start: the first bytes, with the whole header.
    size: the size of the file in bytes.
    """
    try:
        header = read_header(io.BytesIO(start))
    except ValueError:
        return None
    tensors = header.tensors
    if header.metadata is not None or any(tensor.dtype != "F32" for tensor in tensors.values()):
        return None
    for family, features in FEATURES.items():
        if tensors.keys() != features.keys():
            continue
        count = next((tensor.shape[0] for tensor in tensors.values() if tensor.shape), 0)
        inputs = {name: list(tensors[name].shape[1:]) for name in features}
        right = all(
            tensors[name].shape[:1] == (count,) and fits(tensors[name].shape[1:], one) for name, one in features.items()
        )
        whole = size == header.size + 4 * count * sum(map(math.prod, inputs.values()))
        if count and right and whole:
            return ConditionInfo(id=conditions, count=count, inputs=inputs, family=family, bytes=size)
    return None
