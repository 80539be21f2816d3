"""Tensors and what they are, as safetensors files whose bytes are a function of both.

The library writes the metadata in an order that changes from call to call: files in memory are written here, and the
metadata of those on disk are put in order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

__all__ = ["order_metadata", "tensor_file"]

TYPES = {torch.float32: "F32", torch.int64: "I64"}
ALIGNMENT = 8


def tensor_file(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file of float32 and int64 tensors in the order they are given."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    arrays = (tensor.contiguous().cpu().numpy() for tensor in tensors.values())
    return b"".join(
        [len(text).to_bytes(8, "little"), text, *(array.reshape(-1).view(np.uint8).data for array in arrays)]
    )


def order_metadata(path: Path) -> None:
    """Puts the metadata of a safetensors file that the library wrote in the order of their names, in place."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        file.seek(8)
        file.write(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size))
