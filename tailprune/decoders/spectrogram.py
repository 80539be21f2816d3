"""A log-mel spectrogram as a picture."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["HIGHEST", "LOWEST", "picture"]

LOWEST = math.log(1e-5)
"""The least that AudioLDM's spectrograms hold: magnitudes are cut at 1e-5 before the logarithm."""
HIGHEST = 2.0
"""About a sine of full scale: half of a window of 1024 under Hann times the weight of a mel filter, exp(2) = 7.4."""

VIRIDIS = (
    (68, 1, 84),
    (72, 24, 106),
    (71, 45, 123),
    (66, 64, 134),
    (59, 82, 139),
    (51, 99, 141),
    (44, 114, 142),
    (38, 130, 142),
    (33, 145, 140),
    (31, 160, 136),
    (40, 174, 128),
    (63, 188, 115),
    (94, 201, 98),
    (132, 212, 75),
    (173, 220, 48),
    (216, 226, 25),
    (253, 231, 37),
)
"""Colours of Matplotlib's viridis (CC0) at equal distances; equal steps of it look equal."""


def picture(mel: Tensor) -> Tensor:
    """Time to the right, frequency upwards, from violet (`LOWEST`, 1e-5) to yellow (`HIGHEST`, full scale).

    mel, with shape (B, time, frequency), natural logarithms of magnitudes -> (B, frequency, time, 3), uint8 on the
    CPU. The range is fixed, so that equal spectrograms give equal pictures, and the louder is the brighter.
    """
    colours = torch.tensor(VIRIDIS, dtype=torch.float32)
    level = (mel.detach().float().cpu() - LOWEST) / (HIGHEST - LOWEST)
    position = level.clamp(0, 1).transpose(1, 2).flip(1) * (len(colours) - 1)
    below = position.floor().clamp(max=len(colours) - 2)
    at = below.long()
    return colours[at].lerp(colours[at + 1], (position - below)[..., None]).round().byte()
