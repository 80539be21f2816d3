"""The large transformers that the registry's file names, and what tells whether their files have changed.

They are no systems: nothing here samples them, and only their AdaLN is described (`tailprune.transformers`).
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from jobs.keys import digest
from jobs.registry.document import NAME_PATTERN, NOT_STATED, Source, Sources
from tailprune.spec import InputError, MissingFileError
from tailprune.spec.layouts import (
    CONFIG,
    LARGE_WEIGHTS,
    SCHEDULER,
    SCHEDULER_CONFIG,
    TRANSFORMER,
    find_diffusers,
    missing_from_transformer,
    weight_files,
)
from tailprune.spec.safetensors import StoredTensor, header_text, read_header
from tailprune.spec.transformers import CLASSES, Part, TransformerClass

__all__ = ["TransformerEntry", "TransformerFacts"]

INDICES = "*.index.json"
MOST_CONFIGURATION_BYTES = 2**20


@dataclass(frozen=True)
class TransformerFacts:
    """What is known of a large transformer from its configuration and its headers."""

    cls: TransformerClass
    parts: tuple[Part, ...]
    """What c is the sum of in this model."""
    classes: int | None
    """How many classes it takes; None for one that takes none."""
    width: int
    """The components of c."""
    text_width: int | None
    """The components of a pooled text; None for one that takes none. Where it pools the tokens itself, those of c."""
    in_two_orders: bool
    """Whether the rows of q, k and v stand in one of two orders, which no tensor tells (`qkv`)."""

    def part(self, what: str) -> Part | None:
        """The part of c of this name, such as `guidance`; None where c has none."""
        return next((part for part in self.parts if part.what == what), None)


class TransformerEntry(BaseModel):
    """One large transformer: its checkpoint, and where it comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=NAME_PATTERN)
    title: str
    checkpoint: Source
    """A folder in diffusers' layout, a safetensors file, or `hf://owner/repo`, which counts once it is in the cache."""
    licence: str = NOT_STATED
    source: str = NOT_STATED
    """Where the checkpoint comes from."""
    obtain: str | None = None
    """How to get its files, and where to put them."""
    folder: Path = Field(exclude=True)
    """The folder of the registry, to which paths are relative."""
    hub_cache: Path | None = Field(default=None, exclude=True)

    @property
    def local_checkpoint(self) -> Path | None:
        """The path of the checkpoint on this machine, or None if it is missing."""
        return self._sources.local(self.checkpoint)

    @property
    def missing(self) -> list[str]:
        """The missing files; it can be described if there are none."""
        return self._sources.missing(self.checkpoint, missing_from_transformer)

    @property
    def ready(self) -> bool:
        """Whether it can be described."""
        return not self.missing

    @property
    def files_digest(self) -> str:
        """The sha256 of what its files are: names, sizes, times of modification, and headers, without their values.

        Raises OSError for a file that is missing or cannot be read.
        """
        config, weights, others = self._files
        states = [_state(file) for file in ([config] if config.is_file() else []) + others]
        return digest([*states, *([*_state(file), _header_digest(file)] for file in weights)])

    @property
    def facts(self) -> TransformerFacts:
        """What its configuration and its headers say of it. Under its original names it needs no configuration.

        Raises InputError for a model that cannot be compacted: of a class that is not known, with names that are not
        read, or quantised. OSError as in `files_digest`.
        """
        config, weights, _ = self._files
        tensors: dict[str, StoredTensor] = {}
        for path in weights:
            with path.open("rb") as file:
                try:
                    tensors |= read_header(file).tensors
                except ValueError as error:  # InputError, or a header that is not JSON
                    raise InputError(f"{path}: {error}; download it again") from error
        original = _of_original_names(tensors)
        said = {} if original is not None and not config.is_file() else _configuration(config)
        stated = said.get("_class_name", None if original is None else original.name)
        if stated not in (known := list(dict.fromkeys(cls.name for cls in CLASSES))):
            raise InputError(f"{config}: its class is {str(stated)[:80]!r}; known are {', '.join(known)}")
        if "quantization_config" in said:
            raise InputError(f"{config}: the weights are quantised: name those from before they were")
        cls = next(cls for cls in CLASSES if cls.name == stated and cls.naming == "diffusers")
        named = cls if original is None or original.name != stated else original
        if not any(name.endswith(named.anchor) for name in tensors):
            raise InputError(
                f"{config}: a {cls.name} has {named.anchor}, and the weights have not: name diffusers' own"
            )
        parts = tuple(part for part in named.parts if not part.optional or _weight(part.layers[0], tensors) is not None)

        def shape(layer: str) -> tuple[int, ...]:
            weight = _weight(layer, tensors)
            if weight is None or len(weight.shape) != 2:
                raise InputError(
                    f"{config}: a {cls.name} has {layer}.weight with two dimensions, and the weights have not"
                )
            return weight.shape

        table, text = (next((part for part in parts if part.what == what), None) for what in ("class", "pooled text"))
        width = shape(named.time.layers[1])[0]
        return TransformerFacts(
            cls,
            parts,
            classes=None if table is None else shape(table.layers[0])[0] - 1,
            width=width,
            text_width=None if text is None else width if text.pools else shape(text.layers[0])[1],
            in_two_orders=named.in_two_orders,
        )

    @property
    def scheduler(self) -> Path | None:
        """The folder of the scheduler beside it, in a diffusers repository; None where there is none."""
        path = self.local_checkpoint
        if path is None or not path.is_dir():
            return None
        folder = (path.parent if path.name == TRANSFORMER else path) / SCHEDULER
        return folder if (folder / SCHEDULER_CONFIG).is_file() else None

    def second_scheduler(self, cls: TransformerClass) -> Path | None:
        """The folder of the other scheduler that the pipeline of a class runs; None where there is none."""
        if self.scheduler is None or cls.second_scheduler is None:
            return None
        folder = self.scheduler.parent / cls.second_scheduler
        return folder if (folder / SCHEDULER_CONFIG).is_file() else None

    @property
    def scheduler_config(self) -> dict[str, Any]:
        """What the configuration of its scheduler says; nothing where it has none. Raises InputError, OSError."""
        return {} if self.scheduler is None else _configuration(self.scheduler / SCHEDULER_CONFIG)

    @property
    def _files(self) -> tuple[Path, list[Path], list[Path]]:
        """The configuration, which may be missing, the weights, and their indices. Raises MissingFileError."""
        path = self.local_checkpoint
        if path is None:
            raise MissingFileError(f"{self._sources.named(self.checkpoint)} is missing")
        if not path.is_dir():
            return path.parent / CONFIG, [path], []
        folder = find_diffusers(path) or path
        return folder / CONFIG, weight_files(folder, LARGE_WEIGHTS), sorted(folder.glob(INDICES))

    def place_of(self, text: str) -> str:
        """A text for clients, in which paths of this machine are replaced by those in the registry."""
        path = self.local_checkpoint
        if path is not None:
            text = text.replace(str(path), self._sources.named(self.checkpoint))
        return text.replace(f"{self.folder}/", "")

    @property
    def _sources(self) -> Sources:
        return Sources(self.folder, self.hub_cache)


def _configuration(path: Path) -> dict[str, Any]:
    """What a file of JSON says. Raises InputError for one that is missing, or is no object of JSON."""
    if not path.is_file():
        raise InputError(f"{path} is missing, by which diffusers knows the class of the weights")
    try:
        said = json.loads(path.read_bytes()) if path.stat().st_size <= MOST_CONFIGURATION_BYTES else None
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise InputError(f"{path} is no JSON object of at most {MOST_CONFIGURATION_BYTES} bytes")
    return said


def _of_original_names(tensors: dict[str, StoredTensor]) -> TransformerClass | None:
    """The class that tensors are of by the names of its original code; None for those of diffusers, and others."""
    for cls in CLASSES:
        layers = [cls.anchor.removesuffix(".weight"), *cls.time.layers]
        if cls.naming != "diffusers" and all(_weight(layer, tensors) is not None for layer in layers):
            return cls
    return None


def _weight(layer: str, tensors: dict[str, StoredTensor]) -> StoredTensor | None:
    """The weight of a layer, in the first block; what names begin with in a file does not matter."""
    ending = f"{layer.replace('*', '0')}.weight"
    return next((tensor for name, tensor in tensors.items() if name.endswith(ending)), None)


def _state(file: Path) -> list[str | int]:
    found = file.stat()
    return [os.fsencode(file.name).decode(errors="backslashreplace"), found.st_size, found.st_mtime_ns]


def _header_digest(path: Path) -> str | None:
    """The sha256 of the bytes of a file's header; None for a file without one, which the worker reports."""
    with path.open("rb") as file:
        try:
            return hashlib.sha256(header_text(file)).hexdigest()
        except InputError:
            return None
