"""Writing safetensors files whose bytes depend on tensors and metadata alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from tailprune.arguments import of_kind
from tailprune.spec import InputError
from tailprune.spec.safetensors import encode_header, write_file
from tailprune.systems.base import System

__all__ = ["encode_tensors", "save_system"]

TYPES = {
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float64: "F64",
    torch.complex64: "C64",
    torch.float32: "F32",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e8m0fnu: "F8_E8M0",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""The format's names of torch's types, in the order in which the safetensors library writes them."""


def save_system(system: System, path: str | os.PathLike[str], metadata: Mapping[str, str] = {}) -> None:
    """Write a system, compacted or full, as a safetensors file that `tailprune.load` reads.

    Tensors are sorted by type and name, as the safetensors library does, and metadata by name.

    metadata: further metadata, beside the family and what the tensors do not determine

    Raises InputError for anything that is not a system, and for a path whose folder does not exist.
    """
    of_kind(System, "system", system, "a system, such as tailprune.load gives")
    if not (folder := Path(path).parent).is_dir():
        raise InputError(f"there is no folder {folder} to write {Path(path).name} to: make it first")
    rank = {dtype: place for place, dtype in enumerate(TYPES)}
    state = sorted(system.state_dict().items(), key=lambda item: (rank[item[1].dtype], item[0]))
    own = {"family": system.family} | {name: repr(value) for name, value in system.metadata_arguments().items()}
    header = _header(dict(state), dict(sorted({**metadata, **own}.items())), ascii_only=False)
    write_file(Path(path), header, _values(dict(state)))


def encode_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a safetensors file of tensors and metadata, both in the order in which they are given."""
    return b"".join([_header(tensors, metadata), *_values(tensors)])


def _header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, ascii_only: bool = True) -> bytes:
    entries = {name: (TYPES[tensor.dtype], tuple(tensor.shape), tensor.nbytes) for name, tensor in tensors.items()}
    return encode_header(entries, metadata, ascii_only=ascii_only)


def _values(tensors: Mapping[str, Tensor]) -> Iterator[memoryview]:
    """The bytes of each tensor; a contiguous one on the CPU is not copied."""
    for tensor in tensors.values():
        yield tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
