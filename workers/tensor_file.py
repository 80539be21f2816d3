"""Tensors and what they are, as safetensors files in memory whose bytes are a function of both.

The library writes the metadata in an order that changes from call to call.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

__all__ = ["tensor_file"]

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
