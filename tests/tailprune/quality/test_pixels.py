"""Images of every depth, with and without transparency, as 8-bit RGB; what has no such pixels is refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

from tailprune.quality import ImageFolder, SourceError

VALUES = np.array([[0x0000, 0x12FF, 0x8000, 0xFFFF]], np.uint16)
BYTES = [0x00, 0x12, 0x80, 0xFF]
"""The higher bytes of VALUES."""
TRANSPARENT = "has transparent pixels; put it on the background that samples have"


def read(path: Path) -> np.ndarray:
    """The pixels of the images in a file's folder, the last one's, with shape (H, W, 3)."""
    return list(ImageFolder(path.parent).batches())[-1][-1].permute(1, 2, 0).numpy()


def grey(path: Path) -> list[int]:
    """The pixels of the first row of a grey image."""
    pixels = read(path)
    assert (pixels == pixels[..., :1]).all()
    return pixels[0, :, 0].tolist()


def saved(path: Path, values: Any, mode: str | None = None, **options: Any) -> Path:
    image = values if isinstance(values, Image.Image) else Image.fromarray(values)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def png(path: Path, bits: int, colour: int, row: bytes, transparent: bytes | None = None) -> Path:
    """A PNG of four pixels in one row; its kind of colour as in the standard, and a tRNS chunk."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 1, bits, colour, 0, 0, 0))
        + (b"" if transparent is None else chunk(b"tRNS", transparent))
        + chunk(b"IDAT", zlib.compress(b"\0" + row))
        + chunk(b"IEND", b"")
    )
    return path


# Depth


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate"])
def test_16_bits_of_grey_in_a_tiff_become_their_higher_8(tmp_path: Path, dtype: str, compression: str | None) -> None:
    path = saved(tmp_path / "a.tiff", VALUES.astype(dtype), compression=compression)
    assert grey(path) == BYTES


@pytest.mark.parametrize("name", ["a.png", "a.pgm", "a.tif"])
def test_16_bits_of_grey_become_their_higher_8_in_every_format(tmp_path: Path, name: str) -> None:
    assert grey(saved(tmp_path / name, VALUES)) == BYTES


def test_16_bits_of_grey_in_jpeg_2000_become_their_higher_8(tmp_path: Path) -> None:
    assert grey(saved(tmp_path / "a.png", VALUES, format="JPEG2000")) == BYTES


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_grey_and_colours_of_16_bits_become_the_same(tmp_path: Path, colour: int, channels: int) -> None:
    values = np.repeat(VALUES[0, :, None], channels, axis=1)
    if channels in (2, 4):
        values[:, -1] = 0xFFFF  # opaque
    assert grey(png(tmp_path / "a.png", 16, colour, values.astype(">u2").tobytes())) == BYTES


def test_the_same_grey_images_of_8_and_16_bits_and_floats_have_the_same_pixels(tmp_path: Path) -> None:
    eight = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for name, values in {
        "8.png": eight,
        "16.png": eight.astype(np.uint16) * 257,
        "shifted.png": eight.astype(np.uint16) << 8,
        "32.tif": eight.astype(np.int32) * 257,
        "float.tif": eight / np.float32(255),
    }.items():
        assert np.array_equal(read(saved(tmp_path / name, values))[..., 0], eight), name
        (tmp_path / name).unlink()


def test_a_tiff_whose_white_is_zero_is_not_inverted(tmp_path: Path) -> None:
    for name, values in {"16.tif": 0xFFFF - VALUES, "float.tif": np.float32([[1, 0.93, 0.5, 0]])}.items():
        tifffile.imwrite(tmp_path / name, values, photometric="miniswhite")
        assert grey(tmp_path / name) == pytest.approx(BYTES, abs=1), name


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (np.array([[0, 70_000]], np.int32), "whole numbers of 32 bits from 0 to 70000, of which white is unknown"),
        (np.array([[-5, 7_000]], np.int32), "from -5 to 7000"),
        (np.array([[0, 2**32 - 1]], np.uint32), "from 0 to 4294967295"),
        (np.array([[0, 255]], np.int32), "from 0 to 255"),  # white, or nearly black
        (np.array([[0, 255]], np.float32), "floats from 0 to 255, and 0 must be black and 1 white"),
        (np.array([[0, 1.0000002]], np.float32), "floats from 0 to 1.0000002"),
        (np.array([[-1, 1]], np.float32), "floats from -1 to 1"),
        (np.array([[0, np.nan]], np.float32), "floats from nan to nan"),
    ],
)
def test_grey_of_unknown_range_is_refused_with_the_file_and_the_range(
    tmp_path: Path, values: np.ndarray, why: str
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, photometric="minisblack")
    with pytest.raises(SourceError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: has ")
    assert why in str(error.value)


def test_tiffs_that_pillow_reads_as_other_images_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for values, options, why in (
        (np.stack([VALUES] * 3), {"photometric": "rgb", "planarconfig": "separate"}, "16 bits in separate planes"),
        (np.array([[-3, 9]], np.int8), {}, "signed values of 8 bits"),
        (VALUES.astype(np.int16), {}, "signed values of 16 bits"),
    ):
        tifffile.imwrite(path, values, **options)
        with pytest.raises(SourceError, match=f"a.tif: has .*{why}"):
            read(path)


# Transparency


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_alpha_is_dropped_where_all_is_opaque_and_else_refused(tmp_path: Path, mode: str, suffix: str) -> None:
    image, path = Image.new(mode, (4, 4), (90, 90, 90, 255)[-len(mode) :]), tmp_path / f"a{suffix}"
    assert read(saved(path, image, lossless=True)).tolist() == [[[90] * 3] * 4] * 4
    image.putpixel((1, 1), (90, 90, 90, 254)[-len(mode) :])
    saved(path, image, lossless=True)
    with pytest.raises(SourceError, match=f"{path}: {TRANSPARENT}"):
        read(path)


@pytest.mark.parametrize(
    ("bits", "colour", "row", "used", "unused", "pixels"),
    [
        (1, 0, b"\xf0", b"\0\1", b"\0\0", [255] * 4),
        (2, 0, b"\xc5", b"\0\1", b"\0\2", [255, 0, 85, 85]),
        (4, 0, b"\xf0\x11", b"\0\1", b"\0\2", [255, 0, 17, 17]),
        (8, 0, bytes([9, 8, 7, 6]), b"\0\7", b"\0\5", [9, 8, 7, 6]),
        (16, 0, VALUES.astype(">u2").tobytes(), b"\x12\xff", b"\x12\x00", BYTES),
        (8, 2, bytes([9] * 6 + [7] * 6), b"\0\7" * 3, b"\0\5" * 3, [9, 9, 7, 7]),
        (16, 2, np.repeat(VALUES, 3).astype(">u2").tobytes(), b"\x12\xff" * 3, b"\x13\x00" * 3, BYTES),
    ],
)
def test_a_transparent_colour_is_refused_only_where_pixels_have_it(
    tmp_path: Path, bits: int, colour: int, row: bytes, used: bytes, unused: bytes, pixels: list[int]
) -> None:
    path = tmp_path / "a.png"
    assert grey(png(path, bits, colour, row, unused)) == pixels
    png(path, bits, colour, row, used)
    with pytest.raises(SourceError, match=TRANSPARENT):
        read(path)


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_a_transparent_entry_of_a_palette_is_refused_only_where_pixels_have_it(tmp_path: Path, suffix: str) -> None:
    image, path = Image.new("P", (4, 4)), tmp_path / f"a{suffix}"
    image.putpalette([1, 2, 3, 4, 5, 6])
    assert read(saved(path, image, transparency=1))[0, 0].tolist() == [1, 2, 3]
    saved(path, image, transparency=0)
    with pytest.raises(SourceError, match=TRANSPARENT):
        read(path)


def test_a_palette_with_an_alpha_for_each_entry_is_refused_only_where_pixels_are_transparent(tmp_path: Path) -> None:
    image, path = Image.new("P", (4, 4)), tmp_path / "a.png"
    image.putpalette([1, 2, 3, 4, 5, 6])
    assert read(saved(path, image, transparency=b"\xff\x80"))[0, 0].tolist() == [1, 2, 3]
    saved(path, image, transparency=b"\x80\xff")
    with pytest.raises(SourceError, match=TRANSPARENT):
        read(path)


# Other kinds


def test_other_colours_become_rgb(tmp_path: Path) -> None:
    image = Image.new("RGB", (16, 16), (200, 100, 50))
    profiles = (ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"))
    lab = ImageCms.profileToProfile(image, *profiles, outputMode="LAB")
    assert lab is not None
    saved(tmp_path / "cmyk.jpg", image, "CMYK", quality=100)
    saved(tmp_path / "cmyk.tif", image, "CMYK")
    saved(tmp_path / "lab.tif", lab)
    saved(tmp_path / "palette.gif", image.quantize(4))
    saved(tmp_path / "plain.bmp", image)
    saved(tmp_path / "plain.ppm", image)
    saved(tmp_path / "ycbcr.tif", image, "YCbCr")
    (batch,) = ImageFolder(tmp_path).batches()
    assert len(batch) == 7
    difference = batch.short() - torch.tensor([200, 100, 50]).view(3, 1, 1)
    assert difference.abs().amax() <= 3  # of JPEG, and of LAB in 8 bits


@pytest.mark.parametrize(("name", "kind"), [("a.gif", "GIF"), ("a.png", "PNG"), ("a.webp", "WEBP"), ("a.jpg", "MPO")])
def test_of_several_frames_the_first_is_read(tmp_path: Path, name: str, kind: str) -> None:
    first, second = Image.new("RGB", (8, 8), (250, 250, 250)), Image.new("RGB", (8, 8))
    saved(tmp_path / name, first, format=kind, save_all=True, append_images=[second])
    assert grey(tmp_path / name) == pytest.approx([250] * 8, abs=2)


def test_the_orientation_of_a_camera_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6  # a quarter turn
    assert read(saved(tmp_path / "a.jpg", Image.new("RGB", (4, 2)), exif=exif)).shape == (2, 4, 3)
