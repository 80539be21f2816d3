"""What all measures take as images, and two measures of how alike images are.

    PSNR = 10 log10(255^2 / MSE)
    SSIM = Wang et al. 2004: windows of 11 x 11, Gaussian with a deviation of 1.5, population covariance; mean over
           channels and the windows that lie in the image

Both by scikit-image, and image by image, so that they can be averaged with an interval, and merged.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

__all__ = ["check_images", "check_pairs", "psnr", "ssim"]

WHITE = 255
WINDOW = 11
DEVIATION = 1.5


def check_images(images: Tensor) -> None:
    """Raises ValueError for what is not uint8 with shape (B, 3, H, W)."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"images are uint8 with shape (B, 3, H, W); these are {str(images.dtype).removeprefix('torch.')} "
            f"with shape {tuple(images.shape)}"
        )


def check_pairs(images: Tensor, references: Tensor) -> None:
    """Raises ValueError for what are not two batches of images of one shape."""
    check_images(images)
    check_images(references)
    if images.shape != references.shape:
        raise ValueError(
            f"images are compared with as many of one size: {tuple(images.shape)}, {tuple(references.shape)}"
        )


def psnr(images: Tensor, references: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each pair, in dB; infinity for equal ones. Two (B, 3, H, W), uint8 -> (B,)."""
    from skimage.metrics import peak_signal_noise_ratio

    def measure(a: np.ndarray, b: np.ndarray) -> float:
        return peak_signal_noise_ratio(a, b, data_range=WHITE)

    with np.errstate(divide="ignore"):
        return _over_pairs(measure, images, references)


def ssim(images: Tensor, references: Tensor) -> Tensor:
    """Structural similarity of each pair, from -1 to 1. Two (B, 3, H, W), uint8, sides of at least 11 -> (B,)."""
    from skimage.metrics import structural_similarity

    check_images(images)
    if min(images.shape[2:]) < WINDOW:
        raise ValueError(f"SSIM takes images of at least {WINDOW} x {WINDOW}; these have shape {tuple(images.shape)}")

    def measure(a: np.ndarray, b: np.ndarray) -> float:
        return structural_similarity(
            a,
            b,
            data_range=WHITE,
            channel_axis=0,
            gaussian_weights=True,
            sigma=DEVIATION,
            use_sample_covariance=False,
        )

    return _over_pairs(measure, images, references)


def _over_pairs(measure: Callable[[np.ndarray, np.ndarray], float], images: Tensor, references: Tensor) -> Tensor:
    """A measure of two images, (3, H, W) each -> (B,), float64."""
    check_pairs(images, references)
    pairs = zip(images.cpu().numpy(), references.cpu().numpy(), strict=True)
    return torch.tensor([float(measure(a, b)) for a, b in pairs], dtype=torch.float64)
