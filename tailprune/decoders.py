"""Latents -> what a person sees."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["DECODERS", "get", "latents", "pixels"]

Decoder = Callable[[Tensor], Tensor]

SPREAD = 3.0
"""Latents have about unit variance; `latents` shows this many deviations to either side of zero."""


def pixels(latents: Tensor) -> Tensor:
    """For models that sample pixels themselves. latents, with shape (B, 3, H, W), in [-1, 1] -> (B, H, W, 3).

    8-bit images on the CPU, as from every decoder.
    """
    return latents.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).cpu()


def latents(latents: Tensor) -> Tensor:
    """A picture of the latents themselves, not of what they stand for: the first three channels as red, green, blue.

    latents, with shape (B, C, H, W) -> (B, H, W, 3). A model with fewer channels is shown in the ones it has.
    """
    shown = latents[:, :3] / SPREAD
    missing = 3 - shown.shape[1]
    return pixels(torch.cat([shown, shown[:, :1].expand(-1, missing, -1, -1)], dim=1) if missing else shown)


DECODERS: dict[str, Decoder] = {"latents": latents, "pixels": pixels}


def get(name: str) -> Decoder:
    """The decoder of that name. Raises ValueError for one there is not."""
    if name not in DECODERS:
        raise ValueError(f"no decoder is called {name!r}; there are {', '.join(DECODERS)}")
    return DECODERS[name]
