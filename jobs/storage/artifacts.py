"""Artifacts: files under the sha256 of their bytes; small ones are also cached in Redis.

The name says what the bytes have to be, so they are checked: whenever a file is read whole, and before a part of it is
read if it was not checked since it was last written. A file with other bytes is deleted, and counts as missing.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import uuid
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, Concatenate, ParamSpec, TypeVar, cast, get_args

import fsspec
import redis
import structlog
from cachetools import LRUCache
from fsspec.implementations.local import LocalFileSystem

from jobs.settings import Settings
from jobs.storage.artifact import Artifact, Folder
from jobs.storage.files import (
    CALLS_AT_ONCE,
    ArtifactsFull,
    ArtifactsUnavailable,
    Files,
    LocalFiles,
    RemoteFiles,
    State,
)
from jobs.store.scripts import PREFIX
from jobs.urls import masked

__all__ = [
    "CHUNK_BYTES",
    "FOLDERS",
    "ID_FILE",
    "Artifact",
    "ArtifactStore",
    "ArtifactsError",
    "ArtifactsFull",
    "ArtifactsUnavailable",
    "Folder",
]

ID_FILE = "store-id"
"""The file with the id of a store (`jobs.startup`)."""
CHUNK_BYTES = 4 * 2**20
ATTEMPTS = 3
"""How often a file is read that others write meanwhile."""
MOST_CHECKED = 2**16
"""How many checked files a process remembers."""

FOLDERS: tuple[Folder, ...] = get_args(Folder)

Answer = TypeVar("Answer")
Arguments = ParamSpec("Arguments")

log = structlog.get_logger(__name__)

_checked: LRUCache[tuple[str, str], State] = LRUCache(MOST_CHECKED)
"""The files that were found to be right, by location and name, as they were then: one for all stores of a process."""
_lock = Lock()


class ArtifactsError(ValueError):
    """No store can be made of TAILPRUNE_ARTIFACTS_URL."""


def _retried(
    method: Callable[Concatenate[ArtifactStore, Arguments], Answer],
) -> Callable[Concatenate[ArtifactStore, Arguments], Answer]:
    """Have the store's `retry` make the calls of a method."""

    @functools.wraps(method)
    def call(store: ArtifactStore, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        return cast(Answer, store.retry(functools.partial(method, store, *args, **kwargs)))

    return call


def _once(call: Callable[[], Any]) -> Any:
    return call()


class ArtifactStore:
    """Stores bytes under their digest, and reads them back. A stored file never changes.

    Methods raise ArtifactsUnavailable while the store does not answer, and ArtifactsFull while it has no space.

    `location` is where it is, for people: a folder and its machine, or a URL without its password. `is_local` is
    whether it is a folder. `retry` makes the calls of the methods: a worker sets it, to repeat those that fail because
    the store is unavailable; by default each is made once.

    Raises ArtifactsError where the package of the URL's file system is not installed, or cannot use the URL.
    """

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        try:
            files, root = fsspec.url_to_fs(settings.artifacts, use_listings_cache=False)
        except Exception as error:  # some connect, or open a file, and have errors of their own
            reason = masked(str(error).partition("\n")[0]) or type(error).__name__
            raise ArtifactsError(f"TAILPRUNE_ARTIFACTS_URL={masked(settings.artifacts)}: {reason}") from error
        self.is_local = isinstance(files, LocalFileSystem)
        self.files: Files = LocalFiles(root) if self.is_local else RemoteFiles(files, root)
        self.location = self.files.location
        self.retry: Callable[[Callable[[], Any]], Any] = _once
        self._redis = client
        self._hot_bytes = settings.hot_artifact_bytes
        self._hot_seconds = settings.cache_ttl_seconds

    @_retried
    def put(self, content: bytes, media_type: str, folder: Folder = "results") -> Artifact:
        """Store bytes. Readers see the file complete or not at all."""
        digest = hashlib.sha256(content).hexdigest()
        artifact = Artifact(digest=digest, media_type=media_type, size=len(content), folder=folder)
        self._write(artifact, content)
        self._heat(artifact, content)
        return artifact

    @_retried
    def put_file(self, path: Path, media_type: str, folder: Folder = "results") -> Artifact:
        """Store a file of any size; it is not read into memory."""
        size = path.stat().st_size
        artifact = Artifact(digest=_digest(path), media_type=media_type, size=size, folder=folder)
        self._write(artifact, path)
        return artifact

    @_retried
    def place(self, artifact: Artifact, path: Path) -> None:
        """Make an artifact available at a local path: as a hard link if the store is on the same disk, or as a copy.

        What is at the path stays if it is right, and is replaced or deleted if it is not. Readers of the path see the
        file complete or not at all. Raises FileNotFoundError if it is no longer stored.
        """
        if self.is_placed(artifact, path):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{uuid.uuid4().hex}.{path.name}")
        copy = LocalFiles(str(path.parent))
        try:
            for name in _names(artifact.digest, artifact.folder):
                with contextlib.suppress(FileNotFoundError):
                    self.files.fetch(name, temporary)
                    if copy.digest(temporary.name)[0] == artifact.digest:
                        os.replace(temporary, path)
                        return
                    temporary.unlink()
                    self._is_right(name, artifact.digest, anew=True)
        finally:
            temporary.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise FileNotFoundError(f"artifact {artifact.digest} is not stored")

    def is_placed(self, artifact: Artifact, path: Path) -> bool:
        """Whether the file at a local path has the bytes of an artifact."""
        try:
            return _damage(LocalFiles(str(path.parent)), path.name, artifact.digest) is None
        except FileNotFoundError:
            return False

    def has_all(self, artifacts: Collection[Artifact]) -> bool:
        """Whether all these files are stored, see `present`."""
        return len(self.present(artifacts)) == len(set(artifacts))

    @_retried
    def present(self, artifacts: Collection[Artifact]) -> set[Artifact]:
        """Those of these artifacts whose files are stored, with their full size.

        In a folder they are also right: a file that was not checked since it was last written is checked now.
        """
        distinct = list(dict.fromkeys(artifacts))
        if self.is_local or len(distinct) < 2:
            found = list(map(self._is_stored, distinct))
        else:
            with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
                found = list(pool.map(self._is_stored, distinct))
        return {artifact for artifact, is_there in zip(distinct, found, strict=True) if is_there}

    @_retried
    def find(self, digest: str, folder: Folder) -> Artifact | None:
        """The artifact of this digest (64 hexadecimal digits) in a folder, as bytes of no known type, or None."""
        for name in _names(digest, folder):
            if (state := self.files.state(name)) is not None:
                size = state.size
                return Artifact(digest=digest, media_type="application/octet-stream", size=size, folder=folder)
        return None

    @_retried
    def read(self, artifact: Artifact) -> bytes:
        """All bytes of an artifact, checked. Raises FileNotFoundError if it is not stored, or was damaged."""
        content = self._hot(artifact)
        if content is None:
            content = self._read(artifact)
            self._heat(artifact, content)
        if len(content) != artifact.size:
            raise FileNotFoundError(f"artifact {artifact.digest} has {len(content)} bytes, not {artifact.size}")
        return content

    @_retried
    def read_range(self, artifact: Artifact, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop`, exclusive, of a file that is checked as a whole.

        Raises FileNotFoundError if it is not stored, or was damaged.
        """
        for name in _names(artifact.digest, artifact.folder):
            for _ in range(ATTEMPTS):
                with contextlib.suppress(FileNotFoundError):
                    if not self._is_right(name, artifact.digest):
                        break
                    content, state = self.files.read(name, start, stop)
                    if state is None or state == self._known(name):  # not written in between
                        return content
        raise FileNotFoundError(f"artifact {artifact.digest} is not stored")

    def stream(self, artifact: Artifact, start: int, stop: int) -> Iterator[bytes]:
        """The same in chunks. The file is checked now, and the first chunk read; later ones may raise, too."""
        first = self.read_range(artifact, start, min(start + CHUNK_BYTES, stop))

        def chunks() -> Iterator[bytes]:
            yield first
            for at in range(start + CHUNK_BYTES, stop, CHUNK_BYTES):
                yield self.read_range(artifact, at, min(at + CHUNK_BYTES, stop))

        return chunks()

    def discard(self, artifact: Artifact, state: State | None = None) -> bool:
        """Delete a file that is no longer needed, and its copy in Redis. Returns whether it was deleted.

        state: not if it was written since it had this state; None, the default, for as it is now.
        """
        deleted = False
        for name in _names(artifact.digest, artifact.folder):
            now = state or self.files.state(name)
            if now is not None and self.files.remove(name, now):
                _remember(self.files, name, None)
                deleted = True
        if deleted:
            with contextlib.suppress(redis.RedisError):
                self._redis.delete(self._hot_key(artifact))
        return deleted

    def read_id(self) -> str | None:
        """The id that this store was given, or None."""
        try:
            # It is empty while another process writes it.
            return self.files.read(ID_FILE)[0].decode().strip() or None
        except FileNotFoundError:
            return None

    def write_id(self, store_id: str) -> None:
        """Give the store an id, by which it is the same one wherever it is mounted."""
        self.files.write(ID_FILE, store_id.encode())

    def _write(self, artifact: Artifact, content: bytes | Path) -> None:
        """Write a file unless it is known to be right; either way it is as young as one just written."""
        name = _name(artifact.digest, artifact.folder)
        state = self.files.touch(name, self._known(name)) or self.files.write(name, content)
        _remember(self.files, name, state)

    def _read(self, artifact: Artifact) -> bytes:
        """The bytes of a file, whatever their number. Raises FileNotFoundError."""
        for name in _names(artifact.digest, artifact.folder):
            for _ in range(ATTEMPTS):
                try:
                    content, state = self.files.read(name)
                except FileNotFoundError:
                    break
                if hashlib.sha256(content).hexdigest() == artifact.digest:
                    _remember(self.files, name, state)
                    return content
                if not self._is_right(name, artifact.digest, anew=True):
                    break
        raise FileNotFoundError(f"artifact {artifact.digest} is not stored")

    def _is_stored(self, artifact: Artifact) -> bool:
        for name in _names(artifact.digest, artifact.folder):
            state = self.files.state(name)
            if state is not None and state.size == artifact.size:
                return not self.is_local or self._is_right(name, artifact.digest)
        return False

    def _is_right(self, name: str, digest: str, *, anew: bool = False) -> bool:
        """Whether a file has the bytes of its digest. One that has not is deleted, unless it is written meanwhile.

        anew: whether to read the file even if it was not written since it was last checked.
        """
        if anew:
            _remember(self.files, name, None)
        for _ in range(ATTEMPTS):
            try:
                damaged = _damage(self.files, name, digest)
                if damaged is None:
                    return True
                if self.files.remove(name, damaged):
                    log.warning("damaged file deleted", file=name, location=self.location)
                    return False
            except FileNotFoundError:
                return False
        return False

    def _known(self, name: str) -> State | None:
        """The state in which a file was last found to be right."""
        with _lock:
            return _checked.get((self.location, name))

    def _hot(self, artifact: Artifact) -> bytes | None:
        """The copy in Redis; one that is damaged is deleted."""
        if artifact.size > self._hot_bytes:
            return None
        with contextlib.suppress(redis.RedisError):
            hot: bytes | None = self._redis.get(self._hot_key(artifact))  # type: ignore[assignment]
            if hot is None or hashlib.sha256(hot).hexdigest() == artifact.digest:
                return hot
            log.warning("damaged copy in Redis deleted", artifact=artifact.digest)
            self._redis.delete(self._hot_key(artifact))
        return None

    def _heat(self, artifact: Artifact, content: bytes) -> None:
        if artifact.size <= self._hot_bytes:
            with contextlib.suppress(redis.RedisError):
                self._redis.set(self._hot_key(artifact), content, ex=self._hot_seconds)

    def _hot_key(self, artifact: Artifact) -> str:
        return f"{PREFIX}hot:{artifact.digest}"


def _name(digest: str, folder: Folder) -> str:
    return f"{folder}/{digest[:2]}/{digest}"


def _names(digest: str, folder: Folder) -> tuple[str, str, str]:
    """Where to look for a file: in its folder, and where earlier versions put it; then again, if it was just moved."""
    name = _name(digest, folder)
    return name, f"{digest[:2]}/{digest}", name


def _damage(files: Files, name: str, digest: str) -> State | None:
    """The state of a file that has not the bytes of this digest; None for one that has. Raises FileNotFoundError.

    A file that was found to be right is read again only if its state has changed.
    """
    with _lock:
        known = _checked.get((files.location, name))
    state = files.state(name)
    if state is None:
        raise FileNotFoundError(name)
    if state == known:
        return None
    found, state = files.digest(name)
    if found != digest:
        return state
    _remember(files, name, state)
    return None


def _remember(files: Files, name: str, state: State | None) -> None:
    """Remember that a file is right in this state; None to forget it."""
    with _lock:
        if state is None:
            _checked.pop((files.location, name), None)
        else:
            _checked[files.location, name] = state


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
