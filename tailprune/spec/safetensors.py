"""The safetensors format: a header with the place of each tensor, then the tensors' bytes.

    8 bytes    the length of the header, little-endian
    header     JSON, {name: {"dtype", "shape", "data_offsets"}} and optionally "__metadata__", padded with spaces
    data       the tensors one after another

The bytes written here are a function of the content alone: tensors and metadata keep the order in which they are
given. The safetensors library writes metadata in another order at each call, and a later version may order tensors
differently. Artifacts, and the ids that clients keep, are digests of these bytes.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tailprune.spec import InputError

__all__ = [
    "Header",
    "StoredTensor",
    "check_layout",
    "encode_header",
    "header_text",
    "read_header",
    "stored_tensor",
    "write_file",
]

ALIGNMENT = 8
LENGTH_BYTES = 8
MOST_HEADER_BYTES = 100 * 2**20
"""The largest header that the format allows."""
MOST_DIMENSIONS = 64
"""The dimensions that a tensor of PyTorch has at most."""
MOST_BYTES = 2**63
METADATA = "__metadata__"
BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
"""The bits of an element, by the format's names of types."""


@dataclass(frozen=True)
class StoredTensor:
    """One tensor in a file; `begin` and `end` are offsets from the start of the file, in bytes."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """The header of a file of tensors."""

    tensors: dict[str, StoredTensor]
    metadata: dict[str, str] | None
    size: int
    """The number of bytes before the tensors."""


def encode_header(
    tensors: Mapping[str, tuple[str, tuple[int, ...], int]],
    metadata: Mapping[str, str] | None = None,
    *,
    ascii_only: bool = True,
) -> bytes:
    """The bytes before the tensors' own, which follow in the same order.

    tensors: type in the format's notation ("F32"), shape and number of bytes, by name
    metadata: the metadata of the file; None for no entry at all
    ascii_only: whether other characters are written as JSON escapes
    """
    header: dict[str, Any] = {} if metadata is None else {METADATA: dict(metadata)}
    end = 0
    for name, (dtype, shape, size) in tensors.items():
        begin, end = end, end + size
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=ascii_only).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def write_file(path: Path, header: bytes, values: Iterable[bytes | memoryview]) -> None:
    """Write a file that everyone may read, one tensor's bytes at a time.

    The complete file replaces an existing one; a process that has mapped the existing one keeps its content.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(header)
            for value in values:
                file.write(value)
        os.chmod(temporary, 0o644)  # mkstemp makes a file for its owner alone
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def header_text(file: BinaryIO) -> bytes:
    """The JSON of the header at the start of a file, as it is there. Raises InputError for a length that none has."""
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    if length > MOST_HEADER_BYTES:
        raise InputError(f"a header of {length} bytes is longer than the limit of {MOST_HEADER_BYTES}")
    text = file.read(length)
    if len(text) < length:
        raise InputError(f"the file ends after {len(text)} of the {length} bytes of its header")
    return text


def read_header(file: BinaryIO) -> Header:
    """The header at the start of a file. Raises InputError if there is none."""
    text = header_text(file)
    try:
        header = json.loads(text, object_pairs_hook=_once)
    except RecursionError:
        raise InputError("the header is nested too deeply") from None
    if not isinstance(header, dict):
        raise InputError("the header is not a JSON object")
    metadata = header.pop(METADATA, None)
    if metadata is not None and not _is_metadata(metadata):
        raise InputError("the metadata is not a JSON object of strings")
    size = LENGTH_BYTES + len(text)
    return Header({name: stored_tensor(name, entry, size) for name, entry in header.items()}, metadata, size)


def stored_tensor(name: str, entry: Any, size: int) -> StoredTensor:
    """The tensor that an entry of a header describes. Raises InputError if it describes none.

    size: what its offsets are from, the bytes before the tensors
    """
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [begin, end]} if (
            all(type(number) is int and 0 <= number < MOST_BYTES for number in (*shape, begin, end))
            and begin <= end
            and len(shape) <= MOST_DIMENSIONS
        ):
            return StoredTensor(dtype, tuple(shape), size + begin, size + end)
    raise InputError(f"the entry of {name!r} does not describe a tensor")


def check_layout(header: Header, size: int | None = None) -> None:
    """Check that the tensors have the bytes that their types and shapes say, and follow each other without gaps.

    size: the bytes of the whole file, if they are known

    Raises InputError for the first tensor of which this is not so, and for a file of another size.
    """
    end = header.size
    for name, tensor in sorted(header.tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.dtype not in BITS:
            raise InputError(f"{name} has the type {tensor.dtype!r}, and a type is one of {', '.join(BITS)}")
        bits = BITS[tensor.dtype] * math.prod(tensor.shape)
        if bits != 8 * (tensor.end - tensor.begin):
            raise InputError(
                f"{name} takes {tensor.end - tensor.begin:,} bytes, but {tensor.dtype} of shape "
                f"{list(tensor.shape)} takes {-(-bits // 8):,}"
            )
        if tensor.begin != end:
            raise InputError(f"{name} begins at byte {tensor.begin:,}, but the tensor before it ends at {end:,}")
        end = tensor.end
    if size is not None and size != end:
        raise InputError(f"the file has {size:,} bytes, but its header describes {end:,}")


def _is_metadata(metadata: Any) -> bool:
    return isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, which readers would differ about if it had a name twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise InputError(f"the header has {name!r} more than once")
    return found
