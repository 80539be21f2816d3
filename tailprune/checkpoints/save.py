"""Writing safetensors files whose bytes depend on tensors and metadata alone."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tailprune.arguments import of_kind
from tailprune.spec import InputError
from tailprune.spec.safetensors import encode_header, write_file
from tailprune.systems.base import System

__all__ = ["Pieces", "save_system", "write_tensors"]

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


@dataclass(frozen=True)
class Pieces:
    """A tensor that is made as it is written, so that it is never whole in memory."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    pieces: Iterable[Tensor]
    """Its elements in order, in tensors of any shapes."""

    @property
    def nbytes(self) -> int:
        """The bytes of the whole tensor."""
        return self.dtype.itemsize * math.prod(self.shape)


def write_tensors(path: Path, tensors: Mapping[str, Tensor | Pieces], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file of tensors and metadata, both in the order in which they are given."""
    write_file(path, _header(tensors, metadata), _values(tensors))


def _header(tensors: Mapping[str, Tensor | Pieces], metadata: Mapping[str, str], *, ascii_only: bool = True) -> bytes:
    entries = {name: (TYPES[tensor.dtype], tuple(tensor.shape), tensor.nbytes) for name, tensor in tensors.items()}
    return encode_header(entries, metadata, ascii_only=ascii_only)


def _values(tensors: Mapping[str, Tensor | Pieces]) -> Iterator[memoryview]:
    """The bytes of each tensor; a contiguous one on the CPU is not copied."""
    for tensor in tensors.values():
        for piece in tensor.pieces if isinstance(tensor, Pieces) else [tensor]:
            yield piece.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
