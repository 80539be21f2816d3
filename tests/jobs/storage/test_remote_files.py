"""Files of a store of objects that does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fsspec.asyn import AsyncFileSystem

from jobs.storage.files import ArtifactsUnavailable, RemoteFiles

HANGS_SECONDS = 5.0
Call = Callable[[RemoteFiles], object]


class Hanging(AsyncFileSystem):  # type: ignore[misc]
    """A store whose every call hangs for a while."""

    protocol = "hanging"
    cachable = False

    async def _info(self, path: str, **_: Any) -> dict[str, Any]:
        await asyncio.sleep(HANGS_SECONDS)
        return {"name": path, "size": 1, "type": "file"}

    async def _cat_file(self, path: str, **_: Any) -> bytes:
        await asyncio.sleep(HANGS_SECONDS)
        return b"x"

    async def _pipe_file(self, path: str, value: bytes, **_: Any) -> None:
        await asyncio.sleep(HANGS_SECONDS)

    async def _put_file(self, local: str, path: str, **_: Any) -> None:
        await asyncio.sleep(HANGS_SECONDS)


@pytest.mark.parametrize(
    "call",
    [
        lambda files: files.state("name"),
        lambda files: files.digest("name"),
        lambda files: files.read("name", 0, 1),
        lambda files: files.write("name", b"x"),
        lambda files: files.write("name", Path(__file__)),
    ],
    ids=["state", "digest", "read", "write", "write a file"],
)
def test_a_store_that_hangs_is_unavailable_after_a_while(monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    monkeypatch.setattr("jobs.storage.files.CALL_SECONDS", 0.1)
    with pytest.raises(ArtifactsUnavailable, match="no answer in time"):
        call(RemoteFiles(Hanging(), "root"))
