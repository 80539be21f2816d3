"""Samples as files: images as PNG, sound as WAV."""

from __future__ import annotations

import io
import wave

import numpy as np
from PIL import Image
from torch import Tensor

from tailprune.image_grid import Images

__all__ = ["enlarge", "png", "wav"]

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


def wav(sound: Tensor, sample_rate: int) -> bytes:
    """Encode a sound as WAV, 16 bits, one channel. sound: with shape (T,), in [-1, 1]; sample_rate: in Hz."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(BYTES_A_SAMPLE)
        file.setframerate(sample_rate)
        file.writeframes((sound.clamp(-1, 1).numpy() * GREATEST_AMPLITUDE).round().astype(np.dtype("<i2")).tobytes())
    return buffer.getvalue()
