"""The registry's file, `models.toml`: its tables, and where the files that it names are on this machine."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from tailprune.spec import hub

if TYPE_CHECKING:
    from jobs.registry.folders import ModelFolders

__all__ = [
    "NAME_PATTERN",
    "NOT_STATED",
    "PROMPT_PATTERN",
    "ClassName",
    "RegistryDocument",
    "RegistryError",
    "Source",
    "Sources",
    "faults_of",
]

NAME_PATTERN = r"^[a-z0-9][a-z0-9.-]*$"
NOT_STATED = "not stated"
"""What an entry says of a licence or a source that its table does not state."""
PROMPT_PATTERN = r"^[^{}]*\{\}[^{}]*$"
"""A text with one pair of braces."""
ClassName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\r\n]+$")]

Source = Annotated[str, Field(min_length=1), AfterValidator(hub.check_source)]
"""A path, or an address on the Hugging Face hub."""


class RegistryError(ValueError):
    """`models.toml` cannot be used."""


@dataclass(frozen=True)
class Sources:
    """Where sources are on this machine: paths in the registry's folder, files of the hub in the hub's cache."""

    folder: Path
    hub_cache: Path | None
    within: ModelFolders | None = None
    """The folders that paths must not lead out of; None for paths of the registry's file, which may be anywhere."""

    def local(self, source: str) -> Path | None:
        """The path of a source, or None if it is missing."""
        if hub.is_hub(source):
            return hub.cached(source, self.hub_cache)
        path = self.folder / source
        if not path.exists() or (self.within is not None and not self.within.hold(path)):
            return None
        return path

    def named(self, source: str) -> str:
        """A source as the registry names it."""
        return source.removeprefix(f"{self.folder}/")

    def missing(self, source: str | None, lacks: Callable[[Path], list[str]] = lambda _: []) -> list[str]:
        """The source if it is missing, or else the missing files of its folder, as the registry names them.

        source: a file or folder; None for a model that has none.
        lacks: the names of the missing files of a source that exists.
        """
        if source is None:
            return []
        path = self.local(source)
        if path is None:
            return [self.named(source)]
        return [f"{self.named(source)}/{part}" for part in lacks(path)]


@dataclass(frozen=True)
class RegistryDocument:
    """The registry's file as it was read."""

    path: Path
    tables: Mapping[str, Any]
    sources: Sources

    @classmethod
    def read(cls, path: Path, hub_cache: Path | None) -> RegistryDocument:
        """Read a file. Raises RegistryError if it does not exist, cannot be read or is not TOML."""
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RegistryError(f"{path} does not exist; set TAILPRUNE_REGISTRY to the registry of models") from None
        except OSError as error:
            raise RegistryError(
                f"{path} cannot be read: {error.strerror}; set TAILPRUNE_REGISTRY to the registry of models"
            ) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RegistryError(f"{path}: {error}") from None
        return cls(path, tables, Sources(path.parent.absolute(), hub_cache))


def faults_of(error: ValidationError) -> str:
    """What is wrong, one phrase for each mistake, without pydantic's own explanations."""
    faults = []
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        faults.append(f"{place}: {message}" if place else message)
    return "; ".join(faults)
