"""The images of a reference: from a folder, an npz file in the format of ADM's evaluator, or the data set shapes.

Each yields batches, so that memory is bounded by one batch, and has a digest that identifies it in results and caches.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tailprune.checkpoints.signature import LFS_POINTER
from tailprune.extras import require
from tailprune.quality.pixels import UnfitImage, rgb_pixels
from tailprune.shapes import dataset as shapes
from tailprune.spec import InputError
from tailprune.spec.layouts import IMAGES, image_files, in_words

__all__ = [
    "ImageFolder",
    "ImageSource",
    "NpzArray",
    "NpzImages",
    "ShapesImages",
    "SourceError",
    "damage_as",
    "digest_of_files",
    "digest_of_text",
    "open_array",
    "open_images",
    "open_npz",
]

FOLDER = f"a folder of {', '.join(IMAGES)} files"
FORMATS = ("BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names of the formats that are read, whatever the ending of a file's name; others start programs, as EPS."""
ARRAY = "arr_0"
HEADER_BYTES = 2**14
"""More than the longest header of an array that NumPy reads."""
DRAWN_AT_ONCE = 256


class SourceError(InputError):
    """A source without usable images; the message names its path and what would fit."""


class ImageSource(Protocol):
    """A set of images, in an order that is always the same."""

    @property
    def count(self) -> int:
        """The number of images."""
        ...

    @property
    def digest(self) -> str:
        """The SHA-256, in hex, that identifies the images."""
        ...

    def batches(self, batch_size: int = 64) -> Iterator[Tensor]:
        """Images, uint8 with shape (B, 3, H, W), B <= batch_size."""
        ...


class ImageFolder:
    """The image files under a folder, sorted by path, as 8-bit RGB, all of one size.

    Files are read with the endings of `tailprune.spec.layouts.IMAGES`, without hidden ones. `passed_over` has the
    number of others by their endings, without text and metadata files; where there are any, a UserWarning says so.

    Raises SourceError for a folder without images, and for one that cannot be read.
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise SourceError(f"{self.folder}: is not a folder; give {FOLDER}")
        with damage_as(f"{self.folder}: cannot be read", "permit it"):
            self.paths, self.passed_over = image_files(self.folder)
        if not self.paths:
            others = f" among its files ({in_words(self.passed_over)})" if self.passed_over else ""
            raise SourceError(f"{self.folder}: has no images{others}; give {FOLDER}")
        if self.passed_over:
            warnings.warn(
                f"{self.folder}: {self.count} images are read; passed over: {in_words(self.passed_over)} (read are "
                f"{', '.join(IMAGES)})",
                stacklevel=2,
            )

    @property
    def count(self) -> int:
        return len(self.paths)

    @property
    def digest(self) -> str:
        return digest_of_files(self.paths)

    def batches(self, batch_size: int = 64) -> Iterator[Tensor]:
        """As in `ImageSource`.

        Raises SourceError for a file that is not an image or not of the first one's size, and where `rgb_pixels` of
        `tailprune.quality.pixels` raises UnfitImage.
        """
        size = None
        for start in range(0, self.count, batch_size):
            images = []
            for path in self.paths[start : start + batch_size]:
                image = _read_image(path)
                size = size or image.shape
                if image.shape != size:
                    raise SourceError(
                        f"{path}: is {_size(image.shape)} pixels, but {self.paths[0].name} is {_size(size)}; scale or "
                        "crop all images to one size"
                    )
                images.append(image)
            yield torch.stack(images)


class NpzImages:
    """`arr_0` of an npz file, uint8 with shape (N, H, W, 3), read in batches."""

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        with self._array() as (_, shape):
            self.count = shape[0]
            self._shape = shape[1:]

    @property
    def digest(self) -> str:
        return digest_of_files([self.path])

    def batches(self, batch_size: int = 64) -> Iterator[Tensor]:
        """As in `ImageSource`. Raises SourceError for a damaged file."""
        with self._array() as (file, _):
            for start in range(0, self.count, batch_size):
                rows = min(batch_size, self.count - start)
                content = file.read(rows * math.prod(self._shape))
                images = np.frombuffer(content, np.uint8).reshape(rows, *self._shape)
                yield torch.from_numpy(images.copy()).permute(0, 3, 1, 2)

    @contextmanager
    def _array(self) -> Iterator[tuple[IO[bytes], tuple[int, ...]]]:
        """The open file of the array, at its values, and its shape."""
        fit = f"give an npz file with {ARRAY}, uint8 with shape (N, H, W, 3)"
        with open_array(self.path, ARRAY, fit) as array:
            shape = array.shape
            if array.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or min(shape) < 1:
                raise SourceError(f"{self.path}: {ARRAY} is {array.dtype} with shape {shape}; {fit}")
            if array.fortran:  # its images are not contiguous
                raise SourceError(f"{self.path}: {ARRAY} is in Fortran order; save numpy.ascontiguousarray of it")
            if not array.complete:
                raise SourceError(f"{self.path}: {ARRAY} is incomplete; download it again")
            yield array.file, shape


class ShapesImages:
    """Images of the data set shapes, of some labels in turn.

    labels: whole numbers from 0 to 99; all hundred by default
    seed: the seed of the images, 0 by default
    count: the number of images, 1 or more, 10,000 by default
    size: the side of an image in pixels, 16 by default

    The attribute `labels`, with shape (count,), has the label of each image.

    Raises SourceError for other labels, no labels, or no images.
    """

    def __init__(self, labels: Sequence[int] | None = None, seed: int = 0, count: int = 10_000, size: int = 16) -> None:
        chosen = torch.tensor(range(shapes.NUM_CLASSES) if labels is None else list(labels), dtype=torch.int64)
        if count < 1 or not len(chosen):
            raise SourceError(f"give at least one label and one image, not {len(chosen)} labels and {count} images")
        if not 0 <= int(chosen.min()) <= int(chosen.max()) < shapes.NUM_CLASSES:
            raise SourceError(f"labels of shapes must be from 0 to {shapes.NUM_CLASSES - 1}")
        self.labels = chosen[torch.arange(count) % len(chosen)]
        self.seed, self.count, self.size = seed, count, size
        made_of = {"data": "shapes", "labels": chosen.tolist(), "seed": seed, "count": count, "size": size}
        self.digest = digest_of_text(json.dumps(made_of, sort_keys=True))

    def batches(self, batch_size: int = 64) -> Iterator[Tensor]:
        """As in `ImageSource`; the images do not depend on the batch size, since they are drawn 256 at a time."""
        generator = torch.Generator().manual_seed(self.seed)
        for labels in self.labels.split(DRAWN_AT_ONCE):
            images = shapes.draw(labels, generator, self.size).add(1).mul(127.5).round().to(torch.uint8)
            yield from images.split(batch_size)


@dataclass(frozen=True)
class NpzArray:
    """An array of an npz file: the open file, at its values, and what its header says."""

    file: IO[bytes]
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    stored: int
    """The number of bytes that the file has for the values."""

    @property
    def complete(self) -> bool:
        """Whether the file has as many values as the header says; not of objects, which are pickled."""
        return self.stored >= math.prod(self.shape) * self.dtype.itemsize


def open_npz(path: Path, fit: str) -> zipfile.ZipFile:
    """Open an npz file. Raises SourceError for another file; its message ends in `fit`, what would fit."""
    with damage_as(f"{path}: is neither a folder nor an npz file", fit):
        try:
            return zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise ValueError(_pointer(path) or str(error)) from error


@contextmanager
def open_array(path: Path, name: str, fit: str) -> Iterator[NpzArray]:
    """Open an array of an npz file, of which only the header is read.

    path, name: the file, and the array in it
    fit: what would fit, the end of a message

    Raises SourceError for a file without it, and for a damaged one, also while it is read.
    """
    member = f"{name}.npy"
    with open_npz(path, fit) as archive:
        if member not in archive.namelist():
            raise SourceError(f"{path}: has no {name}; {fit}")
        with (
            damage_as(f"{path}: {name} is not an array that can be read", "download it again"),
            archive.open(member) as file,
        ):
            head = io.BytesIO(file.read(HEADER_BYTES))
            version = np.lib.format.read_magic(head)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(head)
            file.seek(head.tell())
            yield NpzArray(file, shape, fortran, dtype, archive.getinfo(member).file_size - head.tell())


def open_images(path: str | PathLike[str]) -> ImageSource:
    """The images of a folder, or of an npz file. Raises SourceError if there are none."""
    return ImageFolder(path) if Path(path).is_dir() else NpzImages(path)


def digest_of_files(paths: Iterable[Path]) -> str:
    """The SHA-256, in hex, of one file, or of the digests of several in order; names do not count."""
    digests = []
    for path in paths:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else digest_of_text("\n".join(digests))


def digest_of_text(text: str) -> str:
    """The SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def damage_as(fault: str, way_out: str) -> Iterator[None]:
    """Raises as SourceError what zipfile, its decompressors, numpy and Pillow raise for damaged files, of many types.

    fault, way_out: the beginning of the message, with the path, and its end

    Too little memory is no damage: MemoryError stays what it is.
    """
    try:
        yield
    except (SourceError, MemoryError):
        raise
    except Exception as error:
        said = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise SourceError(f"{fault} ({(said.splitlines() or [type(error).__name__])[0]}); {way_out}") from error


def _read_image(path: Path) -> Tensor:
    """An image file as a tensor, uint8, with shape (3, H, W)."""
    require("quality", "PIL")
    from PIL import Image

    with damage_as(f"{path}: cannot be read as an image", "replace or remove it"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's of many pixels and of damaged metadata, one for each image
        try:
            with Image.open(path, formats=FORMATS) as image:
                return torch.from_numpy(rgb_pixels(image)).permute(2, 0, 1)
        except UnfitImage as error:
            raise SourceError(f"{path}: {error}") from error
        except Image.UnidentifiedImageError as error:
            raise ValueError(_unidentified(path)) from error


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[2]} x {shape[1]}"


def _unidentified(path: Path) -> str:
    """What a file is that Pillow reads no image from."""
    if not path.stat().st_size:
        return "it is empty"
    return _pointer(path) or "Pillow reads no such format, or no such pixels in it"


def _pointer(path: Path) -> str | None:
    """The words for a file that stands for another one."""
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) != LFS_POINTER:
            return None
    return "it is a pointer of Git LFS, which stands for the file: run `git lfs pull` in its repository"
