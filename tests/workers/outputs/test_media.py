"""Images and sound as files: what is read back, and the sheet of all images of a job."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest
import torch
from PIL import Image

from workers.outputs.media import enlarge, grid, png, wav


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


def test_the_grid_holds_every_image_of_every_row_in_order(images: np.ndarray) -> None:
    baseline = enlarge(images, 16)
    pruned = 255 - baseline
    sheet = grid([baseline, pruned], ["baseline", "tail 0.01"], ["circle", "square", "star"])
    above = [_place(sheet, tile) for tile in baseline]
    below = [_place(sheet, tile) for tile in pruned]
    assert above[0][0] < below[0][0]
    assert [x for _, x in above] == [x for _, x in below] == sorted(x for _, x in above)


def test_great_images_are_shrunk_in_the_grid() -> None:
    row = np.zeros((2, 1024, 512, 3), dtype=np.uint8)
    height, width, _ = grid([row], ["baseline"], ["a", "b"]).shape
    assert height < 400
    assert width < 500


def test_images_of_a_few_pixels_are_enlarged_by_whole_ones_in_the_grid(images: np.ndarray) -> None:
    sheet = grid([images], ["baseline"], ["a", "b", "c"])
    for image in images:
        _place(sheet, enlarge(image, 11))  # 6 pixels become 66


def test_long_images_stay_legible_and_as_many_are_shown_as_fit() -> None:
    row = np.zeros((32, 64, 816, 3), dtype=np.uint8)
    height, width, _ = grid([row], ["baseline"], [str(column) for column in range(32)]).shape
    assert height > 48
    assert 8000 < width < 8400
    narrow = grid([row[:2]], ["baseline"], ["0", "1"])
    assert narrow.shape[1] > 2 * 600


def test_a_long_name_stays_within_its_column() -> None:
    row = np.full((2, 32, 32, 3), 255, dtype=np.uint8)
    long = grid([row], ["r"], ["a class whose name goes on and on", "b"])
    assert long.shape == grid([row], ["r"], ["a", "b"]).shape


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


def _place(sheet: np.ndarray, tile: np.ndarray) -> tuple[int, int]:
    """Where the tile lies in the sheet, by its upper left corner; exactly once."""
    height, width, _ = tile.shape
    corners = (sheet == tile[0, 0]).all(-1).nonzero()
    places = [(int(y), int(x)) for y, x in zip(*corners, strict=True)]
    (place,) = [(y, x) for y, x in places if np.array_equal(sheet[y : y + height, x : x + width], tile)]
    return place
