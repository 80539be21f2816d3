import math

import numpy as np
import pytest
import torch

from workers.drift import DriftMeter


def test_equal_samples_have_not_drifted() -> None:
    latents, images = torch.ones(2, 3, 8, 8), np.full((2, 8, 8, 3), 100, dtype=np.uint8)
    meter = DriftMeter()
    meter.add(latents, latents, images, images)
    drift = meter.drift()
    assert (drift.latent, drift.psnr, drift.ssim) == (0, None, 1)


def test_drift_is_the_relative_error_and_psnr_that_of_the_mean_square_error() -> None:
    baseline = torch.full((1, 3, 8, 8), 2.0)
    images = np.full((1, 8, 8, 3), 100, dtype=np.uint8)
    meter = DriftMeter()
    meter.add(baseline * 1.5, baseline, images + 10, images)
    drift = meter.drift()
    assert drift.latent == pytest.approx(0.5)
    assert drift.psnr == pytest.approx(10 * math.log10(255**2 / 100))


def test_chunks_add_up_to_the_whole() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    others = random.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    latents, baseline = torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8)
    whole, parts = DriftMeter(), DriftMeter()
    whole.add(latents, baseline, images, others)
    for part in (slice(0, 1), slice(1, 4)):
        parts.add(latents[part], baseline[part], images[part], others[part])
    # sums of doubles in another order
    assert parts.drift().model_dump() == pytest.approx(whole.drift().model_dump(), rel=1e-12)


@pytest.mark.parametrize("side", [4, 6, 7])
def test_pictures_smaller_than_the_usual_window_can_be_compared(side: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    latents = torch.randn(1, 3, side, side)
    meter = DriftMeter()
    meter.add(latents, latents, 255 - images, images)
    assert meter.drift().ssim < 0.5
