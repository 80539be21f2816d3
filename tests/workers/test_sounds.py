from __future__ import annotations

import io
import wave

import numpy as np
import torch

from workers.outputs.media import wav


def read(content: bytes) -> tuple[np.ndarray, int]:
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2"), file.getframerate()


def test_a_sound_is_read_back_within_half_a_step_of_16_bits() -> None:
    sound = torch.sin(torch.linspace(0, 100, 4000))
    samples, rate = read(wav(sound, 16_000))
    assert rate == 16_000
    assert np.abs(samples / 32767 - sound.numpy()).max() <= 0.5 / 32767 + 1e-7


def test_what_is_too_loud_is_cut_and_does_not_wrap_around() -> None:
    samples, _ = read(wav(torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0]), 8000))
    assert samples.tolist() == [-32767, -32767, 0, 32767, 32767]


def test_the_same_sound_gives_the_same_bytes() -> None:
    sound = torch.linspace(-1, 1, 100)
    assert wav(sound, 16_000) == wav(sound.clone(), 16_000)
