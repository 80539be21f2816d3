"""The files of a job."""

from __future__ import annotations

import builtins
import hashlib
import io
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import httpx

from tailprune_client.contents import picture_reader, tensor_reader
from tailprune_client.core import Session, path_of, receive
from tailprune_client.drivers import Async, AsyncDriver, Driver, Sync, operation
from tailprune_client.effects import Call, Do, Next, Operation
from tailprune_client.errors import Damaged

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

__all__ = ["Artifact", "Artifacts", "AsyncArtifact"]

DIGEST = re.compile('(?:W/)?"([0-9a-f]{64})"')
"""The entity tag of an artifact, which is the sha256 of its bytes."""
MOST_BREAKS = 5
"""How often a download may break without getting any further in between."""


class _ArtifactMethods:
    """The methods of an artifact."""

    def __init__(self, session: Session, job_id: str, name: str) -> None:
        self._session, self.job_id, self.name = session, job_id, name

    @property
    def url(self) -> str:
        """Its address."""
        return f"{self._session.url.rstrip('/')}{self._path}"

    @property
    def _path(self) -> str:
        return path_of("jobs", self.job_id, "artifacts", self.name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r} of job {self.job_id})"

    @operation
    def save(self, path: str | os.PathLike[str] = ".") -> Operation[Path]:
        """Write it into a file, which is replaced only once all of it has arrived and has the digest that it should.

        path: of the file, or of a folder that exists, in which it gets its own name; the present folder by default.

        Returns the path of the file. A download that breaks is resumed where it was. Raises Damaged.
        """
        target = Path(path)
        if target.is_dir():
            target = target / Path(self.name).name
        return (yield from self._saved(target))

    def _saved(self, target: Path) -> Operation[Path]:
        def begin() -> IO[builtins.bytes]:
            target.parent.mkdir(parents=True, exist_ok=True)
            return incoming.open("w+b")

        incoming = target.with_name(f"{uuid.uuid4().hex}.incoming")
        try:
            file: IO[builtins.bytes] = yield Do(begin)
            try:
                yield from self._received(file)
            finally:
                file.close()
            yield Do(lambda: os.replace(incoming, target))
        finally:
            with suppress(OSError):
                incoming.unlink(missing_ok=True)
        return target

    @operation
    def bytes(self) -> Operation[builtins.bytes]:
        """Its content. Raises Damaged if the bytes have not the digest that they should."""
        return (yield from self._content())

    def _content(self) -> Operation[builtins.bytes]:
        file = io.BytesIO()
        yield from self._received(file)
        return file.getvalue()

    @operation
    def _small(self, most: int) -> Operation[builtins.bytes | None]:
        """Its content as it is shown: None if it is larger than so many bytes, or the service does not answer now."""
        call = Call("GET", self._path, headers={"Accept-Encoding": "identity"})
        opened = yield from receive(self._session, call, patience=0)
        content = bytearray()
        size = int(opened.response.headers.get("Content-Length", 0))
        while max(size, len(content)) <= most and (piece := (yield Next(opened))) is not None:
            content += piece
        return builtins.bytes(content) if max(size, len(content)) <= most else None

    @operation
    def text(self) -> Operation[str]:
        """Its content as text: of tables, documents and cards."""
        return (yield from self._content()).decode()

    @operation
    def image(self) -> Operation[Image]:
        """The picture, as an image of Pillow, which has to be installed."""
        read = picture_reader()
        return read((yield from self._content()))

    @operation
    def tensors(self) -> Operation[dict[str, np.ndarray[Any, Any]]]:
        """The tensors of a safetensors file, by name, as arrays. NumPy and safetensors have to be installed."""
        load = tensor_reader()
        return load((yield from self._content()))

    def _received(self, file: IO[builtins.bytes]) -> Operation[None]:
        """Receive its bytes into a file that is empty, in pieces; what breaks is resumed where it was."""
        digest, size, tag = hashlib.sha256(), 0, ""
        farthest = stuck = 0

        def keep(piece: builtins.bytes) -> None:
            digest.update(piece)
            file.write(piece)

        def begin_again() -> None:
            file.seek(0)
            file.truncate()

        while True:
            headers = {"Accept-Encoding": "identity"}
            if size and tag:
                headers |= {"Range": f"bytes={size}-", "If-Range": tag}
            opened = yield from receive(self._session, Call("GET", self._path, headers=headers))
            if size and opened.response.status_code != httpx.codes.PARTIAL_CONTENT:  # no ranges, or another file
                yield Do(begin_again)
                digest, size = hashlib.sha256(), 0
            tag = opened.response.headers.get("ETag", "")
            try:
                while (piece := (yield Next(opened))) is not None:
                    yield Do(partial(keep, piece))
                    size += len(piece)
                    if size > farthest:
                        farthest, stuck = size, 0
                break
            except httpx.TransportError as error:
                stuck += 1
                if stuck > MOST_BREAKS or not self._session.patience:
                    raise self._session.away(error) from error
        named = DIGEST.fullmatch(tag)
        if named is not None and named[1] != digest.hexdigest():
            raise Damaged(
                f"{self.name} of job {self.job_id} arrived damaged: its sha256 is {digest.hexdigest()}, not "
                f"{named[1]}; try again"
            )


class Artifact(_ArtifactMethods, Sync):
    """A file of a job."""

    def __init__(self, driver: Driver, session: Session, job_id: str, name: str) -> None:
        super().__init__(session, job_id, name)
        self._driver = driver


class AsyncArtifact(_ArtifactMethods, Async):
    """A file of a job; its methods are awaited."""

    def __init__(self, driver: AsyncDriver, session: Session, job_id: str, name: str) -> None:
        super().__init__(session, job_id, name)
        self._driver = driver


A = TypeVar("A", Artifact, AsyncArtifact)


class Artifacts(Mapping[str, A], Generic[A]):
    """The files of a job, by name."""

    most_named: ClassVar[int] = 20

    def __init__(self, files: dict[str, A], job_id: str) -> None:
        self._files: dict[str, A] = files
        self._job_id = job_id

    def __getitem__(self, name: str) -> A:
        try:
            return self._files[name]
        except KeyError:
            names = list(self._files)
            has = ", ".join(names[: self.most_named]) + (", ..." if len(names) > self.most_named else "")
            raise KeyError(f"job {self._job_id} has no file {name!r}; it has {has or 'none'}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __repr__(self) -> str:
        return f"<{len(self)} files: {', '.join(list(self)[:6])}{', ...' if len(self) > 6 else ''}>"
