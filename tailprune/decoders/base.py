"""What every decoder is and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from tailprune.spec import InputError

__all__ = ["AT_ONCE", "Decoded", "Decoder", "DecoderError", "check_latents", "denormalise"]

AT_ONCE = 1
"""Samples decoded by one call of a network.

One, so that memory is bounded by one sample (measured: 0.4 GB beside the weights for SD-VAE at 256 x 256 pixels),
and so that a sample's picture is the same to the bit whichever chunk of a job it comes in: convolutions of another
batch size may sum in another order.
"""


class DecoderError(InputError):
    """A source that is not the decoder it is meant to be; the message names path, fault and what would fit."""


@dataclass(frozen=True)
class Decoded:
    """What a person sees, and hears, of samples.

    `images`, with shape (B, H, W, 3), uint8 on the CPU; of sound, its spectrogram. `sounds`, with shape (B, T), float32
    in [-1, 1] on the CPU, at `sample_rate` Hz; both None where the samples are not sound. `comparable`: whether equal
    colours mean the same in two pictures.
    """

    images: Tensor
    shows: Literal["image", "latents", "spectrogram"]
    sounds: Tensor | None = None
    sample_rate: int | None = None
    comparable: bool = True


class Decoder(Protocol):
    """Latents -> what they stand for.

    Called with latents, with shape (B, C, H, W), as a system samples them. `channels` is the C it takes, None for any.
    Raises InputError for latents of another shape, before any work.
    """

    @property
    def channels(self) -> int | None: ...

    def __call__(self, latents: Tensor) -> Decoded: ...


def check_latents(latents: Tensor, name: str, channels: int | None) -> None:
    """Raises InputError for latents that decoder `name` does not take."""
    if latents.ndim != 4:
        raise InputError(f"{name} takes latents with shape (B, C, H, W); these have shape {tuple(latents.shape)}")
    if channels is not None and latents.shape[1] != channels:
        raise InputError(
            f"{name} takes latents with {channels} channels, with shape (B, {channels}, H, W); "
            f"these have {latents.shape[1]}, with shape {tuple(latents.shape)}"
        )


def denormalise(latents: Tensor, scale: float, mean: Tensor | None = None, std: Tensor | None = None) -> Tensor:
    """What the autoencoder encoded: latents / scale * std + mean.

    latents: with shape (B, C, H, W).
    scale: what they were multiplied by, above 0.
    mean, std: of the encoded, with shape (1, C, 1, 1); 0 and 1 for None.
    """
    encoded = latents.to(torch.float32) / scale
    return encoded if mean is None or std is None else encoded * std + mean
