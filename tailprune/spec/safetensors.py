"""The safetensors format: a header that says where each tensor lies, then the tensors' bytes.

    8 bytes    the length of the header, little-endian
    header     JSON, {name: {"dtype", "shape", "data_offsets"}} and maybe "__metadata__", filled up with spaces
    data       the tensors one after another

What is written here has bytes that are a function of its content: tensors and metadata stand in the order that they
are given in, where the library writes metadata in another order at each call and may lay tensors out anew in a later
version. Artifacts, and the ids that clients keep, are digests of such bytes.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tailprune.spec import InputError

__all__ = ["Header", "StoredTensor", "encode_header", "read_header", "write_file"]

ALIGNMENT = 8
LENGTH_BYTES = 8
MOST_HEADER_BYTES = 100 * 2**20
"""The greatest header that the format allows."""
METADATA = "__metadata__"


@dataclass(frozen=True)
class StoredTensor:
    """What a header says of one tensor: `begin` and `end` are places in the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a file of tensors holds."""

    tensors: dict[str, StoredTensor]
    metadata: dict[str, str] | None
    size: int
    """The bytes before the tensors."""


def encode_header(
    tensors: Mapping[str, tuple[str, tuple[int, ...], int]],
    metadata: Mapping[str, str] | None = None,
    *,
    ascii_only: bool = True,
) -> bytes:
    """All that stands before the tensors' bytes, which follow one after another in the same order.

    tensors: type as the format calls it ("F32"), shape and number of bytes, by name.
    metadata: what the file says of itself; not even empty where None.
    ascii_only: write other characters as JSON's escapes, not as they are.
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
    """Writes a file that everyone may read, one tensor's bytes at a time.

    It takes the place of one that is there once it is whole: who has mapped that one keeps it.
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


def read_header(file: BinaryIO) -> Header:
    """The header at the start of a file. Raises InputError where there is none."""
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    if length > MOST_HEADER_BYTES:
        raise InputError(f"a header of {length} bytes, and at most {MOST_HEADER_BYTES} are allowed")
    text = file.read(length)
    if len(text) < length:
        raise InputError(f"a header of {length} bytes, of which {len(text)} are there")
    try:
        header = json.loads(text)
    except RecursionError:
        raise InputError("a header nested too deep") from None
    if not isinstance(header, dict):
        raise InputError("a header that is no table")
    metadata = header.pop(METADATA, None)
    if metadata is not None and not _is_metadata(metadata):
        raise InputError("metadata that is no table of texts")
    size = LENGTH_BYTES + length
    return Header({name: _stored(name, entry, size) for name, entry in header.items()}, metadata, size)


def _is_metadata(metadata: Any) -> bool:
    return isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())


def _stored(name: str, entry: Any, size: int) -> StoredTensor:
    """What an entry says; places in the data become places in the file."""
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [begin, end]} if (
            all(type(number) is int and number >= 0 for number in (*shape, begin, end)) and begin <= end
        ):
            return StoredTensor(dtype, tuple(shape), size + begin, size + end)
    raise InputError(f"no tensor: {name!r}")
