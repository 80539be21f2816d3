"""Addresses on the Hugging Face hub, their paths in the local cache, and digests; nothing is downloaded here.

An address is `hf://owner/repo[@revision][/path]`; without a path it is the whole repository.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tailprune.spec import InputError
from tailprune.spec.layouts import CONFIG, TENSOR_FILES, TRANSFORMER, VAE, WEIGHTS, WEIGHTS_IN_A_FOLDER

__all__ = ["HubFile", "blob_digest", "cached", "check_download", "check_source", "is_hub", "parse"]

PREFIX = "hf://"
ADDRESS = re.compile(r"hf://(?P<repo>[^/@\s]+/[^/@\s]+)(@(?P<revision>[^/\s]+))?(/(?P<path>[^\s]*[^/\s]))?/?")
NO_NAMES = ("", ".", "..")
FILES = (*TENSOR_FILES, ".json", ".npz")
"""The endings of the names of files; a name with any other ending, such as v1.0, is a folder."""
IN_A_FOLDER = (CONFIG, f"{TRANSFORMER}/{CONFIG}", f"{VAE}/{CONFIG}", *WEIGHTS_IN_A_FOLDER, f"{WEIGHTS}.index.json")
"""Every folder that a model or a decoder is loaded from has one of these."""
SHA256 = re.compile("[0-9a-f]{64}")
LOCAL_METADATA = Path(".cache", "huggingface", "download")
"""Where huggingface_hub notes the digests of files that it downloaded into a folder, in that folder."""


@dataclass(frozen=True)
class HubFile:
    """A file or a folder of a repository; the whole repository if `path` is empty."""

    repo: str
    path: str
    revision: str | None = None

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision else ""
        return PREFIX + "/".join(part for part in (self.repo + at, self.path) if part)

    @property
    def is_file(self) -> bool:
        """Whether it is one file, by its name."""
        return self.path.endswith(FILES)


def is_hub(source: str | os.PathLike[str]) -> bool:
    """Whether a source is on the hub."""
    return str(source).startswith(PREFIX)


def parse(source: str) -> HubFile:
    """The file or folder of an address. Raises InputError for another form, or a name that is empty, `.` or `..`."""
    match = ADDRESS.fullmatch(source)
    if match is not None:
        found = HubFile(match["repo"], match["path"] or "", match["revision"])
        names = [*found.repo.split("/"), found.revision or "main", *(found.path or "main").split("/")]
        if not any(name in NO_NAMES for name in names):
            return found
    raise InputError(f"{source!r} does not have the form hf://owner/repo/file")


def check_source(source: str) -> str:
    """Return the source unchanged. Raises InputError for one on the hub that names no repository."""
    if is_hub(source):
        parse(source)
    return source


def cached(source: str, cache: Path | None = None) -> Path | None:
    """The local path of a file or folder of the hub; None if it is not in the cache.

    cache: the cache folder, huggingface_hub's own by default
    """
    try:
        wanted = parse(source)
    except ValueError:
        return None
    if wanted.is_file:
        return _cached_file(wanted, wanted.path, cache)
    for name in IN_A_FOLDER:
        found = _cached_file(wanted, f"{wanted.path}/{name}".lstrip("/"), cache)
        if found is not None:
            return found.parents[name.count("/")]
    return None


def blob_digest(path: Path) -> str | None:
    """The sha256 under which huggingface_hub stored a large file in its cache; None for any other file."""
    stored = path.resolve() if path.is_symlink() else path
    return stored.name if stored.parent.name == "blobs" and SHA256.fullmatch(stored.name) else None


def check_download(path: Path) -> str | None:
    """What is wrong with a downloaded file whose digest the hub gave; None if nothing is, or no digest is known."""
    expected = blob_digest(path) or _noted_digest(path)
    if expected is None:
        return None
    stat = path.stat()
    found = _sha256(str(path.resolve()), stat.st_size, stat.st_mtime_ns)
    if found == expected:
        return None
    return (
        f"is not what the hub has: its sha256 is {found[:12]}..., and the hub gave {expected[:12]}...; delete the file "
        f"({path.resolve()}), and download it again"
    )


def _noted_digest(path: Path) -> str | None:
    """The sha256 of a file that was downloaded into a folder of the caller's, and not written to since."""
    for folder in path.absolute().parents[:3]:
        note = folder / LOCAL_METADATA / f"{path.absolute().relative_to(folder)}.metadata"
        if note.is_file():
            lines = note.read_text(errors="replace").split()  # commit, etag, time of the download
            if len(lines) == 3 and SHA256.fullmatch(lines[1]) and _at(lines[2]) + 1 >= path.stat().st_mtime:
                return lines[1]
    return None


def _at(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


@lru_cache(maxsize=64)
def _sha256(path: str, size: int, modified: int) -> str:
    """The sha256 of a file in a state that size and time of modification identify."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cached_file(wanted: HubFile, path: str, cache: Path | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache  # slow to import, and only needed here

    try:
        found = try_to_load_from_cache(wanted.repo, path, cache_dir=cache, revision=wanted.revision)
    except (ValueError, OSError):  # a name that the hub, or this file system, would not take
        return None
    return Path(found) if isinstance(found, str) else None
