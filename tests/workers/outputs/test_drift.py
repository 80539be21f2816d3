import math

import numpy as np
import pytest
import torch

from tailprune.decoders import Decoded
from tailprune.quality import ssim
from workers.outputs.drift import DriftMeasure


def seen(images: np.ndarray, comparable: bool = True) -> Decoded:
    return Decoded(torch.from_numpy(images), shows="image", comparable=comparable)


def test_equal_samples_have_not_drifted() -> None:
    latents, images = torch.ones(2, 3, 16, 16), np.full((2, 16, 16, 3), 100, dtype=np.uint8)
    meter = DriftMeasure()
    meter.add(latents, latents, seen(images), seen(images))
    drift = meter.drift()
    assert (drift.latent, drift.psnr, drift.ssim) == (0, None, 1)


def test_drift_is_the_relative_error_and_psnr_that_of_the_mean_square_error() -> None:
    baseline = torch.full((1, 3, 8, 8), 2.0)
    images = np.full((1, 8, 8, 3), 100, dtype=np.uint8)
    meter = DriftMeasure()
    meter.add(baseline * 1.5, baseline, seen(images + 10), seen(images))
    drift = meter.drift()
    assert drift.latent == pytest.approx(0.5)
    assert drift.psnr == pytest.approx(10 * math.log10(255**2 / 100))


def test_chunks_add_up_to_the_whole() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (4, 12, 12, 3), dtype=np.uint8)
    others = random.integers(0, 256, (4, 12, 12, 3), dtype=np.uint8)
    latents, baseline = torch.randn(4, 3, 12, 12), torch.randn(4, 3, 12, 12)
    whole, parts = DriftMeasure(), DriftMeasure()
    whole.add(latents, baseline, seen(images), seen(others))
    for part in (slice(0, 1), slice(1, 4)):
        parts.add(latents[part], baseline[part], seen(images[part]), seen(others[part]))
    # sums of doubles in another order
    assert parts.drift().model_dump() == pytest.approx(whole.drift().model_dump(), rel=1e-12)


@pytest.mark.parametrize("shape", [(10, 16), (16, 10), (4, 4)])
def test_pictures_smaller_than_the_window_have_no_ssim(shape: tuple[int, int]) -> None:
    images = np.full((1, *shape, 3), 100, dtype=np.uint8)
    latents = torch.ones(1, 3, *shape)
    meter = DriftMeasure()
    meter.add(latents, latents, seen(images + 10), seen(images))
    drift = meter.drift()
    assert drift.psnr == pytest.approx(10 * math.log10(255**2 / 100))
    assert drift.ssim is None


def test_ssim_is_the_measure_of_quality_averaged_over_the_samples() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (3, 11, 14, 3), dtype=np.uint8)
    others = np.clip(images + random.normal(0, 20, images.shape), 0, 255).astype(np.uint8)
    latents = torch.ones(3, 3, 11, 14)
    meter = DriftMeasure()
    for part in (slice(0, 2), slice(2, 3)):
        meter.add(latents[part], latents[part], seen(images[part]), seen(others[part]))
    pairs = (torch.from_numpy(found).permute(0, 3, 1, 2) for found in (images, others))
    assert meter.drift().ssim == pytest.approx(ssim(*pairs).mean().item(), rel=1e-12)


def test_pictures_in_colours_of_their_own_are_not_compared() -> None:
    images, latents = np.zeros((1, 8, 8, 3), dtype=np.uint8), torch.ones(1, 8, 8, 8)
    meter = DriftMeasure()
    meter.add(2 * latents, latents, seen(images + 9, comparable=False), seen(images, comparable=False))
    drift = meter.drift()
    assert (drift.latent, drift.psnr, drift.ssim) == (1, None, None)
