"""What a file is by its first bytes, whatever its name says: a download is often something else than the weights."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Literal

from tailprune.spec.safetensors import LENGTH_BYTES, MOST_HEADER_BYTES

__all__ = ["LFS_POINTER", "Format", "NotTensors", "format_of"]

Format = Literal["safetensors", "pickle"]

FIRST_BYTES = 2048
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml")
SHOWN = 60
"""How many characters of a text are shown in a message."""
OTHER_FORMATS = (
    (b"GGUF", "a GGUF file: give the weights as they were published, before their conversion"),
    (b"\x89HDF\r\n", "an HDF5 file, as Keras writes: give the weights as PyTorch's"),
    (b"\x93NUMPY", "a NumPy array, not a file of named tensors"),
    (b"\x1f\x8b", "a gzip archive: unpack it and give the file inside"),
    (b"BZh", "a bzip2 archive: unpack it and give the file inside"),
    (b"\xfd7zXZ\x00", "an xz archive: unpack it and give the file inside"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive: unpack it and give the file inside"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it and give the file inside"),
    (b"Rar!", "a RAR archive: unpack it and give the file inside"),
    (b"%PDF", "a PDF document, not the weights"),
    (b"\x89PNG", "a PNG image, not the weights"),
    (b"\xff\xd8\xff", "a JPEG image, not the weights"),
)
TAR_AT, TAR = 257, b"ustar"
OLD_PICKLES = (b"\x80", b"(", b"}", b"]", b"c")
"""How pickles begin: with their protocol, or with an operation of protocol 0 or 1."""


class NotTensors(ValueError):
    """The reason why a file is not one of tensors, and the way out."""


def format_of(path: Path) -> Format:
    """The format of a file of tensors, from its first bytes.

    Raises NotTensors for a file of anything else, with what it is and what to do; OSError for one that cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(FIRST_BYTES)
    size = path.stat().st_size
    if not head:
        raise NotTensors("is empty: download it again")
    if not any(head):
        raise NotTensors("begins with zeros, as a download that did not finish: download it again")
    if head.startswith(LFS_POINTER):
        raise NotTensors(
            "is a pointer of Git LFS, which stands for the file: run `git lfs pull` in that repository, or download "
            f"the file itself{_size_in(head)}"
        )
    if head.startswith(b"PK"):
        _check_archive(path)
        return "pickle"
    for begins, what in OTHER_FORMATS:
        if head.startswith(begins):
            raise NotTensors(f"is {what}")
    if head[TAR_AT:].startswith(TAR):
        raise NotTensors("is a tar archive: unpack it and give the file inside")
    length = int.from_bytes(head[:LENGTH_BYTES], "little")
    if head[LENGTH_BYTES : LENGTH_BYTES + 1] == b"{" and length <= MOST_HEADER_BYTES:
        if length > size - LENGTH_BYTES:
            raise NotTensors("is a safetensors file that was cut short in its header: download it again")
        return "safetensors"
    if (text := _text(head)) is not None:
        raise NotTensors(_not_text(text))
    if head.startswith(OLD_PICKLES):
        return "pickle"
    raise NotTensors("is neither a safetensors file nor a pickle of PyTorch: download it again")


def _size_in(pointer: bytes) -> str:
    """The size of the file that a pointer stands for, as a text; empty if it gives none."""
    found = re.search(rb"^size (\d+)\s*$", pointer, re.MULTILINE)
    return f", of {int(found[1]) / 1e6:,.1f} MB" if found else ""


def _check_archive(path: Path) -> None:
    """Raise NotTensors for a zip archive that is not one of torch.save."""
    if not zipfile.is_zipfile(path):
        raise NotTensors("is a zip archive that was cut short: download it again")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise NotTensors(f"is a damaged zip archive ({error}): download it again") from error
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner:
        raise NotTensors("is TorchScript, a program: save the state_dict() of its module, and give that file")
    if "data.pkl" not in inner:
        content = ", ".join(sorted(names)[:3]) or "nothing"
        raise NotTensors(
            f"is a zip archive with {content}, not one of torch.save: unpack it, and give the file of the weights"
        )


def _text(head: bytes) -> str | None:
    """The first bytes as a text; None if they are none."""
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # a character may be cut at the end
            return None
        text = head[: error.start].decode("utf-8-sig")
    printable = all(character.isprintable() or character in "\r\n\t\f" for character in text)
    return text.strip() if printable and len(text) >= 4 else None


def _not_text(text: str) -> str:
    """What a text is, in place of a file of tensors."""
    if text.lower().startswith(tuple(page.decode() for page in PAGES)):
        title = re.search(r"<title[^>]*>\s*(.*?)\s*</title>", text, re.IGNORECASE | re.DOTALL)
        named = f" ({title[1][:SHOWN]!r})" if title and title[1] else ""
        return (
            f"is a web page{named}, not the file: its address shows a page or asks to sign in; download the file itself"
        )
    shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
    return f"is a text, {shown!r}, not a file of tensors: download it again"
