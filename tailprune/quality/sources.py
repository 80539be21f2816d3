"""Where images of a reference come from: a folder, an npz file as the evaluator of ADM takes it, the data set shapes.

All give batches, so that memory is bounded by one, and a digest of what they are made of, by which results and caches
know them.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tailprune.shapes import dataset as shapes
from tailprune.spec import InputError

__all__ = [
    "ImageFolder",
    "ImageSource",
    "NpzImages",
    "ShapesImages",
    "SourceError",
    "digest_of_files",
    "digest_of_text",
    "open_images",
]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
ARRAY = "arr_0"
DRAWN_AT_ONCE = 256


class SourceError(InputError):
    """A source that holds no images, or not those it should; the message names its path and what would fit."""


class ImageSource(Protocol):
    """Images, the same in the same order each time."""

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    @property
    def digest(self) -> str:
        """A SHA-256, in hex, of what they are made of."""
        ...

    def batches(self, batch_size: int = 64) -> Iterator[Tensor]:
        """Images, uint8 with shape (B, 3, H, W), B <= batch_size."""
        ...


class ImageFolder:
    """All .png, .jpg, .jpeg and .webp files under a folder, sorted by path, as RGB, all of one size."""

    def __init__(self, folder: str | PathLike[str]) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise SourceError(f"{self.folder}: is no folder; it takes a folder of {', '.join(SUFFIXES)} files")
        self.paths = sorted(path for path in self.folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        if not self.paths:
            raise SourceError(f"{self.folder}: has no images; it takes a folder of {', '.join(SUFFIXES)} files")

    @property
    def count(self) -> int:
        return len(self.paths)

    @property
    def digest(self) -> str:
        return digest_of_files(self.paths)

    def batches(self, batch_size: int = 64) -> Iterator[Tensor]:
        """As of `ImageSource`. Raises SourceError for a file that is no image, or of another size than the first."""
        size = None
        for start in range(0, self.count, batch_size):
            images = []
            for path in self.paths[start : start + batch_size]:
                image = _read_image(path)
                size = size or image.shape
                if image.shape != size:
                    raise SourceError(
                        f"{path}: is {_size(image.shape)} pixels, and {self.paths[0].name} is {_size(size)}; scale or "
                        "crop all to one size first"
                    )
                images.append(image)
            yield torch.stack(images)


class NpzImages:
    """`arr_0` of an npz file, uint8 with shape (N, H, W, 3), read piece by piece."""

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        with self._array() as (_, shape):
            self.count = shape[0]
            self._shape = shape[1:]

    @property
    def digest(self) -> str:
        return digest_of_files([self.path])

    def batches(self, batch_size: int = 64) -> Iterator[Tensor]:
        with self._array() as (file, _):
            for start in range(0, self.count, batch_size):
                rows = min(batch_size, self.count - start)
                content = file.read(rows * int(np.prod(self._shape)))
                try:
                    images = np.frombuffer(content, np.uint8).reshape(rows, *self._shape)
                except ValueError as error:
                    raise SourceError(f"{self.path}: {ARRAY} ends early; download it again") from error
                yield torch.from_numpy(images.copy()).permute(0, 3, 1, 2)

    @contextmanager
    def _array(self) -> Iterator[tuple[IO[bytes], tuple[int, ...]]]:
        """The values of the array, and its shape."""
        fit = f"it takes an npz file with {ARRAY}, uint8 with shape (N, H, W, 3)"
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{ARRAY}.npy") as file:
                shape, dtype = _read_header(file)
                if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or not shape[0]:
                    raise SourceError(f"{self.path}: {ARRAY} is {dtype} with shape {shape}; {fit}")
                yield file, shape
        except (OSError, zipfile.BadZipFile) as error:
            raise SourceError(f"{self.path}: is no npz file ({error}); {fit}") from error
        except KeyError as error:
            raise SourceError(f"{self.path}: has no {ARRAY}; {fit}") from error


class ShapesImages:
    """Images of the data set shapes, of some labels in turn.

    labels: whole numbers from 0 to 99; all hundred by default
    seed: what the images are drawn from
    count: how many images, from 1
    size: pixels of a side

    The attribute `labels`, with shape (count,), has the label of each image. Raises SourceError for other labels, and
    for none.
    """

    def __init__(self, labels: Sequence[int] | None = None, seed: int = 0, count: int = 10_000, size: int = 16) -> None:
        chosen = torch.tensor(range(shapes.NUM_CLASSES) if labels is None else list(labels), dtype=torch.int64)
        if count < 1 or not len(chosen):
            raise SourceError(f"shapes are drawn of at least one label, once; got {len(chosen)} labels, {count} images")
        if not 0 <= int(chosen.min()) <= int(chosen.max()) < shapes.NUM_CLASSES:
            raise SourceError(f"labels of shapes run from 0 to {shapes.NUM_CLASSES - 1}")
        self.labels = chosen[torch.arange(count) % len(chosen)]
        self.seed, self.count, self.size = seed, count, size
        made_of = {"data": "shapes", "labels": chosen.tolist(), "seed": seed, "count": count, "size": size}
        self.digest = digest_of_text(json.dumps(made_of, sort_keys=True))

    def batches(self, batch_size: int = 64) -> Iterator[Tensor]:
        """As of `ImageSource`; the same images whatever the batch size, because they are drawn in parts of one size."""
        generator = torch.Generator().manual_seed(self.seed)
        for labels in self.labels.split(DRAWN_AT_ONCE):
            images = shapes.draw(labels, generator, self.size).add(1).mul(127.5).round().to(torch.uint8)
            yield from images.split(batch_size)


def open_images(path: str | PathLike[str]) -> ImageSource:
    """The images of a folder, or of an npz file. Raises SourceError."""
    return ImageFolder(path) if Path(path).is_dir() else NpzImages(path)


def digest_of_files(paths: Iterable[Path]) -> str:
    """SHA-256, in hex: of one file its own, of several that of their digests in order; names have no part in it."""
    digests = []
    for path in paths:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else digest_of_text("\n".join(digests))


def digest_of_text(text: str) -> str:
    """SHA-256, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def _read_image(path: Path) -> Tensor:
    """An image file -> uint8, with shape (3, H, W)."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            values = np.array(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise SourceError(f"{path}: cannot be read as an image ({error}); replace it or take it out") from error
    return torch.from_numpy(values).permute(2, 0, 1)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[2]} x {shape[1]}"


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], Any]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if fortran:  # its images do not lie one after the other
        raise OSError("it is stored in Fortran's order")
    return shape, dtype
