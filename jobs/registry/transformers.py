"""The large transformers that the registry's file names, and what tells whether their files have changed.

They are no systems: nothing here samples them, and only their AdaLN is described (`tailprune.transformers`).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from jobs.keys import digest
from jobs.registry.document import NAME_PATTERN, NOT_STATED, Source, Sources
from tailprune.spec import InputError, MissingFileError
from tailprune.spec.layouts import CONFIG, LARGE_WEIGHTS, find_diffusers, missing_from_transformer, weight_files
from tailprune.spec.safetensors import header_text

__all__ = ["TransformerEntry"]

INDICES = "*.index.json"


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
        path = self.local_checkpoint
        if path is None:
            raise MissingFileError(f"{self._sources.named(self.checkpoint)} is missing")
        if path.is_dir():
            folder = find_diffusers(path) or path
            weights, others = weight_files(folder, LARGE_WEIGHTS), sorted(folder.glob(INDICES))
        else:
            folder, weights, others = path.parent, [path], []
        config = folder / CONFIG
        states = [_state(file) for file in ([config] if config.is_file() else []) + others]
        return digest([*states, *([*_state(file), _header_digest(file)] for file in weights)])

    def place_of(self, text: str) -> str:
        """A text for clients, in which paths of this machine are replaced by those in the registry."""
        path = self.local_checkpoint
        if path is not None:
            text = text.replace(str(path), self._sources.named(self.checkpoint))
        return text.replace(f"{self.folder}/", "")

    @property
    def _sources(self) -> Sources:
        return Sources(self.folder, self.hub_cache)


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
