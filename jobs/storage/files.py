"""The files of a store of artifacts, by name below its root: in a folder of this machine, or elsewhere by fsspec.

Both kinds have the same methods. A file is written whole or not at all: beside its place and moved there in a folder,
and by one call in a store of objects, which replace objects in one step themselves.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from errno import EDQUOT, ENOSPC
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Protocol

import fsspec

from jobs.urls import masked

__all__ = [
    "CALLS_AT_ONCE",
    "INCOMING",
    "ArtifactsFull",
    "ArtifactsUnavailable",
    "Files",
    "LocalFiles",
    "RemoteFiles",
    "State",
    "translated_errors",
]  # fmt: skip

CALLS_AT_ONCE = 32
CALL_SECONDS, LEAST_BYTES_A_SECOND = 10.0, 2**20
"""How long a call of a remote file system may take, and how much longer for each byte that is moved."""
"""How many calls to a store of objects may run at the same time."""
INCOMING = "incoming"
"""The folder of files that are being written or removed."""
FULL = ("StorageFull", "QuotaExceeded", "InsufficientStorage", os.strerror(ENOSPC))
"""What errors say that have no number: codes of stores of objects, and the text of the system."""
TIMES = ("LastModified", "last_modified", "modified", "updated", "mtime", "created")
"""What file systems of fsspec call the time at which a file was written."""
VERSIONS = ("ETag", "etag", "generation", "md5Hash", "content_md5", "VersionId", "version_id")
"""What else changes when a file is written, where a file system has it."""


class ArtifactsUnavailable(Exception):
    """The store of artifacts does not answer, or takes no writes."""


class ArtifactsFull(ArtifactsUnavailable):
    """There is no space to store more."""


@contextlib.contextmanager
def translated_errors(
    location: str, *, writes: bool = False, of: tuple[type[Exception], ...] = (OSError,)
) -> Iterator[None]:
    """Raise ArtifactsUnavailable for an error of the file system within the context.

    location: where the files are, for the message.
    writes: whether files are written; FileNotFoundError, which is raised as it is by default, is then an error, too.
    of: the errors of the file system.
    """
    try:
        yield
    except of as error:
        if isinstance(error, ArtifactsUnavailable) or (isinstance(error, FileNotFoundError) and not writes):
            raise
        if not isinstance(error, OSError) and type(error).__module__ == "builtins":
            raise  # a bug; errors of the drivers of object stores have classes of their own
        unsaid = "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or unsaid
        is_full = getattr(error, "errno", None) in (ENOSPC, EDQUOT) or any(code in str(error) for code in FULL)
        kind = ArtifactsFull if is_full else ArtifactsUnavailable
        raise kind(f"the files in {location} cannot be used: {masked(str(reason))}") from error


@dataclass(frozen=True, slots=True)
class State:
    """A file as it is at a moment; equal only if it was not written in between."""

    size: int
    """In bytes."""
    modified: float
    """When it was written, in seconds since 1970; infinity where that is not known."""
    version: tuple[Any, ...]


class Files(Protocol):
    """The files below a root. Methods raise ArtifactsUnavailable, and those that read FileNotFoundError."""

    location: str
    """Where they are, for people."""

    def state(self, name: str) -> State | None:
        """A file as it is now; None if there is none."""
        ...

    def read(self, name: str, start: int | None = None, stop: int | None = None) -> tuple[bytes, State | None]:
        """The bytes of a file from `start` to `stop`, all by default; and its state if that takes no further call."""
        ...

    def digest(self, name: str) -> tuple[str, State]:
        """The sha256 of a file, which is not read into memory, and its state before it was read."""
        ...

    def write(self, name: str, content: bytes | Path) -> State | None:
        """Write a file, bytes or a copy of a local file; its state, if that is sure to be of these bytes."""
        ...

    def touch(self, name: str, state: State | None) -> State | None:
        """Set the time of a file to now if this is its state; its new state, or None if it has to be written."""
        ...

    def remove(self, name: str, state: State) -> bool:
        """Remove a file, unless it was written or touched since; return whether it was removed."""
        ...

    def files_in(self, folder: str) -> Iterator[tuple[str, State]]:
        """The names and states of the files in a folder, and of those in the folders in it."""
        ...

    def folders(self) -> list[str]:
        """The names of the folders in the root."""
        ...

    def move(self, name: str, to: str) -> None:
        """Give a file another name, or delete it if there is a file of that name. Others may do the same meanwhile."""
        ...

    def fetch(self, name: str, path: Path) -> None:
        """Make a local file with the content of a file: a hard link where possible, or a copy."""
        ...


class LocalFiles:
    """The files of a folder of this machine, see `Files`."""

    def __init__(self, root: str) -> None:
        self._root = Path(root)
        self.location = f"{root} on {socket.gethostname()}"

    def state(self, name: str) -> State | None:
        with translated_errors(self.location):
            try:
                return _state(os.stat(self._root / name))
            except FileNotFoundError:
                return None

    def read(self, name: str, start: int | None = None, stop: int | None = None) -> tuple[bytes, State | None]:
        with translated_errors(self.location), (self._root / name).open("rb", buffering=0) as file:
            state = _state(os.fstat(file.fileno()))
            first = start or 0
            file.seek(first)
            return _read_fully(file, (state.size if stop is None else stop) - first), state

    def digest(self, name: str) -> tuple[str, State]:
        with translated_errors(self.location), (self._root / name).open("rb") as file:
            state = _state(os.fstat(file.fileno()))
            return hashlib.file_digest(file, "sha256").hexdigest(), state

    def write(self, name: str, content: bytes | Path) -> State | None:
        path = self._root / name
        with translated_errors(self.location, writes=True), self._incoming() as temporary:
            if isinstance(content, bytes):
                temporary.write_bytes(content)
            else:
                shutil.copyfile(content, temporary)
            written = _state(os.stat(temporary))
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary, path)
        state = self.state(name)
        return state if state is not None and _is_same(state, written) else None

    def touch(self, name: str, state: State | None) -> State | None:
        path = self._root / name
        with translated_errors(self.location):
            if state is None or self.state(name) != state:
                return None
            try:
                os.utime(path)
            except FileNotFoundError:
                return None
            return self.state(name)

    def remove(self, name: str, state: State) -> bool:
        path = self._root / name
        with translated_errors(self.location), self._incoming() as aside:
            try:
                os.rename(path, aside)  # so that what is looked at is what is removed
            except FileNotFoundError:
                return False
            if _is_same(_state(os.stat(aside)), state):
                return True
            try:
                os.link(aside, path)
            except FileExistsError:
                pass  # written once more
            except OSError:  # a file system without hard links
                os.rename(aside, path)
            return False

    def files_in(self, folder: str) -> Iterator[tuple[str, State]]:
        with translated_errors(self.location):
            for at, _, files in os.walk(self._root / folder):
                for file in files:
                    path = Path(at, file)
                    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                        yield str(path.relative_to(self._root)), _state(os.stat(path))

    def folders(self) -> list[str]:
        with translated_errors(self.location), contextlib.suppress(FileNotFoundError):
            return sorted(entry.name for entry in os.scandir(self._root) if entry.is_dir())
        return []

    def move(self, name: str, to: str) -> None:
        path, target = self._root / name, self._root / to
        with translated_errors(self.location), contextlib.suppress(FileNotFoundError):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, target)
            except FileExistsError:
                pass
            except FileNotFoundError:
                raise
            except OSError:  # a file system without hard links
                if not target.exists():
                    os.rename(path, target)
                    return
            path.unlink()

    def fetch(self, name: str, path: Path) -> None:
        stored = self._root / name
        with translated_errors(self.location):
            try:
                os.link(stored, path)
            except FileNotFoundError:
                raise
            except OSError:  # another disk, or one without hard links
                shutil.copyfile(stored, path)

    @contextlib.contextmanager
    def _incoming(self) -> Iterator[Path]:
        """A path for a file that is gone after the context, unless it was moved."""
        temporary = self._root / INCOMING / uuid.uuid4().hex
        temporary.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)


class RemoteFiles:
    """The files of another file system of fsspec, such as a store of objects, see `Files`."""

    def __init__(self, files: fsspec.AbstractFileSystem, root: str) -> None:
        self._files = files
        self._root = root
        self.location = masked(str(files.unstrip_protocol(root)))

    def _limit(self, size: int = 0) -> dict[str, float]:
        """What limits the time of a call that moves so many bytes: clients of stores wait minutes for one that hangs.

        File systems without asyncio know no such limit.
        """
        return {"timeout": CALL_SECONDS + size / LEAST_BYTES_A_SECOND} if self._files.async_impl else {}

    def state(self, name: str) -> State | None:
        with self._errors():
            try:
                return state_of(self._files.info(self._path(name), **self._limit()))
            except FileNotFoundError:
                return None

    def read(self, name: str, start: int | None = None, stop: int | None = None) -> tuple[bytes, State | None]:
        with self._errors():
            limit = {} if stop is None else self._limit(stop - (start or 0))
            return bytes(self._files.cat_file(self._path(name), start=start, end=stop, **limit)), None

    def digest(self, name: str) -> tuple[str, State]:
        state = self.state(name)
        if state is None:
            raise FileNotFoundError(name)
        with self._errors(), self._files.open(self._path(name), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), state

    def write(self, name: str, content: bytes | Path) -> State | None:
        path = self._path(name)
        with self._errors(writes=True):
            try:
                self._write(path, content)
            except FileNotFoundError:  # a file system with folders
                self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
                self._write(path, content)
        return None

    def touch(self, name: str, state: State | None) -> State | None:
        return None  # to write it again is one call, as to look at it would be

    def remove(self, name: str, state: State) -> bool:
        if self.state(name) != state:
            return False
        with self._errors(), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._path(name))
        return True

    def files_in(self, folder: str) -> Iterator[tuple[str, State]]:
        files, folders = self._entries(folder)
        yield from files
        with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
            for inner, _ in pool.map(self._entries, folders):
                yield from inner

    def folders(self) -> list[str]:
        return sorted(name.rpartition("/")[2] for name in self._entries("")[1])

    def move(self, name: str, to: str) -> None:
        with self._errors(), contextlib.suppress(FileNotFoundError):
            if self.state(to) is None:
                self._files.cp_file(self._path(name), self._path(to))
            self._files.rm_file(self._path(name))

    def _entries(self, folder: str) -> tuple[list[tuple[str, State]], list[str]]:
        """The files in a folder, and the names of the folders in it."""
        path = self._path(folder).rstrip("/")
        with self._errors(), contextlib.suppress(FileNotFoundError):
            self._files.invalidate_cache(path)
            found = self._files.ls(path, detail=True)
            named = [(f"{folder}/{info['name'].rstrip('/').rpartition('/')[2]}".lstrip("/"), info) for info in found]
            files = [(name, state_of(info)) for name, info in named if info["type"] == "file"]
            return files, [name for name, info in named if info["type"] == "directory"]
        return [], []

    def fetch(self, name: str, path: Path) -> None:
        with self._errors():
            self._files.get_file(self._path(name), str(path))

    def _write(self, path: str, content: bytes | Path) -> None:
        if isinstance(content, bytes):
            self._files.pipe_file(path, content, **self._limit(len(content)))
        else:
            self._files.put_file(str(content), path, **self._limit(content.stat().st_size))

    def _errors(self, *, writes: bool = False) -> contextlib.AbstractContextManager[None]:
        return translated_errors(self.location, writes=writes, of=(Exception,))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


def state_of(info: dict[str, Any]) -> State:
    """The state of a file from what fsspec says of it."""
    times = [_seconds(info[name]) for name in TIMES if info.get(name) is not None]
    version = tuple(str(info[name]) for name in VERSIONS if info.get(name) is not None)
    return State(int(info["size"]), times[0] if times else math.inf, (*version, *times))


def _seconds(when: datetime | float | str) -> float:
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    return when.timestamp() if isinstance(when, datetime) else float(when)


def _state(stat: os.stat_result) -> State:
    return State(stat.st_size, stat.st_mtime, (stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns))


def _is_same(one: State, other: State) -> bool:
    """Whether two states of local files are of one file that was not written in between, though perhaps moved."""
    return one.size == other.size and one.version[:-1] == other.version[:-1]  # the last changes with the name


def _read_fully(file: BufferedIOBase | Any, count: int) -> bytes:
    """This many bytes, or up to the end of the file: a call of the system reads at most 2 GiB."""
    parts: list[bytes] = []
    while count > 0 and (part := file.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
