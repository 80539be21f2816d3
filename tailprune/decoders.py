"""Latents -> what a person sees. `pixels` is for models that sample pixels themselves."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

__all__ = ["DECODERS", "get", "pixels"]

Decoder = Callable[[Tensor], Tensor]


def pixels(latents: Tensor) -> Tensor:
    """latents, with shape (B, C, H, W), in [-1, 1] -> 8-bit images, with shape (B, H, W, C), on the CPU."""
    return latents.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).cpu()


DECODERS: dict[str, Decoder] = {"pixels": pixels}


def get(name: str) -> Decoder:
    """The decoder of that name. Raises ValueError for one there is not."""
    if name not in DECODERS:
        raise ValueError(f"no decoder is called {name!r}; there are {', '.join(DECODERS)}")
    return DECODERS[name]
