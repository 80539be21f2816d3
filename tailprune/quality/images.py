"""Measures of single images and of pairs, and the checks that all measures share.

    PSNR = 10 log10(255^2 / MSE)
    SSIM = Wang et al. 2004: windows of 11 x 11, Gaussian with a deviation of 1.5, population covariance; mean over
           channels and the windows that lie in the image

Both compare two images, with scikit-image. `class_matches` and `clip_scores` measure whether an image shows its class
or its text. Values of single images are merged by concatenation. Their mean has a confidence interval by `bootstrap`,
or, of values that are 0 or 1, by `wilson`; the drift has one by `bootstrap_relative_norm`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tailprune.extras import require
from tailprune.spec import InputError

__all__ = [
    "Interval", "bootstrap", "bootstrap_relative_norm", "check_images", "check_pairs", "class_matches", "clip_scores",
    "psnr", "ssim", "wilson",
]  # fmt: skip

WHITE = 255
WINDOW = 11
DEVIATION = 1.5
DRAWN_AT_ONCE = 2**22
"""The values that the bootstrap draws at once, which bounds its memory to 64 MB."""


def check_images(images: Tensor) -> None:
    """Raise InputError unless images are uint8 with shape (B, 3, H, W)."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise InputError(
            f"images must be uint8 with shape (B, 3, H, W), not {str(images.dtype).removeprefix('torch.')} "
            f"with shape {tuple(images.shape)}"
        )


def check_pairs(images: Tensor, references: Tensor) -> None:
    """Raise InputError unless both are batches of images of the same shape."""
    check_images(images)
    check_images(references)
    if images.shape != references.shape:
        raise InputError(
            f"images are compared in pairs of the same size, not {tuple(images.shape)} with {tuple(references.shape)}"
        )


def psnr(images: Tensor, references: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each pair, in dB; infinity for equal images. Two (B, 3, H, W), uint8 -> (B,)."""
    require("quality", "skimage")
    from skimage.metrics import peak_signal_noise_ratio

    def measure(a: np.ndarray, b: np.ndarray) -> float:
        return peak_signal_noise_ratio(a, b, data_range=WHITE)

    with np.errstate(divide="ignore"):
        return _over_pairs(measure, images, references)


def ssim(images: Tensor, references: Tensor) -> Tensor:
    """Structural similarity of each pair, from -1 to 1. Two (B, 3, H, W), uint8, sides of at least 11 -> (B,)."""
    require("quality", "skimage")
    from skimage.metrics import structural_similarity

    check_images(images)
    if min(images.shape[2:]) < WINDOW:
        raise InputError(f"SSIM needs images of at least {WINDOW} x {WINDOW}; these have shape {tuple(images.shape)}")

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


def class_matches(predicted: Tensor, labels: Tensor) -> Tensor:
    """1 for an image of its class, else 0; the mean is the class accuracy. Two (B,) -> (B,), float64."""
    if predicted.shape != labels.shape:
        raise InputError(
            f"give one label for each image: {tuple(predicted.shape)} classes, {tuple(labels.shape)} labels"
        )
    return (predicted.cpu() == labels.cpu()).to(torch.float64)


def clip_scores(image_features: Tensor, text_features: Tensor) -> Tensor:
    """100 times the cosine between each image and its text, from -100 to 100 (arXiv 2104.08718, not clipped at 0).

    Two (B, d), from the extractor `clip` -> (B,), float64.
    """
    if image_features.shape != text_features.shape:
        raise InputError(
            f"give one text for each image: the features of images have shape {tuple(image_features.shape)}, those of "
            f"texts {tuple(text_features.shape)}"
        )
    return 100 * F.cosine_similarity(image_features.double().cpu(), text_features.double().cpu(), dim=1)


@dataclass(frozen=True)
class Interval:
    """A mean, or another estimate, and its confidence interval of this level."""

    mean: float
    low: float
    high: float
    level: float


def bootstrap(values: Tensor, resamples: int = 1000, level: float = 0.95, seed: int = 0) -> Interval:
    """The mean of some values and its confidence interval, by the percentile bootstrap (Efron 1979).

    values: with shape (N,), N >= 1, finite
    resamples: the number of resampled means, 1,000 by default
    level: the share of them in the interval, between 0 and 1, 0.95 by default
    seed: the seed of the resamples, 0 by default

    For the difference of two variants from the same noise, give the difference for each image.

    Raises InputError for no values, NaN or infinity (such as the PSNR of equal images).
    """
    require("quality", "scipy")
    from scipy.stats import bootstrap as resample

    x = _finite(values)
    mean = x.mean().item()
    if len(x) == 1:
        return Interval(mean, mean, mean, level)
    found = resample(
        (x.numpy(),),
        np.mean,
        n_resamples=resamples,
        batch=max(1, DRAWN_AT_ONCE // len(x)),
        confidence_level=level,
        method="percentile",
        rng=seed,
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high), level)


def bootstrap_relative_norm(
    errors: Tensor, energies: Tensor, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """sqrt(sum_n errors / sum_n energies), the drift of N samples, and its interval by the percentile bootstrap.

    errors: |x - x_0|^2 of each sample, with shape (N,), N >= 1
    energies: |x_0|^2 of the same samples, with shape (N,), above 0
    resamples, level, seed: as in `bootstrap`; a sample is drawn with its error and its energy

    Raises InputError as `bootstrap` does.
    """
    from scipy.stats import bootstrap as resample

    error, energy = _finite(errors), _finite(energies)

    def relative(e: np.ndarray, of: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(np.sqrt(e.sum(axis) / of.sum(axis)))

    found = float(relative(error.numpy(), energy.numpy()))
    if len(error) == 1:
        return Interval(found, found, found, level)
    ends = resample(
        (error.numpy(), energy.numpy()),
        relative,
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, DRAWN_AT_ONCE // len(error)),
        confidence_level=level,
        method="percentile",
        rng=seed,
    ).confidence_interval
    return Interval(found, float(ends.low), float(ends.high), level)


def wilson(values: Tensor, level: float = 0.95) -> Interval:
    """The mean of values that are 0 or 1, such as class accuracy, and its interval by Wilson (1927).

    values: with shape (N,), N >= 1
    level: the confidence level, between 0 and 1, 0.95 by default

    It is right for few values too, and where all are equal: an accuracy of 100 % of 10 samples may be one of 72 %.

    Raises InputError as `bootstrap` does, and for other values.
    """
    from scipy.stats import binomtest

    x = _finite(values)
    if not ((x == 0) | (x == 1)).all():
        raise InputError("values must be 0 or 1; take `bootstrap` for others")
    found = binomtest(int(x.sum()), len(x)).proportion_ci(level, method="wilson")
    return Interval(x.mean().item(), float(found.low), float(found.high), level)


def _finite(values: Tensor) -> Tensor:
    """Values as float64 on the CPU. Raises InputError for another shape than (N,), no values, NaN or infinity."""
    x = values.detach().double().cpu()
    if x.ndim != 1 or not len(x):
        raise InputError(f"values must have shape (N,), N >= 1, not {tuple(x.shape)}")
    if not torch.isfinite(x).all():
        raise InputError(
            f"{int((~x.isfinite()).sum())} of {len(x)} values are NaN or infinity: leave them out, and report how many"
        )
    return x


def _over_pairs(measure: Callable[[np.ndarray, np.ndarray], float], images: Tensor, references: Tensor) -> Tensor:
    """A measure of two images, with shape (3, H, W), for each pair -> (B,), float64."""
    check_pairs(images, references)
    pairs = zip(images.cpu().numpy(), references.cpu().numpy(), strict=True)
    return torch.tensor([float(measure(a, b)) for a, b in pairs], dtype=torch.float64)
