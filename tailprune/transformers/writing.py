"""What writing weights takes: room, a folder until all are there, configuration and index.

A file that is finished has a note beside it, and is not written again when a run that was interrupted is started anew;
what is made has its name only when all of it is there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tailprune.spec import InputError
from tailprune.spec.layouts import CONFIG, DIFFUSERS_WEIGHTS
from tailprune.spec.safetensors import encode_header, read_header, write_file
from tailprune.spec.transformers import TransformerClass
from tailprune.transformers import modeling
from tailprune.transformers.modeling import AUTO_MAP, LAYERS, RANK, TABLE_SIZE, CompactedTransformer
from tailprune.transformers.source import INDEX, Source

__all__ = [
    "INDEX_OF_SHARDS",
    "MODELING",
    "Digest",
    "NoRoom",
    "Tensors",
    "Unfinished",
    "as_bytes",
    "bytes_of",
    "check_new",
    "needing_room",
    "unfinished",
    "write_config",
    "write_index",
]

MODELING = modeling.FILE
"""The code that goes with a compacted folder, for `trust_remote_code`."""
INDEX_OF_SHARDS = f"{DIFFUSERS_WEIGHTS[0]}{INDEX}"
SPARE = 64 * 2**20
"""Room on the disk besides the tensors."""
FULL = (errno.ENOSPC, errno.EDQUOT)
PLAN = "plan.json"
DONE = ".done.json"

Tensors = Mapping[str, tuple[str, tuple[int, ...], int]]
"""Type, shape and bytes of the tensors of a file, by their names."""


class NoRoom(InputError):
    """A disk that has too little room, at the start or meanwhile."""


class Digest:
    """The sha256 of pieces in order, of which each is added in a thread while the next is made."""

    def __init__(self, start: bytes = b"") -> None:
        self._sha256 = hashlib.sha256(start)
        self._thread = ThreadPoolExecutor(1)
        self._last: Future[None] | None = None

    def update(self, piece: bytes | memoryview) -> None:
        """Add a piece, which must not change any more, as soon as the one before it is."""
        self._wait()
        self._last = self._thread.submit(self._sha256.update, piece)

    def hexdigest(self) -> str:
        """The digest of all pieces."""
        self._wait()
        return self._sha256.hexdigest()

    def _wait(self) -> None:
        if self._last is not None:
            self._last.result()


def as_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, as a file has them."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


def bytes_of(tensors: Tensors) -> int:
    """How many bytes they take together."""
    return sum(size for _, _, size in tensors.values())


def check_new(out: Path, source: str | os.PathLike[str], opened: Source) -> None:
    """Raise InputError for a target that exists, or that lies in the folder that is read.

    source: what was given
    opened: what was found there
    """
    if os.path.lexists(out):
        raise InputError(f"{out} exists: give another name")
    for folder in (Path(source), Path(opened.path)):
        if folder.is_dir() and folder.resolve() in out.resolve().parents:
            raise InputError(f"{out} is in {folder}, which is read: give a name outside of it")


@contextmanager
def needing_room(folder: Path, size: int) -> Iterator[None]:
    """What writes so many bytes more into a folder.

    Raises InputError if there is no room for them, before or meanwhile.
    """
    size += SPARE
    free = shutil.disk_usage(folder).free
    if free < size:
        raise NoRoom(f"{folder} has {free / 1e9:.2f} GB of room, and {size / 1e9:.2f} GB are needed")
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise NoRoom(
            f"{folder} has no room left: {size / 1e9:.2f} GB were needed at the start ({size:,} bytes): make room, and "
            "start again"
        ) from error


@dataclass(frozen=True)
class Unfinished:
    """The folder in which files are written until all are there."""

    out: Path
    """What is made of it."""
    folder: Path

    def write(
        self,
        name: str,
        tensors: Tensors,
        values: Callable[[], Iterator[bytes | memoryview]],
        about: Callable[[], Mapping[str, Any]],
    ) -> dict[str, Any]:
        """Write a file of tensors, unless it is there; return what its note says: its `sha256`, and more.

        values: makes the bytes of all tensors in order
        about: what else the note says, when they are written
        """
        header, note, path = encode_header(tensors, {"format": "pt"}), self.folder / f"{name}{DONE}", self.folder / name
        if note.is_file() and path.is_file() and path.stat().st_size == len(header) + bytes_of(tensors):
            return dict(json.loads(note.read_text()))
        digest = Digest(header)

        def digested() -> Iterator[bytes | memoryview]:
            for piece in values():
                digest.update(piece)
                yield piece

        write_file(path, header, digested())
        with path.open("rb") as file:
            os.fsync(file.fileno())
        said = {**about(), "sha256": digest.hexdigest()}
        _write_text(note, json.dumps(said))
        return said

    def finish(self, name: str | None = None) -> None:
        """Give the folder, or one file in it, its name. Raises FileExistsError if that is taken meanwhile."""
        if os.path.lexists(self.out):
            raise FileExistsError(f"{self.out} was made by another meanwhile: {self.folder} has what was to be there")
        for note in [*self.folder.glob(f"*{DONE}"), self.folder / PLAN]:
            note.unlink()
        for each in filter(Path.is_file, self.folder.iterdir()):
            with each.open("rb") as file:
                os.fsync(file.fileno())
        os.rename(self.folder if name is None else self.folder / name, self.out)
        if name is not None:
            shutil.rmtree(self.folder)


@contextmanager
def unfinished(out: Path, plan: Mapping[str, Any], size: int, computed: str = "") -> Iterator[Unfinished]:
    """A folder for what is to be made, new or with what an equal call before has finished.

    What is raised in it leaves the files that are finished, but an InputError none, since it would be raised again.

    out: what is made
    plan: what it is made of and how, as JSON can hold it
    size: the bytes of all its files
    computed: a digest of what was computed for it, which another machine or number of threads may round otherwise; what
        a call with another digest has finished is deleted

    Raises InputError if the folder is that of another plan, or there is too little room, also while it is filled.
    """
    folder = out.with_name(f".{out.name}.partial")
    stated = json.dumps(plan, sort_keys=True)
    if any(folder.glob(f"*{DONE}")):
        before = (folder / PLAN).read_text().splitlines() if (folder / PLAN).is_file() else []
        if before[:1] != [stated]:
            raise InputError(
                f"{folder} has an unfinished run of another kind, or of files that have changed: delete it"
            )
        if before[1:] != [computed]:
            shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".*"):  # what was being written when a run was killed
        left.unlink()
    there = sum(file.stat().st_size for file in folder.iterdir())
    try:
        with needing_room(out.absolute().parent, max(0, size - there)):
            _write_text(folder / PLAN, f"{stated}\n{computed}\n")
            yield Unfinished(out, folder)
    except BaseException as error:
        refused = isinstance(error, InputError) and not isinstance(error, NoRoom)
        if refused or not any(folder.glob(f"*{DONE}")):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def write_config(
    folder: Path, config: Mapping[str, Any], cls: TransformerClass, rank: int, table_size: int | None = None
) -> None:
    """Write the configuration of a compacted folder, and the code that diffusers loads it by.

    config: that of diffusers' class
    table_size: the number of times in the table, for a model that has one in place of directions
    """
    own: dict[str, Any] = {RANK: rank, LAYERS: [linears.name for linears in cls.linears]}
    if table_size is not None:
        own[TABLE_SIZE] = table_size
    own[AUTO_MAP] = {"AutoModel": f"{Path(MODELING).stem}.{CompactedTransformer.__name__}"}
    (folder / CONFIG).write_text(json.dumps(dict(config) | own, indent=2) + "\n")
    shutil.copyfile(modeling.__file__, folder / MODELING)


def write_index(folder: Path, files: Iterable[str], total: int) -> None:
    """Write the index of the shards in a folder.

    files: their names
    total: the bytes of all tensors
    """
    weights: dict[str, str] = {}
    for name in files:
        with (folder / name).open("rb") as file:
            weights |= dict.fromkeys(read_header(file).tensors, name)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weights.items()))}
    (folder / INDEX_OF_SHARDS).write_text(json.dumps(index, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(text)
    os.replace(unfinished, path)
