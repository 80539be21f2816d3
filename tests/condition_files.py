"""Files of conditions with made-up numbers, as a client would make them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

Arrays = dict[str, NDArray[Any]]

PERSON = {"pose": (257, 768), "image": (257, 1536), "latents": (4, 32, 32)}
VIDEO = {"video": (32, 512)}
TEXT = {"pooled": (24,)}


def arrays(shapes: dict[str, tuple[int, ...]], count: int | None = None, dtype: str = "float32") -> Arrays:
    """Random arrays of these shapes, whose numbers float16 and bfloat16 can hold; `count` of them, if it is given."""
    random = np.random.default_rng(0)
    lead = () if count is None else (count,)
    return {
        name: (random.integers(-128, 128, (*lead, *shape)) / 64).astype(dtype) for name, shape in sorted(shapes.items())
    }


def npz(given: Arrays, compressed: bool = False) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, allow_pickle=True, **given)
    return file.getvalue()


def safetensors(given: Arrays, metadata: dict[str, str] | None = None) -> bytes:
    return save({name: np.ascontiguousarray(array) for name, array in given.items()}, metadata)
