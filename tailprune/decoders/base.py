"""The interface of a decoder, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from tailprune.spec import InputError

__all__ = ["AT_ONCE", "Decoded", "Decoder", "DecoderError", "check_latents", "denormalise"]

AT_ONCE = 1
"""The number of samples decoded by one call of a network.

One, so that memory is bounded by one sample (0.4 GB beside the weights for SD-VAE at 256 x 256 pixels), and so that a
sample's image has the same bits in any batch: convolutions of another batch size may sum in another order.
"""


class DecoderError(InputError):
    """A source that is not the expected decoder; the message names path, fault and what would fit."""


@dataclass(frozen=True)
class Decoded:
    """Decoded samples.

    images: with shape (B, H, W, 3), uint8, on the CPU; spectrograms if the samples are sound
    shows: what the images show
    sounds: with shape (B, T), float32 in [-1, 1], on the CPU; None if the samples are not sound
    sample_rate: of the sounds, in Hz
    comparable: whether equal colours mean the same in two images, true by default
    """

    images: Tensor
    shows: Literal["image", "latents", "spectrogram"]
    sounds: Tensor | None = None
    sample_rate: int | None = None
    comparable: bool = True


class Decoder(Protocol):
    """Decodes latents to images, and sound."""

    @property
    def channels(self) -> int | None:
        """The number of channels of the latents, C; None for any."""
        ...

    def __call__(self, latents: Tensor) -> Decoded:
        """The decoded latents, with shape (B, C, H, W). Raises InputError for another shape, before any work."""
        ...


def check_latents(latents: Tensor, name: str, channels: int | None) -> None:
    """Raise InputError for latents that the decoder `name` does not take."""
    if not isinstance(latents, Tensor) or not latents.is_floating_point():
        found = latents.dtype if isinstance(latents, Tensor) else type(latents).__name__
        raise InputError(f"{name} takes latents, a tensor of floating-point numbers, not {found}")
    if latents.ndim != 4:
        raise InputError(f"{name} takes latents with shape (B, C, H, W); these have shape {tuple(latents.shape)}")
    if channels is not None and latents.shape[1] != channels:
        raise InputError(
            f"{name} takes latents with {channels} channels, with shape (B, {channels}, H, W); "
            f"these have {latents.shape[1]}, with shape {tuple(latents.shape)}"
        )


def denormalise(latents: Tensor, scale: float, mean: Tensor | None = None, std: Tensor | None = None) -> Tensor:
    """The input of the autoencoder's decoder: latents / scale * std + mean.

    latents: with shape (B, C, H, W)
    scale: the factor that latents were multiplied by in training, above 0
    mean, std: statistics of the encoded images, with shape (1, C, 1, 1); 0 and 1 for None
    """
    encoded = latents.to(torch.float32) / scale
    return encoded if mean is None or std is None else encoded * std + mean
