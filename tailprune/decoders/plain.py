"""Decoders without weights: pixels, and a view of the latents themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from tailprune.decoders.base import Decoded, check_latents

__all__ = ["Latents", "Pixels", "pixels"]

SPREAD = 3.0
"""The standard deviations shown to either side of grey."""
MOST_DIRECT_CHANNELS = 4
"""Up to so many channels, the first three are shown; of more, the principal components."""
LEAST_VARIANCE = 1e-12
"""The share of a sample's variance below which a component is rounding error, and is shown as grey."""


def pixels(images: Tensor) -> Tensor:
    """8-bit images on the CPU. images, with shape (B, 3, H, W), clipped to [-1, 1] -> (B, H, W, 3), uint8."""
    return images.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).cpu()


class Pixels:
    """The decoder of models that sample pixels, in [-1, 1]. latents, with shape (B, 3, H, W) -> images (B, H, W, 3)."""

    channels: int | None = 3

    def __call__(self, latents: Tensor) -> Decoded:
        check_latents(latents, "pixels", self.channels)
        return Decoded(pixels(latents), shows="image")


class Latents:
    """A view of the latents themselves, not decoded.

    latents, with shape (B, C, H, W) -> images (B, H, W, 3). Of up to four channels the first three are red, green and
    blue, three standard deviations of unit variance to either side of grey. Of more, red, green and blue are the first
    three principal components over the pixels of each sample, each scaled by its own standard deviation: an image does
    not depend on other samples, and its colours cannot be compared with theirs.
    """

    channels: int | None = None

    def __call__(self, latents: Tensor) -> Decoded:
        check_latents(latents, "latents", self.channels)
        direct = latents.shape[1] <= MOST_DIRECT_CHANNELS
        if not direct:
            shown = torch.stack([_principal_components(sample) for sample in latents])
        else:
            shown = latents[:, :3]
            if missing := 3 - shown.shape[1]:
                shown = torch.cat([shown, shown[:, :1].expand(-1, missing, -1, -1)], dim=1)
        return Decoded(pixels(shown / SPREAD), shows="latents", comparable=direct)


def _principal_components(sample: Tensor) -> Tensor:
    """sample, with shape (C, H, W), C >= 3 -> its first three components, with shape (3, H, W), of unit variance."""
    points = sample.detach().double().cpu().flatten(1)  # double, and on the CPU: the same image from every device
    points = points - points.mean(1, keepdim=True)  # (C, HW)
    variances, axes = torch.linalg.eigh(points @ points.T / points.shape[1])  # ascending
    variances, axes = variances.flip(0)[:3], axes.flip(1)[:, :3]
    # The sign of an axis is arbitrary: make its largest weight positive.
    heaviest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    components = (axes * heaviest.sign()).T @ points  # (3, HW)
    visible = variances > LEAST_VARIANCE * variances.sum()
    unit = torch.where(visible, variances, torch.ones_like(variances)).sqrt()
    return (components * visible[:, None] / unit[:, None]).unflatten(1, sample.shape[1:])
