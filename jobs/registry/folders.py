"""The folders whose checkpoints may be registered over HTTP, and what of them may be."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tailprune.spec import InputError, MissingFileError
from tailprune.spec.layouts import DIFFUSERS_WEIGHTS, TENSOR_FILES, files_under

if TYPE_CHECKING:
    from jobs.settings import Settings

__all__ = ["VARIABLE", "ModelFolders"]

VARIABLE = "TAILPRUNE_MODEL_FOLDERS"
READ = (".json", *TENSOR_FILES)
"""The suffixes of the files of a folder that are read."""
SEPARATORS = re.compile(f"[,{os.pathsep}]")


@dataclass(frozen=True)
class ModelFolders:
    """The folders that `Settings.model_folders` names."""

    folders: tuple[Path, ...]
    data_dir: Path
    """The folder of artifacts, whose files are deleted when no record names them."""

    @classmethod
    def of(cls, settings: Settings) -> ModelFolders:
        """The folders of these settings."""
        named = filter(None, map(str.strip, SEPARATORS.split(settings.model_folders)))
        return cls(tuple(Path(os.path.abspath(os.path.expanduser(name))) for name in named), settings.data_dir)

    def find(self, source: str, lacks: Callable[[Path], list[str]] = lambda _: []) -> Path:
        """The file or folder of a source, which exists and does not lead out of the folders.

        source: a path, absolute or relative to one of the folders; the first that has it counts.
        lacks: the names of the files that a path lacks; none by default.

        Raises InputError, and MissingFileError where it does not exist.
        """
        if not self.folders:
            raise InputError(
                f"only files of the hub, hf://owner/repo/file, can be registered here, as no folder is named: set "
                f"{VARIABLE} to the folders of checkpoints, for the service and all workers, and restart them"
            )
        if ".." in Path(source).parts:
            raise InputError("must not have '..'; give the path itself")
        places = list(self._places(source))
        if not places:
            raise InputError(f"is in none of the folders that {VARIABLE} names; put it into one of them")
        path = next((place for place in places if os.path.lexists(place)), None)
        if path is None:
            raise MissingFileError(
                f"{source} does not exist"
                + ("" if Path(source).is_absolute() else f" in the folders that {VARIABLE} names")
            )
        if not path.exists():
            raise MissingFileError(f"{path} leads nowhere: it is a link to what does not exist, or may not be read")
        if not path.is_file() and not path.is_dir():
            raise InputError("is neither a file nor a folder")
        self._check(path, path)
        if missing := lacks(path):
            raise MissingFileError(f"{source} lacks {', '.join(missing)}")
        try:
            files = list(_files_of(path))
        except OSError as error:
            raise InputError(f"cannot be read ({error.strerror}): permit service and workers to read it") from error
        for file in files:
            self._check(file, path)
        return path

    def hold(self, path: Path) -> bool:
        """Whether a path leads into one of the folders, whatever links it consists of."""
        real = Path(os.path.realpath(path))
        return any(real.is_relative_to(os.path.realpath(folder)) for folder in self.folders)

    def of_path(self, path: Path) -> Path:
        """The folder of a path that `find` returned."""
        return next(folder for folder in self.folders if path.is_relative_to(folder))

    def _places(self, source: str) -> Iterator[Path]:
        """Where a source may be. Raises InputError for a hidden file."""
        for folder in self.folders:
            place = folder / source  # an absolute source stays as it is
            if place.is_relative_to(folder):
                if any(part.startswith(".") for part in place.relative_to(folder).parts):
                    raise InputError(
                        "is hidden: the name of a file, or of a folder on the way to it, begins with a dot"
                    )
                yield place

    def _check(self, file: Path, path: Path) -> None:
        """Raise InputError for a file of a path that leads to where it must not, or cannot be read."""
        if not self.hold(file):
            what = "it" if file == path else file.relative_to(path if path.is_dir() else path.parent)
            raise InputError(f"leads out of the folders that {VARIABLE} names, by a link: {what} is elsewhere")
        if Path(os.path.realpath(file)).is_relative_to(os.path.realpath(self.data_dir)):
            raise InputError(
                "is in TAILPRUNE_DATA_DIR, whose files are deleted when no job needs them; copy it elsewhere"
            )
        if file != path and not file.is_file():
            raise InputError(f"has {file.name}, which is no file")
        if not os.access(file, os.R_OK):
            raise InputError(f"cannot be read ({file.name}): permit service and workers to read it")


def _files_of(path: Path) -> Iterator[Path]:
    """The files that are read of a checkpoint or a decoder. Raises OSError for a folder that cannot be read."""
    if path.is_dir():
        yield from (file for file in files_under(path) if file.suffix.lower() in READ)
        return
    yield path
    if path.name.startswith(Path(DIFFUSERS_WEIGHTS[0]).stem):  # it is read with the configuration beside it
        yield from (file for file in sorted(path.parent.iterdir()) if file.suffix.lower() in READ)
