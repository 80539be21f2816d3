"""Samples as files: PNG one by one, and as one labelled grid with a row a variant; sound as WAV.

An image is an array of bytes with shape (H, W, 3); a row of images has shape (N, H, W, 3).
"""

from __future__ import annotations

import io
import wave
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

__all__ = ["enlarge", "grid", "png", "wav"]

Images = NDArray[np.uint8]

TILE_PIXELS = 256
"""The longest side of a tile; larger images are shrunk to it, but their short side no further than the next number."""
SHORT_SIDE_PIXELS = 48
LEAST_TILE_PIXELS = 64
"""Images whose longest side is less, such as latents, are enlarged by a whole factor."""
MOST_WIDTH_PIXELS = 8192
"""The greatest width of a grid's tiles; further columns are left out."""
GAP = 4
MARGIN = 10
TEXT_PIXELS = 14
INK = (32, 33, 36)
PAPER = (255, 255, 255)
GREATEST_AMPLITUDE = 2**15 - 1
BYTES_A_SAMPLE = 2


def png(image: Images) -> bytes:
    """Encode an image as PNG. The bytes are a function of the pixels alone."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def enlarge(images: Images, factor: int) -> Images:
    """Repeat each pixel `factor` times in both directions. images: with shape (..., H, W, 3)."""
    return images.repeat(factor, axis=-3).repeat(factor, axis=-2)


def grid(rows: Sequence[Images], row_names: Sequence[str], column_names: Sequence[str]) -> Images:
    """Draw a table of images, with names of the rows on the left and names of the columns above.

    rows: the images of each row, all with the same shape (N, H, W, 3).
    row_names: one a row.
    column_names: N, each cut to the width of its column.
    Images are scaled to tiles of a legible size; columns beyond `MOST_WIDTH_PIXELS` are left out.
    """
    font = ImageFont.load_default(TEXT_PIXELS)
    height, width = _tile_size(*rows[0].shape[1:3])
    column_names = column_names[: max(1, MOST_WIDTH_PIXELS // (width + GAP))]
    left = MARGIN + round(max(font.getlength(name) for name in row_names)) + MARGIN
    top = MARGIN + TEXT_PIXELS + MARGIN
    size = (left + len(column_names) * (width + GAP) + MARGIN, top + len(rows) * (height + GAP) + MARGIN)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, name in enumerate(column_names):
        x = left + column * (width + GAP)
        draw.text((x + width / 2, top - MARGIN / 2), _cut(name, width, font), INK, font, anchor="md")
    for row, (images, name) in enumerate(zip(rows, row_names, strict=True)):
        y = top + row * (height + GAP)
        draw.text((left - MARGIN, y + height / 2), name, INK, font, anchor="rm")
        for column, image in enumerate(images[: len(column_names)]):
            tile = Image.fromarray(image)
            if tile.size != (width, height):
                smaller = tile.width > width
                tile = tile.resize((width, height), Image.Resampling.LANCZOS if smaller else Image.Resampling.NEAREST)
            sheet.paste(tile, (left + column * (width + GAP), y))
    return np.asarray(sheet)


def _tile_size(height: int, width: int) -> tuple[int, int]:
    longest = max(height, width)
    if longest < LEAST_TILE_PIXELS:
        factor = -(-LEAST_TILE_PIXELS // longest)
        return height * factor, width * factor
    shrink = min(1.0, max(TILE_PIXELS / longest, SHORT_SIDE_PIXELS / min(height, width)))
    return max(1, round(height * shrink)), max(1, round(width * shrink))


def _cut(text: str, width: float, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, shortened with an ellipsis where it is wider."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def wav(sound: Tensor, sample_rate: int) -> bytes:
    """Encode a sound as WAV, 16 bits, one channel. sound: with shape (T,), in [-1, 1]; sample_rate: in Hz."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(BYTES_A_SAMPLE)
        file.setframerate(sample_rate)
        file.writeframes((sound.clamp(-1, 1).numpy() * GREATEST_AMPLITUDE).round().astype(np.dtype("<i2")).tobytes())
    return buffer.getvalue()
