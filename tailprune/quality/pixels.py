"""The pixels of an image file as 8-bit RGB: reduced by the range that its type has, or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["UnfitImage", "rgb_pixels"]

BITS_PER_SAMPLE, PHOTOMETRIC, PLANAR_CONFIGURATION, SAMPLE_FORMAT = 258, 262, 284, 339
"""Tags of TIFF 6.0."""
WHITE_IS_ZERO, SEPARATE_PLANES, SIGNED = 0, 2, 2
"""Values of the last three tags."""
HIGHEST_OF_PARTS = {"L;2": 3, "L;4": 15}
"""The highest value that a file of 2 or 4 bits has, by the raw mode that Pillow unpacks it with."""


class UnfitImage(ValueError):
    """An image that has no pixels in 8-bit RGB; the message says why, and how to save it."""


def rgb_pixels(image: Image) -> NDArray[np.uint8]:
    """The pixels of an image, with shape (H, W, 3); of several frames or pages those of the first.

    image: opened by Pillow, not loaded yet

    Of channels with 16 bits, also grey, the higher 8 are taken, as Pillow itself does with colours; floats from 0 to 1
    are rounded to 255 steps. Orientation and colour profile are not applied, as in pytorch-fid.

    Raises UnfitImage for an image with transparent pixels, and for grey values of unknown range; and any error of
    Pillow's decoders.
    """
    raw = _raw_mode(image)
    image.load()
    if image.format == "TIFF":
        _check_samples(image)
    if image.mode == "F" or image.mode.startswith("I"):
        return np.repeat(_grey(image, raw)[..., None], 3, axis=2)
    if image.has_transparency_data:
        _match_transparency(image, raw)
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise _transparent()
    return np.array(image.convert("RGB"))


def _raw_mode(image: Image) -> str:
    """How the file has its pixels, as Pillow's decoders name it, such as `I;16B`; empty where none is named."""
    tiles: Any = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    raw = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return raw if isinstance(raw, str) else ""


def _check_samples(image: Any) -> None:
    """Refuses the TIFF images that Pillow reads as others."""
    bits = max(image.tag_v2.get(BITS_PER_SAMPLE, (1,)))
    planes = image.tag_v2.get(PLANAR_CONFIGURATION)
    if planes == SEPARATE_PLANES and bits > 8 and len(image.getbands()) > 1:
        raise UnfitImage(f"has channels of {bits} bits in separate planes; save it with 8 bits")
    if SIGNED in image.tag_v2.get(SAMPLE_FORMAT, ()) and bits < 32:  # Pillow itself writes 32 bits as signed
        raise UnfitImage(f"has signed values of {bits} bits, whose range is unknown; save it with unsigned ones")


def _grey(image: Any, raw: str) -> NDArray[np.uint8]:
    """The values of a grey image of more than 8 bits, in 8."""
    values = np.asarray(image)
    if image.mode == "I" and image.format == "TIFF" and SIGNED not in image.tag_v2.get(SAMPLE_FORMAT, ()):
        values = values.view(np.uint32)
    low, high = values.min(), values.max()
    grey: NDArray[Any]
    if image.mode == "F":
        if not (low >= 0 and high <= 1):  # nor NaN
            raise UnfitImage(
                f"has floats from {low:.8g} to {high:.8g}, and 0 must be black and 1 white; scale it, or save it with "
                "8 bits"
            )
        grey = np.rint(values * 255)
    else:
        known = image.mode != "I" or image.format == "PPM" or raw.startswith("I;16")
        if not known and not (low >= 0 and 255 < high < 2**16):
            raise UnfitImage(
                f"has whole numbers of 32 bits from {low} to {high}, of which white is unknown; save it with 8 or 16 "
                "bits"
            )
        grey = values >> (4 if raw == "I;12" else 8)
        if np.any(values == image.info.get("transparency")):
            raise _transparent()
    grey = grey.astype(np.uint8)
    white_is_zero = image.format == "TIFF" and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO
    return 255 - grey if white_is_zero else grey


def _match_transparency(image: Image, raw: str) -> None:
    """Gives the transparent colour of a PNG the 8 bits that Pillow gives its pixels, and not the colour."""
    colour = image.info.get("transparency")
    if raw in HIGHEST_OF_PARTS and isinstance(colour, int):
        image.info["transparency"] = colour * 255 // HIGHEST_OF_PARTS[raw]
    elif raw == "RGB;16B" and isinstance(colour, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in colour)


def _transparent() -> UnfitImage:
    return UnfitImage("has transparent pixels; put it on the background that samples have, and save it as RGB")
