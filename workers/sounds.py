"""Samples as sound files."""

from __future__ import annotations

import io
import wave

import numpy as np
from torch import Tensor

__all__ = ["wav"]

GREATEST = 2**15 - 1
BYTES_A_SAMPLE = 2


def wav(sound: Tensor, sample_rate: int) -> bytes:
    """A sound as WAV, 16 bits, one channel. sound, with shape (T,), in [-1, 1]."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(BYTES_A_SAMPLE)
        file.setframerate(sample_rate)
        file.writeframes((sound.clamp(-1, 1).numpy() * GREATEST).round().astype(np.dtype("<i2")).tobytes())
    return buffer.getvalue()
