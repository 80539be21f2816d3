"""A figure as the service drew it."""

from __future__ import annotations

import os
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailprune_client.contents import picture_reader

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Picture"]


class Picture(bytes):
    """The bytes of a picture, which a notebook shows. media_type: `image/png` or `image/svg+xml`."""

    media_type: str

    def __new__(cls, content: bytes, media_type: str) -> Picture:
        """These bytes, of this type."""
        picture = super().__new__(cls, content)
        picture.media_type = media_type
        return picture

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it into a file, and return the file's path."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(self)
        return Path(path)

    def image(self) -> Image:
        """The picture as an image of Pillow, which has to be installed. Only a PNG can be read."""
        return picture_reader()(self)

    def __repr__(self) -> str:
        return f"Picture({self.media_type}, {len(self)} bytes)"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        text = self.decode() if self.media_type == "image/svg+xml" else b64encode(self).decode()
        return {self.media_type: text, "text/plain": repr(self)}
