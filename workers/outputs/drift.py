"""How far a prune moves samples from the baseline's, and how far a narrower precision moves a sample.

The first is added up chunk by chunk:

latent = |x - x_0| / |x_0|      over the latents of all samples
PSNR   = 10 log10(255^2 / MSE)  MSE over the pictures of all samples
SSIM   = that of Wang et al. (`tailprune.quality.images`); the mean over samples of at least 11 x 11 pixels

Pictures that show principal components of latents have colours of their own each, and are not compared.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import redis
import torch
from torch import Tensor

from jobs.batching import OWN
from jobs.keys import RESULT_VERSION, digest
from jobs.requests.sampled import SampledRequest
from jobs.results import Drift
from tailprune.decoders import Decoded
from tailprune.quality.images import WHITE, WINDOW, ssim
from workers.handler import Context
from workers.model_pool import Source
from workers.outputs.report import device_name
from workers.sampling.chunks import sample_plan
from workers.sampling.inputs import SampleInputs
from workers.sampling.plan import BASELINE, Plan, Sample

__all__ = ["DriftMeasure", "LatentDrift", "dtype_drift"]


class LatentDrift:
    """Adds up the drift of latents from those of the baseline, any number of samples at a time."""

    def __init__(self) -> None:
        self._error = 0.0
        self._energy = 0.0

    def add(self, latents: Tensor, baseline: Tensor) -> None:
        """Add samples: latents of the variant, and of the same samples unpruned, with the same shape."""
        self._error += (latents - baseline).double().square().sum().item()
        self._energy += baseline.double().square().sum().item()

    @property
    def value(self) -> float:
        """The drift of all samples."""
        return math.sqrt(self._error / self._energy)


class DriftMeasure:
    """Adds up the drift of a variant from the baseline, any number of samples at a time."""

    def __init__(self) -> None:
        self._latents = LatentDrift()
        self._pixel_error = 0.0
        self._pixels = 0
        self._similarities: list[float] = []

    def add(self, latents: Tensor, baseline: Tensor, decoded: Decoded, baseline_decoded: Decoded) -> None:
        """Add samples.

        latents: of the variant, with shape (B, C, H, W).
        baseline: of the same samples unpruned, with the same shape.
        decoded, baseline_decoded: what both decode to.
        """
        self._latents.add(latents, baseline)
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
            latent=self._latents.value,
            psnr=10 * math.log10(WHITE**2 / mse) if mse > 0 else None,
            ssim=float(np.mean(self._similarities)) if self._similarities else None,
        )


def dtype_drift(
    request: SampledRequest, source: Source, inputs: SampleInputs, context: Context, check: Callable[[], None]
) -> float | None:
    """Measure |x - x_32| / |x_32| of the latents x of the request's first sample, unpruned; None in float32.

    The result is stored, and found by every job that samples the model in the same way on the same kind of device.
    request: the resolved request, with the precision.
    source: the model.
    inputs: the labels or conditions of the request.
    context: the models and the store.
    check: called at every step; may raise to stop.
    """
    models, shards = context.models, context.shards
    if models.dtype_of(source, request.precision) == torch.float32:
        return None
    key = digest(
        {
            "drift of": request.model_dump(mode="json", include=set(SampledRequest.model_fields) - OWN),
            "model": {"weights": source.identity.weights, "reading": source.identity.reading},
            "on": device_name(models.device),
            "compiled": models.compiles,
            "version": RESULT_VERSION,
        }
    )
    try:
        stored = shards.get(key)
    except redis.RedisError:  # it is measured again
        stored = None
    if stored is not None:
        return float(json.loads(stored))
    plan = Plan(request, [BASELINE], [Sample(request.subjects[0], 0)], chunk_size=1)
    (narrow,), (wide,) = (
        sample_plan(models.system(source, precision), plan, plan.samples, inputs, lambda done, total: check())
        for precision in (request.precision, "float32")
    )
    drift = ((narrow - wide).norm() / wide.norm()).item()
    shards.put(key, json.dumps(drift).encode())
    return drift
