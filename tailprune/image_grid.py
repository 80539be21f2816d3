"""Images in one picture: a table with a row for each variant, and `show`, which makes one of samples in a notebook."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from reprlib import repr as shortened
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailprune.arguments import as_tensor, as_whole
from tailprune.decoders import load_decoder
from tailprune.decoders.base import Decoded, Decoder
from tailprune.extras import require
from tailprune.spec import InputError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

__all__ = ["Images", "grid", "show"]

Images = NDArray[np.uint8]
"""An image, with shape (H, W, 3), or several, with shape (N, H, W, 3)."""

TILE_PIXELS = 256
"""The longest side of a tile; larger images are shrunk to it, but their short side no further than the next number."""
SHORT_SIDE_PIXELS = 48
LEAST_TILE_PIXELS = 64
"""Images whose longest side is less, such as latents, are enlarged by a whole factor."""
MOST_WIDTH_PIXELS = 8192
"""The greatest width of a grid's tiles; further columns are left out."""
MOST_PIXELS = 2**27
"""The most pixels of a picture of `show`, which take 0.4 GB and as much again while it is made."""
GAP = 4
MARGIN = 10
TEXT_PIXELS = 14
INK = (32, 33, 36)
PAPER = (255, 255, 255)
COLUMNS = 10
COLOURS = 3


def show(
    images: Tensor | Decoded | Images | Sequence[Any] | Mapping[str, Any],
    *,
    decoder: Decoder | None = None,
    captions: Iterable[object] | None = None,
    columns: int | None = None,
    scale: int | None = None,
) -> Image:
    """One picture of a batch of samples, or of several batches, a row each; a notebook shows it, `save` writes it.

    images: latents, with shape (B, C, H, W), or decoded images, with shape (B, H, W, 3), uint8; a single one without B;
        what a decoder returns; a list of such batches of B, as `sample` returns for several prunes; or a mapping, whose
        keys name the rows
    decoder: what decodes latents (`tailprune.decoders.load_decoder`). By default, latents of 3 channels are pixels, as
        of the shipped models, and of others the latents themselves are shown, as the decoder `latents` does
    captions: B texts or numbers, such as the labels, above the images; none by default
    columns: how many images stand side by side before the next line, 10 by default
    scale: the whole factor by which images are enlarged, each pixel a square; by default, as large as is legible

    Raises InputError for images of another kind, rows that do not have the same shape, other numbers of captions, or a
    picture of more than 134 million pixels.
    """
    if decoder is not None and not callable(decoder):
        raise InputError(f"decoder must be one of load_decoder, such as load_decoder('latents'), not {decoder!r}")
    names, rows = zip(*found, strict=True) if (found := _rows(images, decoder)) else ((), ())
    shapes = {row.shape for row in rows}
    if len(shapes) != 1 or not all(next(iter(shapes))):
        shown = " and ".join(str(row.shape) for row in rows) or "none"
        raise InputError(f"every row needs the same number of images, one or more, of the same size, not {shown}")
    count, height, width, _ = rows[0].shape
    texts = _captions(captions, count)
    scale = None if scale is None else as_whole("scale", scale, least=1)
    tile_height, tile_width = _tile_size(height, width, scale)
    fitting = max(1, MOST_WIDTH_PIXELS // (tile_width + GAP))
    columns = min(count, fitting, COLUMNS if columns is None else as_whole("columns", columns, least=1))
    size = columns * (tile_width + GAP), -(-count // columns) * len(rows) * (tile_height + GAP)
    if math.prod(size) > MOST_PIXELS:
        raise InputError(
            f"the picture would have {size[0]:,} x {size[1]:,} pixels, more than the limit of {MOST_PIXELS:,}: show "
            f"fewer images{'' if scale is None else ', or give a lower scale'}"
        )
    lines = [
        grid([row[first : first + columns] for row in rows], names, texts[first : first + columns], scale)
        for first in range(0, count, columns)
    ]
    short = lines[0].shape[1] - lines[-1].shape[1]
    lines[-1] = np.pad(lines[-1], ((0, 0), (0, short), (0, 0)), constant_values=PAPER[0])
    return _drawing().Image.fromarray(np.concatenate(lines))


def grid(
    rows: Sequence[Images], row_names: Sequence[str], column_names: Sequence[str], scale: int | None = None
) -> Images:
    """Draw a table of images, with names of the rows on the left and names of the columns above.

    rows: the images of each row, all with the same shape (N, H, W, 3)
    row_names: one for each row; no room is left for names that are all empty
    column_names: N, each cut to the width of its column; as with `row_names`
    scale: the whole factor by which images are enlarged; by default they are scaled to tiles of a legible size

    Columns beyond `MOST_WIDTH_PIXELS` are left out.
    """
    pil = _drawing()
    font = pil.ImageFont.load_default(TEXT_PIXELS)
    height, width = _tile_size(rows[0].shape[1], rows[0].shape[2], scale)
    column_names = column_names[: max(1, MOST_WIDTH_PIXELS // (width + GAP))]
    left = MARGIN + (round(max(font.getlength(name) for name in row_names)) + MARGIN if any(row_names) else 0)
    top = MARGIN + (TEXT_PIXELS + MARGIN if any(column_names) else 0)
    size = (left + len(column_names) * (width + GAP) + MARGIN, top + len(rows) * (height + GAP) + MARGIN)
    sheet = pil.Image.new("RGB", size, PAPER)
    draw = pil.ImageDraw.Draw(sheet)
    for column, name in enumerate(column_names):
        x = left + column * (width + GAP)
        draw.text((x + width / 2, top - MARGIN / 2), _cut(name, width, font), INK, font, anchor="md")
    for row, (images, name) in enumerate(zip(rows, row_names, strict=True)):
        y = top + row * (height + GAP)
        draw.text((left - MARGIN, y + height / 2), name, INK, font, anchor="rm")
        for column, image in enumerate(images[: len(column_names)]):
            tile = pil.Image.fromarray(image)
            if tile.size != (width, height):
                smaller = tile.width > width
                method = pil.Image.Resampling.LANCZOS if smaller else pil.Image.Resampling.NEAREST
                tile = tile.resize((width, height), method)
            sheet.paste(tile, (left + column * (width + GAP), y))
    return np.asarray(sheet)


def _drawing() -> Any:
    """The package PIL, with the modules that draw."""
    require("science", "PIL")
    import PIL.Image
    import PIL.ImageDraw
    import PIL.ImageFont

    return PIL


def _rows(images: Any, decoder: Decoder | None) -> list[tuple[str, Images]]:
    """The images of each row, with its name; rows of a list have none."""
    if isinstance(images, Mapping):
        return [(str(name), _batch(batch, decoder)) for name, batch in images.items()]
    if isinstance(images, (list, tuple)) and not all(_is_single(image) for image in images):
        return [("", _batch(batch, decoder)) for batch in images]
    return [("", _batch(images, decoder))]


def _batch(images: Any, decoder: Decoder | None) -> Images:
    """The images of one row, with shape (N, H, W, 3)."""
    if isinstance(images, Decoded):
        return images.images.numpy()
    if isinstance(images, (list, tuple)) and images and all(_is_single(image) for image in images):
        if len({tuple(image.shape) for image in images}) > 1:
            raise InputError("images of one row must have the same shape")
        images = torch.stack([as_tensor("an image", image) for image in images])
    if not isinstance(images, (Tensor, np.ndarray)):
        raise InputError(
            "images must be latents (B, C, H, W), images (B, H, W, 3) of uint8, a list of such, or a mapping of names "
            f"to such, not {shortened(images)}"
        )
    batch = as_tensor("images", images).detach()
    batch = batch.unsqueeze(0) if batch.ndim == 3 else batch
    if batch.ndim == 4 and batch.dtype == torch.uint8 and batch.shape[-1] == COLOURS:
        return batch.cpu().numpy()
    if batch.ndim != 4 or not batch.is_floating_point():
        raise InputError(
            "images must be latents (B, C, H, W) of floating-point numbers, or images (B, H, W, 3) of uint8, not "
            f"{tuple(batch.shape)} of {batch.dtype}"
        )
    if not torch.isfinite(batch).all():
        raise InputError("latents hold NaN or infinity: sampling diverged, or they are not latents")
    decode = decoder or load_decoder("pixels" if batch.shape[1] == COLOURS else "latents")
    return decode(batch).images.numpy()


def _is_single(image: Any) -> bool:
    """Whether this is one image, or the latents of one."""
    return isinstance(image, (Tensor, np.ndarray)) and image.ndim == 3


def _captions(captions: Iterable[object] | None, count: int) -> list[str]:
    if captions is None:
        return [""] * count
    if isinstance(captions, str) or not isinstance(captions, Iterable):
        raise InputError(f"captions must be a list with one for each image, not {captions!r}")
    texts = [str(each) for each in (captions.tolist() if isinstance(captions, (Tensor, np.ndarray)) else captions)]
    if len(texts) != count:
        raise InputError(f"give one caption for each image: there are {count} images and {len(texts)} captions")
    return texts


def _tile_size(height: int, width: int, scale: int | None) -> tuple[int, int]:
    """Height and width of the tile of an image."""
    longest = max(height, width)
    if scale is None and longest < LEAST_TILE_PIXELS:
        scale = -(-LEAST_TILE_PIXELS // longest)
    if scale is not None:
        return height * scale, width * scale
    shrink = min(1.0, max(TILE_PIXELS / longest, SHORT_SIDE_PIXELS / min(height, width)))
    return max(1, round(height * shrink)), max(1, round(width * shrink))


def _cut(text: str, width: float, font: FreeTypeFont | ImageFont) -> str:
    """The text, shortened with an ellipsis where it is wider."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
