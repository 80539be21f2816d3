"""How far samples are from the baseline's, added up chunk by chunk.

latent = |x - x_0| / |x_0|      over the latents of all samples
PSNR   = 10 log10(255^2 / MSE)  MSE over the pictures of all samples
SSIM   = that of Wang et al. (`tailprune.quality.images`); the mean over samples of at least 11 x 11 pixels

Pictures that show principal components of latents have colours of their own each, and are not compared.
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from jobs.results import Drift
from tailprune.decoders import Decoded
from tailprune.quality.images import WHITE, WINDOW, ssim

__all__ = ["DriftMeasure"]


class DriftMeasure:
    """Adds up the drift of a variant from the baseline, any number of samples at a time."""

    def __init__(self) -> None:
        self._latent_error = 0.0
        self._latent_energy = 0.0
        self._pixel_error = 0.0
        self._pixels = 0
        self._similarities: list[float] = []

    def add(self, latents: Tensor, baseline: Tensor, decoded: Decoded, baseline_decoded: Decoded) -> None:
        """Add samples.

        latents: of the variant, with shape (B, C, H, W).
        baseline: of the same samples unpruned, with the same shape.
        decoded, baseline_decoded: what both decode to.
        """
        self._latent_error += (latents - baseline).double().square().sum().item()
        self._latent_energy += baseline.double().square().sum().item()
        if not decoded.comparable:
            return
        images, baseline_images = (side.images.permute(0, 3, 1, 2) for side in (decoded, baseline_decoded))
        self._pixel_error += (images.double() - baseline_images).square().sum().item()
        self._pixels += images.numel()
        if min(images.shape[2:]) >= WINDOW:
            self._similarities += ssim(images, baseline_images).tolist()

    def drift(self) -> Drift:
        """The drift of all samples; without PSNR where the pictures are equal, without SSIM where they are small."""
        mse = self._pixel_error / self._pixels if self._pixels else 0.0
        return Drift(
            latent=math.sqrt(self._latent_error / self._latent_energy),
            psnr=10 * math.log10(WHITE**2 / mse) if mse > 0 else None,
            ssim=float(np.mean(self._similarities)) if self._similarities else None,
        )
