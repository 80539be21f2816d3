"""Digests of what a result depends on besides its request: the weights, and how they are read, decoded and shown.

A file is read once however many ask for its digest at once, and again only after it changed: digests are kept in memory
and in the data folder, by path, size and time of modification. A whole file that huggingface_hub stored under its
sha256 is not read at all.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import re
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import structlog

from jobs.keys import digest
from jobs.registry.decoding import Decoding
from jobs.registry.models import ModelEntry
from jobs.requests.base import Reads
from tailprune.spec import MissingFileError
from tailprune.spec.hub import blob_digest
from tailprune.spec.layouts import ADALN, IMAGES, SAFETENSORS, TENSOR_FILES, WEIGHTS, files_under
from tailprune.spec.safetensors import read_header

__all__ = ["Identity", "content_digest", "file_states", "identify", "weights_digest"]

OF_A_FOLDER = (".json", *TENSOR_FILES)
"""The suffixes of the files in a folder from which a model or a decoder is loaded."""
HEXADECIMAL = "0123456789abcdef"
DIGEST = re.compile(f"[{HEXADECIMAL}]{{64}}")
LOCKED_BY = 2
"""By how many digits of its name a note has its lock."""


log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Identity:
    """What identifies the model behind a result."""

    weights: str
    """The sha256 of what was read: the checkpoint, only its condition tensors, or the record of training."""
    reading: dict[str, Any]
    """How the weights are read, decoded and shown."""
    decoding: Decoding | None = None
    """The decoder, for jobs that make pictures or sound."""


def file_states(entry: ModelEntry) -> tuple[tuple[int, ...], ...] | None:
    """The state of a model's files, in microseconds: equal states mean an equal `identify("condition", entry)`.

    entry: the model.

    No file is read. None where one is missing.
    """
    paths = [entry.local_checkpoint]
    if isinstance(entry.class_names, Path):
        paths.append(entry.class_names)
    states: list[tuple[int, ...]] = []
    try:
        for path in paths:
            if path is None:
                return None
            state = os.stat(path)
            files = [path] if not stat.S_ISDIR(state.st_mode) else files_under(path)
            states += [(each.st_ino, each.st_size, each.st_mtime_ns) for each in map(os.stat, files)]
    except OSError:
        return None
    return tuple(states)


def identify(
    reads: Reads, entry: ModelEntry, data_dir: Path, evaluation: Mapping[str, Path | str] = MappingProxyType({})
) -> Identity:
    """The identity of a model for the jobs that depend on this part of it.

    reads: the part of the model.
    entry: the model.
    data_dir: the folder in which digests are kept.
    evaluation: extractors and references by name, as `ModelRequest.evaluated_with` has them: paths, or texts that
        identify them.

    Raises FileNotFoundError for a missing file.
    """
    if reads == "training":
        if entry.training is None:
            raise MissingFileError(f"{entry.name} has no card, so no record of its training can lie beside it")
        if not entry.training.is_file():
            raise MissingFileError(f"{entry.training} is missing, the record of the training of {entry.name}")
        return Identity(content_digest(entry.training, data_dir), {})
    if reads != "model":  # no more than condition tensors and AdaLN, and no pictures of samples
        loaded_as = entry.read_as
        if entry.facts.takes_guidance:  # condition vectors then depend on the scale
            loaded_as["guidance_scale"] = entry.defaults.guidance_scale
        if reads == "named condition":
            loaded_as["class_names"] = entry.names
        return Identity(weights_digest(reads, entry, data_dir), loaded_as)
    decoding = entry.decoding
    decoder: dict[str, Any] = {
        "decoder": decoding.in_use,
        "decoder_scale": decoding.scale,
        "decoder_files": [content_digest(part, data_dir) for part in decoding.files],
    }
    if evaluation:
        decoder["instruments"] = {name: _asset_digest(made_of, data_dir) for name, made_of in evaluation.items()}
    return Identity(weights_digest(reads, entry, data_dir), entry.loaded_as | decoder, decoding)


def weights_digest(reads: Reads, entry: ModelEntry, data_dir: Path) -> str:
    """The sha256 of a model's checkpoint, or of its condition tensors, alone or with those of AdaLN.

    reads: the part of the model.
    entry: the model.
    data_dir: the folder in which digests are kept.

    That of a compacted model's artifact is known, and is taken for its condition tensors too.

    Raises FileNotFoundError for a missing file.
    """
    if entry.compacted is not None:
        return entry.compacted.checkpoint.digest
    path = entry.local_checkpoint
    if path is None:
        raise MissingFileError(f"{entry.checkpoint} is missing")
    if reads == "model":
        return content_digest(path, data_dir)
    anywhere = (ADALN,) if reads == "modulation" else ()
    return _part_digest(path, entry.facts.condition_tensors, anywhere, data_dir)


def content_digest(path: Path, data_dir: Path, suffixes: tuple[str, ...] = OF_A_FOLDER) -> str:
    """The sha256 of a file, or of the names and contents of the files in a folder.

    path: the file or folder.
    data_dir: the folder in which digests are kept.
    suffixes: the files of a folder that count.

    Raises FileNotFoundError for a missing file.
    """
    if not path.is_dir():
        return blob_digest(path) or _known(path, "whole", data_dir, _whole)
    files = [file for file in files_under(path) if file.suffix.lower() in suffixes and file.is_file()]
    return digest({_name(file.relative_to(path)): content_digest(file, data_dir) for file in files})


def _name(path: Path) -> str:
    """A path as a text that JSON can have; names need not be Unicode."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _asset_digest(made_of: Path | str, data_dir: Path) -> str:
    """The digest of an extractor's or a reference's files, or the text that identifies it."""
    return made_of if isinstance(made_of, str) else content_digest(made_of, data_dir, OF_A_FOLDER + IMAGES)


def _part_digest(path: Path, begin: tuple[str, ...], have: tuple[str, ...], data_dir: Path) -> str:
    """The digest of some tensors; for files of other formats that of the whole file.

    begin, have: tensors whose names begin with one of the first, or have one of the second in them.
    """
    if path.is_dir() and (path / WEIGHTS).is_file():
        path = path / WEIGHTS
    if path.is_dir() or path.suffix != SAFETENSORS:
        return content_digest(path, data_dir)
    return _known(path, "\0".join((*begin, *have)), data_dir, lambda at: _of_tensors(at, begin, have))


def _whole(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_tensors(path: Path, begin: tuple[str, ...], have: tuple[str, ...]) -> str:
    with path.open("rb") as file:
        try:
            tensors = read_header(file).tensors
        except ValueError:  # not a safetensors file after all; the worker reports it
            return _whole(path)
        # The same prefixes that tailprune.checkpoints.files removes.
        found = {name for name in tensors if name.removeprefix("module.").removeprefix("_orig_mod.").startswith(begin)}
        if not found:  # other prefixes
            return _whole(path)
        wanted = {
            name: tensor
            for name, tensor in sorted(tensors.items())
            if name in found or any(part in name for part in have)
        }
        size = path.stat().st_size
        if any(tensor.end > size for tensor in wanted.values()):  # cut short
            return _whole(path)
        content = hashlib.sha256(json.dumps({name: [each.dtype, each.shape] for name, each in wanted.items()}).encode())
        for tensor in wanted.values():
            file.seek(tensor.begin)
            content.update(file.read(tensor.end - tensor.begin))
    return content.hexdigest()


_digests: dict[str, str] = {}
_locks = {beginning: threading.Lock() for beginning in map("".join, itertools.product(HEXADECIMAL, repeat=LOCKED_BY))}


def _known(path: Path, what: str, data_dir: Path, read: Callable[[Path], str]) -> str:
    """The digest of a file as it is now: a kept one, or one that is computed and kept.

    path: the file.
    what: the part of the file that the digest is of.
    data_dir: the folder in which digests are kept.
    read: computes the digest.
    """
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} is missing") from error
    state = f"{path}\0{found.st_size}\0{found.st_mtime_ns}\0{what}"
    if state in _digests:
        return _digests[state]
    note = data_dir / "digests" / hashlib.sha256(os.fsencode(state)).hexdigest()
    with _alone(note):
        if state not in _digests:
            value = _noted(note)
            if value is None:
                value = read(path)
                with contextlib.suppress(OSError):  # a full disk: the file is read once more by the next process
                    _write_whole(note, value)
            _digests[state] = value
        return _digests[state]


@contextlib.contextmanager
def _alone(note: Path) -> Iterator[None]:
    """Hold the lock of a note: of all who ask for a digest at once, in any process of this machine, one reads the file.

    There are as many locks as beginnings of names, so that the files of locks do not grow in number.
    """
    beginning = note.name[:LOCKED_BY]
    with _locks[beginning], contextlib.ExitStack() as stack:
        # Without the folder, or on a file system without locks, each process reads the file.
        with contextlib.suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((note.parent / f"{beginning}.lock").open("a"))
            fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed, or its process ends
        yield


def _noted(note: Path) -> str | None:
    """The digest in a note; None where there is none, or only a part of one."""
    try:
        value = note.read_text()
        with contextlib.suppress(OSError):
            os.utime(note)  # those that nothing reads any more are deleted (`jobs.storage.retention`)
    except (OSError, UnicodeDecodeError):
        return None
    return value if DIGEST.fullmatch(value) else None


def _write_whole(path: Path, text: str) -> None:
    """Write a file so that other processes see it complete or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
