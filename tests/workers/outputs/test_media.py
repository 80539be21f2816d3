"""Images and sound as files: what is read back."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest
import torch
from PIL import Image

from workers.outputs.media import enlarge, png, wav


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)


def test_a_png_holds_the_very_pixels(images: np.ndarray) -> None:
    read = np.asarray(Image.open(io.BytesIO(png(images[0]))))
    assert (read == images[0]).all()


def test_the_same_pixels_give_the_same_bytes(images: np.ndarray) -> None:
    assert png(images[0]) == png(images[0].copy())


def test_enlarging_makes_a_square_of_each_pixel(images: np.ndarray) -> None:
    large = enlarge(images, 8)
    assert large.shape == (3, 32, 48, 3)
    assert (large[:, 3::8, 5::8] == images).all()
    assert (large[1, :8, :8] == images[1, 0, 0]).all()


def samples_of(content: bytes) -> tuple[np.ndarray, int]:
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2"), file.getframerate()


def test_a_sound_is_read_back_within_half_a_step_of_16_bits() -> None:
    sound = torch.sin(torch.linspace(0, 100, 4000))
    samples, rate = samples_of(wav(sound, 16_000))
    assert rate == 16_000
    assert np.abs(samples / 32767 - sound.numpy()).max() <= 0.5 / 32767 + 1e-7


def test_what_is_too_loud_is_cut_and_does_not_wrap_around() -> None:
    samples, _ = samples_of(wav(torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0]), 8000))
    assert samples.tolist() == [-32767, -32767, 0, 32767, 32767]


def test_the_same_sound_gives_the_same_bytes() -> None:
    sound = torch.linspace(-1, 1, 100)
    assert wav(sound, 16_000) == wav(sound.clone(), 16_000)
