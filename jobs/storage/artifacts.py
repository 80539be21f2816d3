"""Artifacts: files under the sha256 of their bytes; small ones are also cached in Redis."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import uuid
from collections.abc import Callable
from pathlib import Path

import fsspec
import redis
from fsspec.implementations.local import LocalFileSystem
from pydantic import BaseModel, ConfigDict

from jobs.settings import Settings
from jobs.store.scripts import PREFIX
from jobs.urls import masked

__all__ = ["ID_FILE", "Artifact", "ArtifactStore", "ArtifactsError"]

ID_FILE = "store-id"
"""The file with the id of a store (`jobs.startup`)."""


class ArtifactsError(ValueError):
    """No store can be made of TAILPRUNE_ARTIFACTS_URL."""


class Artifact(BaseModel):
    """A stored file, by the sha256 of its bytes; `size` is in bytes."""

    model_config = ConfigDict(frozen=True)

    digest: str
    media_type: str
    size: int


class ArtifactStore:
    """Stores bytes under their digest, and reads them back. A stored file never changes.

    `location` is where it is, for people: a folder and its machine, or a URL without its password. `is_local` is
    whether it is a folder.

    Raises ArtifactsError where the package of the URL's file system is not installed, or cannot use the URL.
    """

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        try:
            self._files, self._root = fsspec.url_to_fs(settings.artifacts)
        except Exception as error:  # some connect, or open a file, and have errors of their own
            reason = masked(str(error).partition("\n")[0]) or type(error).__name__
            raise ArtifactsError(f"TAILPRUNE_ARTIFACTS_URL={masked(settings.artifacts)}: {reason}") from error
        self.location = _location(self._files, self._root)
        self.is_local = isinstance(self._files, LocalFileSystem)
        self._redis = client
        self._hot_bytes = settings.hot_artifact_bytes
        self._hot_seconds = settings.cache_ttl_seconds

    def put(self, content: bytes, media_type: str) -> Artifact:
        """Store bytes. Readers see the file complete or not at all."""
        artifact = Artifact(digest=hashlib.sha256(content).hexdigest(), media_type=media_type, size=len(content))
        self._write(artifact, lambda temporary: self._files.pipe_file(temporary, content))
        self._heat(artifact, content)
        return artifact

    def put_file(self, path: Path, media_type: str) -> Artifact:
        """Store a file of any size; it is not read into memory."""
        artifact = Artifact(digest=_digest(path), media_type=media_type, size=path.stat().st_size)
        self._write(artifact, lambda temporary: self._files.put_file(str(path), temporary))
        return artifact

    def place(self, artifact: Artifact, path: Path) -> None:
        """Make an artifact available at a local path: as a hard link if the store is on the same disk, or as a copy.

        Readers of the path see the file complete or not at all. Raises FileNotFoundError if it is no longer stored.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{uuid.uuid4().hex}.incoming")
        try:
            self._bring(artifact, temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def exists(self, artifact: Artifact) -> bool:
        """Whether the file is stored, with its full size."""
        return self.find(artifact.digest) == artifact.size

    def find(self, digest: str) -> int | None:
        """The size in bytes of the file of this digest (64 hexadecimal digits), or None."""
        try:
            size: int | None = self._files.size(self._path(digest))
        except FileNotFoundError:
            return None
        return size

    def read(self, artifact: Artifact) -> bytes:
        """All bytes of an artifact. Raises FileNotFoundError if it is no longer stored."""
        if artifact.size > self._hot_bytes:
            return self.read_range(artifact, 0, artifact.size)
        with contextlib.suppress(redis.RedisError):
            hot = self._redis.get(self._hot_key(artifact))
            if hot is not None:
                return bytes(hot)  # type: ignore[arg-type]
        content = self.read_range(artifact, 0, artifact.size)
        self._heat(artifact, content)
        return content

    def read_range(self, artifact: Artifact, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop`, exclusive. Raises FileNotFoundError if the artifact is no longer stored."""
        return bytes(self._files.cat_file(self._path(artifact.digest), start=start, end=stop))

    def read_id(self) -> str | None:
        """The id that this store was given, or None."""
        try:
            # It is empty while another process writes it.
            return bytes(self._files.cat_file(f"{self._root}/{ID_FILE}")).decode().strip() or None
        except FileNotFoundError:
            return None

    def write_id(self, store_id: str) -> None:
        """Give the store an id, by which it is the same one wherever it is mounted."""
        self._files.makedirs(self._root, exist_ok=True)
        self._files.pipe_file(f"{self._root}/{ID_FILE}", store_id.encode())

    def _write(self, artifact: Artifact, write: Callable[[str], None]) -> None:
        """Store an artifact unless it is stored. write: writes the bytes to a temporary path, which is then moved."""
        if self.exists(artifact):
            return
        path = self._path(artifact.digest)
        temporary = f"{self._root}/incoming/{uuid.uuid4().hex}"
        for target in (temporary, path):
            self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
        write(temporary)
        self._files.mv(temporary, path)

    def _bring(self, artifact: Artifact, path: Path) -> None:
        """Make a new file: a hard link to the stored one, or a copy whose digest is checked."""
        stored = self._path(artifact.digest)
        if isinstance(self._files, LocalFileSystem):
            with contextlib.suppress(OSError):  # another disk, or one without hard links
                os.link(stored, path)
                return
        self._files.get_file(stored, str(path))
        if _digest(path) != artifact.digest:
            raise OSError(f"artifact {artifact.digest} was not copied completely; try again")

    def _heat(self, artifact: Artifact, content: bytes) -> None:
        if artifact.size <= self._hot_bytes:
            with contextlib.suppress(redis.RedisError):
                self._redis.set(self._hot_key(artifact), content, ex=self._hot_seconds)

    def _path(self, digest: str) -> str:
        return f"{self._root}/{digest[:2]}/{digest}"

    def _hot_key(self, artifact: Artifact) -> str:
        return f"{PREFIX}hot:{artifact.digest}"


def _location(files: fsspec.AbstractFileSystem, root: str) -> str:
    if isinstance(files, LocalFileSystem):
        return f"{root} on {socket.gethostname()}"
    return masked(str(files.unstrip_protocol(root)))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
