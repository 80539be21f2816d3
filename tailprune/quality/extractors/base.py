"""What every extractor is and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

__all__ = ["Extracted", "Extractor", "ExtractorError"]


class ExtractorError(ValueError):
    """A source that is not the network it is meant to be; the message names path, fault and what would fit."""


@dataclass(frozen=True)
class Extracted:
    """What a network sees in images.

    `features`, with shape (B, d), float32 on the CPU. `probabilities` of its classes, with shape (B, K), float32 on the
    CPU; None for a network without classes.
    """

    features: Tensor
    probabilities: Tensor | None = None


class Extractor(Protocol):
    """Images -> features.

    Called with images, uint8 with shape (B, 3, H, W); raises ValueError for others. `name` belongs beside every number
    made of its features: an FID is one of `inception-2015-12-05` alone. `digest` is the SHA-256 of its weights.
    """

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def __call__(self, images: Tensor) -> Extracted: ...
