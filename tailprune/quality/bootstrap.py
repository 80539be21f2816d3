"""How sure an average over images is: the percentile bootstrap (Efron 1979)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["Interval", "bootstrap"]

DRAWN_AT_ONCE = 2**22
"""Values drawn together, so that memory is bounded: 64 MB."""


@dataclass(frozen=True)
class Interval:
    """A mean, and where `level` of the means of resampled values lie."""

    mean: float
    low: float
    high: float
    level: float


def bootstrap(values: Tensor, resamples: int = 1000, level: float = 0.95, seed: int = 0) -> Interval:
    """The mean of values, with shape (N,), N >= 1, and its confidence interval, by `seed` alone.

    For the difference of two variants from the same noise, give the differences image by image: the interval is then of
    the difference. Raises ValueError for no values, NaN or infinity (the PSNR of equal images).
    """
    from scipy.stats import bootstrap as resample

    x = values.detach().double().cpu()
    if x.ndim != 1 or not len(x):
        raise ValueError(f"an average is over values with shape (N,), N >= 1, got {tuple(x.shape)}")
    if not torch.isfinite(x).all():
        raise ValueError(
            f"{int((~x.isfinite()).sum())} of {len(x)} values are NaN or infinity: leave them out, and say so"
        )
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
