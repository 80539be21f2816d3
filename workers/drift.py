"""How far pruned samples are from the unpruned ones, gathered chunk by chunk.

latent = |x - x_0| / |x_0|      over the latents of all samples
PSNR   = 10 log10(255^2 / MSE)  MSE over the pictures of all samples
SSIM                            mean over the samples

Pictures of principal components are each in its own colours, and are not compared.
"""

from __future__ import annotations

import math

import numpy as np
from skimage.metrics import structural_similarity
from torch import Tensor

from jobs.results import Drift
from tailprune.decoders import Decoded
from workers.pictures import Images

__all__ = ["DriftMeter"]

SSIM_WINDOW = 7
WHITE = 255


class DriftMeter:
    """Takes samples of a variant beside those of the baseline, as many at a time as there are."""

    def __init__(self) -> None:
        self._latent_error = 0.0
        self._latent_energy = 0.0
        self._pixel_error = 0.0
        self._pixels = 0
        self._similarities: list[float] = []

    def add(self, latents: Tensor, baseline: Tensor, decoded: Decoded, baseline_decoded: Decoded) -> None:
        """latents, with shape (B, C, H, W), and what they decode to."""
        self._latent_error += (latents - baseline).double().square().sum().item()
        self._latent_energy += baseline.double().square().sum().item()
        if not decoded.comparable:
            return
        images, baseline_images = decoded.images.numpy(), baseline_decoded.images.numpy()
        self._pixel_error += float(np.square(images.astype(np.float64) - baseline_images).sum())
        self._pixels += images.size
        self._similarities += [_ssim(a, b) for a, b in zip(images, baseline_images, strict=True)]

    def drift(self) -> Drift:
        """The drift of all samples taken. Equal pictures have no PSNR; those that are not compared no SSIM either."""
        mse = self._pixel_error / self._pixels if self._pixels else 0.0
        return Drift(
            latent=math.sqrt(self._latent_error / self._latent_energy),
            psnr=10 * math.log10(WHITE**2 / mse) if mse > 0 else None,
            ssim=float(np.mean(self._similarities)) if self._similarities else None,
        )


def _ssim(image: Images, baseline: Images) -> float:
    side = min(SSIM_WINDOW, *image.shape[:2])
    window = side if side % 2 else side - 1  # the window has a middle
    return float(structural_similarity(image, baseline, win_size=window, channel_axis=-1, data_range=WHITE))
