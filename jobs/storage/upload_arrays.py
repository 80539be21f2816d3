"""The arrays of an uploaded file, safetensors or npz: first their names, types and shapes, then the values on request.

Nothing here trusts the bytes. Sizes are compared with the limit before anything is unpacked, no pickle is loaded, and
the values of an array are read only once the caller has checked its type and shape.
"""

from __future__ import annotations

import contextlib
import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize

from jobs.problems import Fault, InvalidRequest, quoted

__all__ = ["FLOATS", "StoredArray", "Unreadable", "body_fault", "read_arrays"]

BFLOAT16 = "bfloat16"
FLOATS = ("float16", BFLOAT16, "float32", "float64")
ACCEPTED = "a safetensors file (safetensors.numpy.save_file) or an npz file (numpy.savez)"

MOST_ARRAYS = 64
MOST_HEADER_BYTES = 2**20
MOST_NPY_HEADER_BYTES = 1000
PIECE_BYTES = 2**20

ZIP = b"PK"
ZIP_ENTRY = b"PK\x01\x02"
"""The first bytes of each entry in the directory of a zip file."""
TORCH_MEMBER = b"/data.pkl"
"""The end of the name of the first member of a torch file."""
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, ValueError, RuntimeError, EOFError, OSError, OverflowError)
"""What zipfile raises for a damaged file; these include NotImplementedError and UnicodeDecodeError."""
HINTS = {
    b"--": "; this is a form: send the file itself, curl --data-binary @FILE",
    b"{": "; this is JSON: send the arrays as a file, curl --data-binary @FILE",
    b"\x93NUMPY": "; this is one array without a name (.npy): save it by its name, numpy.savez(FILE, NAME=array)",
}
"""Hints about bodies of other formats, by their first bytes."""
SAFETENSORS_TYPES = {"F": "float", "BF": "bfloat", "I": "int", "U": "uint", "C": "complex"}


class Unreadable(ValueError):
    """The values of an array cannot be read."""


@dataclass(frozen=True)
class StoredArray:
    """An array of a file, whose values have not been read yet."""

    name: str
    type: str
    """One of FLOATS, or the name of another type for messages."""
    shape: tuple[int, ...]
    read: Callable[[], NDArray[Any]]
    """Reads the values, as one of FLOATS; bfloat16 becomes float32. Raises Unreadable."""


def read_arrays(content: bytes, most_bytes: int) -> list[StoredArray]:
    """The arrays in the bytes of a safetensors or npz file, each name once, in the file's order.

    Raises InvalidRequest if it is neither, cannot be read, or is larger than `most_bytes`, also when unpacked.
    """
    if not content:
        raise _refused(f"the body is empty; send {ACCEPTED}")
    if len(content) > most_bytes:
        raise _refused(f"the file is {len(content)} bytes; at most {most_bytes} are accepted")
    if content.startswith(ZIP):
        if _is_torch(content):
            raise _refused(
                "the file is a torch checkpoint (torch.save), a pickle, which is not read; "
                "save the tensors with safetensors.torch.save_file or numpy.savez"
            )
        return _in_npz(content, most_bytes)
    if content[8:9] == b"{":
        return _in_safetensors(content)
    hint = next((hint for start, hint in HINTS.items() if content.startswith(start)), "")
    raise _refused(f"the body is neither a safetensors nor an npz file; send {ACCEPTED}{hint}")


def body_fault(message: str, name: str | None = None) -> Fault:
    """A fault of the array of this name, or of the whole body."""
    return Fault(location="body" if name is None else f"body.{quoted(name)[1:-1]}", message=message)


def _refused(message: str) -> InvalidRequest:
    return InvalidRequest([body_fault(message)])


def _is_torch(content: bytes) -> bool:
    """Whether a zip file is torch's, by the name of its first member."""
    length = int.from_bytes(content[26:28], "little")  # of the name, which begins at 30
    return content[30 : 30 + length].endswith(TORCH_MEMBER)


# safetensors


def _in_safetensors(content: bytes) -> list[StoredArray]:
    length = int.from_bytes(content[:8], "little")
    if MOST_HEADER_BYTES < length <= len(content):  # safetensors itself refuses a header longer than the file
        raise _refused(f"the safetensors header is {length} bytes; at most {MOST_HEADER_BYTES} are accepted")
    try:
        tensors = deserialize(content)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        reason = str(error).removeprefix("Error while deserializing: ")
        raise _refused(f"the body begins like a safetensors file, but is incomplete or damaged: {reason}") from None
    if len(tensors) > MOST_ARRAYS:
        raise _refused(f"the file holds {len(tensors)} arrays; at most {MOST_ARRAYS} are accepted")
    return [_safetensors_array(name, **tensor) for name, tensor in tensors]


def _safetensors_array(name: str, dtype: str, shape: list[int], data: bytearray) -> StoredArray:
    letters = dtype.rstrip("0123456789")
    kind = SAFETENSORS_TYPES.get(letters, letters.lower()) + dtype.removeprefix(letters)

    def read() -> NDArray[Any]:
        if kind == BFLOAT16:  # the upper half of a float32
            return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4").reshape(shape)
        return np.frombuffer(data, np.dtype(kind).newbyteorder("<")).reshape(shape)

    return StoredArray(name, kind, tuple(shape), read)


# npz


def _in_npz(content: bytes, most_bytes: int) -> list[StoredArray]:
    entries = content.count(ZIP_ENTRY)  # before zipfile makes an object for each
    if entries > MOST_ARRAYS:
        raise _refused(f"the file holds {entries} arrays; at most {MOST_ARRAYS} are accepted")
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except ZIP_ERRORS as error:
        raise _refused(f"the body begins like an npz file, but is incomplete or damaged: {_reason(error)}") from None
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > most_bytes:
        raise _refused(f"the file is {unpacked} bytes unpacked; at most {most_bytes} are accepted")
    arrays: dict[str, StoredArray] = {}
    faults = []
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        try:
            array = _npz_array(archive, member, name)
        except Unreadable as error:
            faults.append(body_fault(str(error), name))
            continue
        if name in arrays:
            faults.append(body_fault("the file holds two arrays of this name", name))
        arrays[name] = array
    if faults:
        raise InvalidRequest(faults)
    return list(arrays.values())


def _npz_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> StoredArray:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Unreadable("its compression is not one that numpy uses; write the file with numpy.savez")
    with _opened(archive, member) as stream:
        shape, fortran, dtype = _npy_header(stream)

    def read() -> NDArray[Any]:
        size = math.prod(shape) * dtype.itemsize
        with _opened(archive, member) as stream:
            _npy_header(stream)
            data = b"".join(_pieces(stream, size))
            more = stream.read(1)  # at the end, zipfile compares the checksum
        if len(data) < size or more:
            raise Unreadable(f"its header announces {size} bytes, but it has {'more' if more else len(data)}")
        return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")

    return StoredArray(name, _type_name(dtype), shape, read)


@contextlib.contextmanager
def _opened(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[IO[bytes]]:
    """The bytes of a member. Every error while they are read is raised as Unreadable."""
    try:
        with archive.open(member) as stream:
            yield stream
    except Unreadable:
        raise
    except Exception as error:  # besides ZIP_ERRORS those of ast and tokenize, with which numpy parses headers
        raise Unreadable(f"it is incomplete, damaged or not an array of numpy: {_reason(error)}") from None


def _pieces(stream: IO[bytes], size: int) -> Iterator[bytes]:
    """The next bytes of a stream, in pieces, between which other threads can run."""
    while size > 0 and (piece := stream.read(min(size, PIECE_BYTES))):
        size -= len(piece)
        yield piece


def _npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The shape of an array, whether it is in Fortran order, and its type."""
    version = npy.read_magic(stream)
    if version != (1, 0):  # later versions are for long headers, which only structured arrays have
        raise Unreadable(f"it has npy format {version[0]}.{version[1]}, for structured arrays; send a plain array")
    shape, fortran, dtype = npy.read_array_header_1_0(stream, max_header_size=MOST_NPY_HEADER_BYTES)
    return tuple(map(int, shape)), fortran, dtype  # numpy accepts True as 1


def _type_name(dtype: np.dtype[Any]) -> str:
    if dtype.hasobject:
        return "object, which is a pickle,"
    if dtype == np.dtype("V2"):
        return "void16, as which numpy saves bfloat16,"
    return dtype.name


def _reason(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return ascii(lines[0])[1:-1][:200]
