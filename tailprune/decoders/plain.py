"""Decoders without weights: pixels, and a picture of latents themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from tailprune.decoders.base import Decoded, check_latents

__all__ = ["Latents", "Pixels", "pixels"]

SPREAD = 3.0
"""Deviations shown to either side of the middle."""
SHOWN_AS_THEY_ARE = 4
"""Most channels of which the first three are shown; of more, three say little, and principal components are shown."""
LEAST_VARIANCE = 1e-12
"""Share of a sample's variance below which a component is rounding: shown flat, not blown up to full contrast."""


def pixels(images: Tensor) -> Tensor:
    """8-bit pictures on the CPU. images, with shape (B, 3, H, W), clipped to [-1, 1] -> (B, H, W, 3)."""
    return images.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).cpu()


class Pixels:
    """For models that sample pixels themselves, in [-1, 1]. latents, with shape (B, 3, H, W) -> images (B, H, W, 3)."""

    channels: int | None = 3

    def __call__(self, latents: Tensor) -> Decoded:
        check_latents(latents, "pixels", self.channels)
        return Decoded(pixels(latents), shows="image")


class Latents:
    """A picture of the latents themselves, not of what they stand for.

    latents, with shape (B, C, H, W) -> images (B, H, W, 3). Of up to four channels the first three are red, green and
    blue, three deviations of a unit variance to either side of grey. Of more, red, green and blue are the first three
    principal components over the pixels of each sample, each in its own deviations: no other sample has a part in a
    picture, but its colours cannot be compared with those of another.
    """

    channels: int | None = None

    def __call__(self, latents: Tensor) -> Decoded:
        check_latents(latents, "latents", self.channels)
        as_they_are = latents.shape[1] <= SHOWN_AS_THEY_ARE
        if not as_they_are:
            shown = torch.stack([_principal_components(sample) for sample in latents])
        else:
            shown = latents[:, :3]
            if missing := 3 - shown.shape[1]:
                shown = torch.cat([shown, shown[:, :1].expand(-1, missing, -1, -1)], dim=1)
        return Decoded(pixels(shown / SPREAD), shows="latents", comparable=as_they_are)


def _principal_components(sample: Tensor) -> Tensor:
    """sample, with shape (C, H, W), C >= 3 -> its first three components, with shape (3, H, W), of unit variance."""
    points = sample.detach().double().cpu().flatten(1)  # double, and one place: the same picture from every device
    points = points - points.mean(1, keepdim=True)  # (C, HW)
    variances, axes = torch.linalg.eigh(points @ points.T / points.shape[1])  # ascending
    variances, axes = variances.flip(0)[:3], axes.flip(1)[:, :3]
    # An axis has no sign of its own: the channel that weighs most in it counts upwards.
    heaviest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    components = (axes * heaviest.sign()).T @ points  # (3, HW)
    visible = variances > LEAST_VARIANCE * variances.sum()
    unit = torch.where(visible, variances, torch.ones_like(variances)).sqrt()
    return (components * visible[:, None] / unit[:, None]).unflatten(1, sample.shape[1:])
