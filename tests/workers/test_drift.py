import math

import numpy as np
import pytest
import torch

from tailprune.decoders import Decoded
from workers.drift import DriftMeter


def seen(images: np.ndarray, comparable: bool = True) -> Decoded:
    return Decoded(torch.from_numpy(images), shows="image", comparable=comparable)


def test_equal_samples_have_not_drifted() -> None:
    latents, images = torch.ones(2, 3, 8, 8), np.full((2, 8, 8, 3), 100, dtype=np.uint8)
    meter = DriftMeter()
    meter.add(latents, latents, seen(images), seen(images))
    drift = meter.drift()
    assert (drift.latent, drift.psnr, drift.ssim) == (0, None, 1)


def test_drift_is_the_relative_error_and_psnr_that_of_the_mean_square_error() -> None:
    baseline = torch.full((1, 3, 8, 8), 2.0)
    images = np.full((1, 8, 8, 3), 100, dtype=np.uint8)
    meter = DriftMeter()
    meter.add(baseline * 1.5, baseline, seen(images + 10), seen(images))
    drift = meter.drift()
    assert drift.latent == pytest.approx(0.5)
    assert drift.psnr == pytest.approx(10 * math.log10(255**2 / 100))


def test_chunks_add_up_to_the_whole() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    others = random.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    latents, baseline = torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8)
    whole, parts = DriftMeter(), DriftMeter()
    whole.add(latents, baseline, seen(images), seen(others))
    for part in (slice(0, 1), slice(1, 4)):
        parts.add(latents[part], baseline[part], seen(images[part]), seen(others[part]))
    # sums of doubles in another order
    assert parts.drift().model_dump() == pytest.approx(whole.drift().model_dump(), rel=1e-12)


@pytest.mark.parametrize("side", [4, 6, 7])
def test_pictures_smaller_than_the_usual_window_can_be_compared(side: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    latents = torch.randn(1, 3, side, side)
    meter = DriftMeter()
    meter.add(latents, latents, seen(255 - images), seen(images))
    ssim = meter.drift().ssim
    assert ssim is not None
    assert ssim < 0.5


def test_pictures_in_colours_of_their_own_are_not_compared() -> None:
    images, latents = np.zeros((1, 8, 8, 3), dtype=np.uint8), torch.ones(1, 8, 8, 8)
    meter = DriftMeter()
    meter.add(2 * latents, latents, seen(images + 9, comparable=False), seen(images, comparable=False))
    drift = meter.drift()
    assert (drift.latent, drift.psnr, drift.ssim) == (1, None, None)
