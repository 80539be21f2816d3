"""The tensors of a large transformer, where they are: headers when opened, rows of single tensors on demand.

A source is a folder in diffusers' layout (the transformer's own, or one with `transformer/`), one safetensors file, or
an address on the hub, of which the configuration and the headers alone are read unless it is in the cache whole.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tailprune.checkpoints.files import CheckpointError
from tailprune.checkpoints.hub import cache_folder, read_headers
from tailprune.checkpoints.save import TYPES
from tailprune.checkpoints.signature import NotTensors, format_of
from tailprune.spec import MissingFileError
from tailprune.spec.hub import cached, is_hub
from tailprune.spec.layouts import CONFIG, LARGE_WEIGHTS, TRANSFORMER, find_diffusers, weight_files
from tailprune.spec.safetensors import Header, StoredTensor, check_layout, read_header

__all__ = ["Source", "open_file", "open_source", "read_json"]

PREFIXES = ("model.diffusion_model.", "diffusion_model.", "transformer.")
"""What the names of a transformer's tensors begin with in files that hold other models too."""
TORCH = {name: dtype for dtype, name in TYPES.items()}
PIECE = 16 * 2**20
"""The bytes that are read or copied at once."""
INDEX = ".index.json"
MOST_CONFIGURATION_BYTES = 2**20
MOST_INDEX_BYTES = 64 * 2**20


@dataclass
class Source:
    """The tensors of one transformer by their names."""

    path: str
    """What was opened, as a text for people."""
    config: Mapping[str, Any]
    """The configuration beside the weights; empty if there is none."""
    tensors: dict[str, StoredTensor]
    prefix: str = ""
    """What the names begin with in the file."""
    files: dict[str, Path] = field(default_factory=dict)
    """The file of each tensor; empty where only headers are at hand."""
    stamps: list[list[Any]] = field(default_factory=list)
    """Path, size and time of change of every file, from before it was opened."""
    runs: dict[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    """Of tensors whose bytes stand apart or in another order in their file: where each run of them begins and ends."""
    others: tuple[str, ...] = ()
    """The tensors of other models in the same files."""
    notes: tuple[str, ...] = ()
    """How the files were read, where they can be read in several ways, as sentences."""

    @property
    def has_values(self) -> bool:
        """Whether values can be read, and not headers alone."""
        return bool(self.files)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor. Raises CheckpointError if there is none of this name."""
        if name not in self.tensors:
            raise CheckpointError(f"{self.path}: has no tensor {name}")
        return self.tensors[name].shape

    def parameters(self, names: Iterable[str]) -> int:
        """How many numbers these tensors have together."""
        return sum(math.prod(self.tensors[name].shape) for name in names)

    def size_of(self, names: Iterable[str]) -> int:
        """How many bytes these tensors take together."""
        return sum(end - begin for name in names for begin, end in self._runs(name))

    def raw(self, name: str, start: int, size: int) -> memoryview:
        """At most `size` bytes of a tensor, from one of them on; fewer at its end alone."""
        return memoryview(self._bytes(name, start, min(size, self.size_of([name]) - start)))

    def read(self, name: str, rows: slice = slice(None)) -> Tensor:
        """The values of a tensor, or of some of its rows; only their bytes are read.

        A file is not mapped into memory: a private map of a file that is larger than the memory is refused by Linux.
        """
        stored = self.tensors[name]
        if stored.dtype not in TORCH:
            raise CheckpointError(f"{self.files[name]}: {name} has the type {stored.dtype}, which is not read")
        start, stop, _ = rows.indices(stored.shape[0]) if stored.shape else (0, 1, 1)
        inner = math.prod(stored.shape[1:])
        step = inner * TORCH[stored.dtype].itemsize
        values = self._bytes(name, start * step, (stop - start) * step)
        if not values:
            return torch.empty(stored.shape, dtype=TORCH[stored.dtype])
        shape = (stop - start, *stored.shape[1:]) if stored.shape else ()
        return torch.frombuffer(values, dtype=TORCH[stored.dtype]).reshape(shape)

    def _runs(self, name: str) -> tuple[tuple[int, int], ...]:
        stored = self.tensors[name]
        return self.runs.get(name) or ((stored.begin, stored.end),)

    def _bytes(self, name: str, start: int, size: int) -> bytearray:
        """So many bytes of a tensor, from one of them on."""
        values = bytearray(size)
        view, done = memoryview(values), 0
        with self.files[name].open("rb") as file:
            for begin, end in self._runs(name):
                count = min(end - begin - start, size - done)
                if count > 0:
                    file.seek(begin + start)
                    if file.readinto(view[done : done + count]) < count:
                        raise CheckpointError(
                            f"{self.files[name]}: ends before {name}: it has changed since it was opened"
                        )
                    done += count
                start = max(0, start - (end - begin))
        return values

    def check_unchanged(self) -> None:
        """Raise CheckpointError if a file is not the one that was opened any more, by its size and time."""
        try:
            unchanged = [_stamp(Path(path)) for path, _, _ in self.stamps] == self.stamps
        except FileNotFoundError:
            unchanged = False
        if not unchanged:
            raise CheckpointError(f"{self.path}: its files changed while they were read: start again")


def open_source(source: str | os.PathLike[str]) -> Source:
    """Open a transformer.

    source: a folder, a safetensors file, or `hf://owner/repo` with a folder or a file in it

    Raises FileNotFoundError for a source or a shard that is missing, CheckpointError for files that are not what their
    headers, their index or their configuration say.
    """
    if not is_hub(source):
        return _local(Path(source))
    local = cached(str(source), cache_folder())
    if local is not None:
        try:
            return _local(local)
        except FileNotFoundError:  # its weights are not in the cache, or not all of them
            pass
    found = read_headers(str(source))
    tensors, prefix, others = _chosen(found.tensors)
    return Source(path=str(source), config=found.config, tensors=tensors, prefix=prefix, others=others)


def open_file(path: Path) -> tuple[Source, dict[str, str]]:
    """Open one safetensors file, whatever its tensors are, with its metadata.

    Raises FileNotFoundError if it is missing, CheckpointError if it is not what its header says.
    """
    if not path.is_file():
        raise MissingFileError(f"there is no file {path}")
    stamps = [_stamp(path)]
    header = _header(path)
    files = dict.fromkeys(header.tensors, path)
    return Source(str(path), {}, header.tensors, files=files, stamps=stamps), header.metadata or {}


def _local(path: Path) -> Source:
    if path.is_dir():
        folder = find_diffusers(path) or path
        config = _config(folder / CONFIG)
        files = weight_files(folder, LARGE_WEIGHTS)
        if not files:
            raise MissingFileError(
                f"no transformer at {path}: neither it nor {TRANSFORMER}/ in it has {' or '.join(LARGE_WEIGHTS)}, or "
                "an index"
            )
        if files[0].name.endswith(INDEX):
            raise CheckpointError(f"{files[0]}: names no files of weights; download it again")
        indexed = _indexed(folder)
    elif path.exists():
        folder, files, indexed = path, [path], {}
        beside = _config(path.parent / CONFIG)
        config = beside if str(beside.get("_class_name", "")).endswith("Model") else {}
    else:
        raise MissingFileError(f"no transformer at {path}: give a folder in diffusers' layout or a safetensors file")
    tensors: dict[str, StoredTensor] = {}
    where: dict[str, Path] = {}
    stamps = []
    for file in files:
        if not file.is_file():
            raise MissingFileError(f"{folder}: lacks {file.name}, which its index names: download it")
        stamps.append(_stamp(file))
        for name, stored in _header(file).tensors.items():
            if name in where:
                raise CheckpointError(f"{folder}: {name} is in {where[name].name} and in {file.name}")
            tensors[name], where[name] = stored, file
    for name, shard in indexed.items():
        if name not in where or where[name].name != shard:
            raise CheckpointError(
                f"{folder}: its index says that {name} is in {shard}, which does not have it: download the folder again"
            )
    chosen, prefix, others = _chosen(tensors)
    of_each = {name: where[prefix + name] for name in chosen}
    return Source(str(folder), config, chosen, prefix, of_each, stamps, others=others)


def _stamp(path: Path) -> list[Any]:
    stat = path.stat()
    return [str(path.absolute()), stat.st_size, stat.st_mtime_ns]


def _chosen(tensors: Mapping[str, StoredTensor]) -> tuple[dict[str, StoredTensor], str, tuple[str, ...]]:
    """The tensors of the transformer among those of a file, by the rest of their names; how they begin; the others."""
    prefix = next((each for each in PREFIXES if any(name.startswith(each) for name in tensors)), "")
    chosen = {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}
    return chosen, prefix, tuple(name for name in tensors if not name.startswith(prefix))


def _header(path: Path) -> Header:
    try:
        if format_of(path) != "safetensors":
            raise CheckpointError(
                f"{path}: is a pickle of PyTorch, of which single tensors cannot be read: save it as safetensors"
            )
        with path.open("rb") as file:
            header = read_header(file)
        check_layout(header, path.stat().st_size)
    except NotTensors as error:
        raise CheckpointError(f"{path}: {error}") from error
    except CheckpointError:
        raise
    except ValueError as error:  # InputError, or a header that is not JSON
        raise CheckpointError(f"{path}: {error}; download it again") from error
    return header


def _config(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def read_json(path: Path, most: int = MOST_CONFIGURATION_BYTES) -> dict[str, Any]:
    """The JSON object in a file. Raises CheckpointError for anything else, and for more than so many bytes."""
    if path.stat().st_size > most:
        raise CheckpointError(f"{path}: has {path.stat().st_size:,} bytes, and such a file has at most {most:,}")
    try:
        found = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: is not JSON ({error}); download it again") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: is not a JSON object; download it again")
    return found


def _indexed(folder: Path) -> dict[str, str]:
    """The file of each tensor by the index in a folder; empty if there is none or a single file comes before it."""
    for name in LARGE_WEIGHTS:
        if (folder / name).is_file():
            return {}
        if (index := folder / f"{name}{INDEX}").is_file():
            return dict(read_json(index, MOST_INDEX_BYTES)["weight_map"])  # `weight_files` has looked at it
    return {}
