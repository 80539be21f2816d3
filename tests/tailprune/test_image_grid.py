"""The table of images, and the picture of samples that a notebook shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tailprune
from tailprune.decoders import load_decoder, pixels
from tailprune.image_grid import grid
from tailprune.spec import InputError
from workers.outputs.media import enlarge


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)


@pytest.fixture
def latents() -> torch.Tensor:
    """Six samples of a model that samples pixels."""
    return torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)) / 2


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


def test_no_room_is_left_for_names_that_are_empty(images: np.ndarray) -> None:
    bare, named = grid([images], [""], ["", "", ""]), grid([images], ["row"], ["a", "b", "c"])
    assert bare.shape[0] < named.shape[0]
    assert bare.shape[1] < named.shape[1]
    assert grid([images], [""], ["", "", ""], scale=3).shape == (12 + 24, 3 * (18 + 4) + 20, 3)


def places(picture: Image.Image, tiles: torch.Tensor, scale: int) -> list[tuple[int, int]]:
    """Where each of the images (B, H, W, 3) lies in the picture, enlarged by a factor."""
    sheet = np.asarray(picture)
    return [_place(sheet, tile) for tile in enlarge(tiles.numpy(), scale)]


def test_samples_of_pixels_are_shown_as_they_are_decoded_ten_beside_each_other(latents: torch.Tensor) -> None:
    twice = torch.cat([latents, -latents])
    found = places(tailprune.show(twice, captions=range(12)), pixels(twice), 4)  # 16 pixels become 64
    assert found == sorted(found)
    assert [y for y, _ in found] == [found[0][0]] * 10 + [found[10][0]] * 2
    assert found[0][1] == found[10][1]


@pytest.mark.parametrize("given", [torch.Tensor.numpy, lambda z: list(z), lambda z: load_decoder("pixels")(z), pixels])
def test_samples_are_shown_alike_in_every_form(latents: torch.Tensor, given: Any) -> None:
    assert tailprune.show(given(latents)).tobytes() == tailprune.show(latents).tobytes()


def test_a_single_sample_is_shown_as_a_batch_of_one_is(latents: torch.Tensor) -> None:
    assert tailprune.show(latents[0]).tobytes() == tailprune.show(latents[:1]).tobytes()
    assert tailprune.show(pixels(latents)[0]).tobytes() == tailprune.show(latents[:1]).tobytes()


@pytest.mark.parametrize("rows", [lambda a, b: [a, b], lambda a, b: {"baseline": a, "tail 0.05": b}])
def test_several_batches_are_rows_below_each_other_in_blocks_of_columns(latents: torch.Tensor, rows: Any) -> None:
    picture = tailprune.show(rows(latents, -latents), columns=4, scale=2)
    above, below = places(picture, pixels(latents), 2), places(picture, pixels(-latents), 2)
    assert [x for _, x in above] == [x for _, x in below]
    assert above[0][0] < below[0][0] < above[4][0] < below[4][0]


def test_lists_of_each_sample_are_rows_too(latents: torch.Tensor) -> None:
    each = [[latents[n], -latents[n]] for n in range(6)]  # as sample_each returns them
    rows = [torch.stack(two) for two in each]
    assert tailprune.show(each).tobytes() == tailprune.show(rows).tobytes()


def test_latents_that_are_not_pixels_are_shown_as_the_decoder_of_latents_shows_them() -> None:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    places(tailprune.show(latents), load_decoder("latents")(latents).images, 8)
    assert tailprune.show(latents, decoder=load_decoder("latents")).tobytes() == tailprune.show(latents).tobytes()


def test_captions_may_be_a_tensor_of_labels(latents: torch.Tensor) -> None:
    shown = [tailprune.show(latents, captions=labels) for labels in (torch.arange(6), range(6), [*"012345"])]
    assert len({picture.tobytes() for picture in shown}) == 1


def test_images_that_do_not_fit_side_by_side_go_below_and_none_is_lost() -> None:
    wide = torch.zeros(40, 256, 256, 3, dtype=torch.uint8)
    picture = tailprune.show(wide, columns=40)
    assert picture.width < 8400
    assert picture.height > 2 * 256


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (torch.zeros(3), {}, r"not \(3,\)"),
        (torch.zeros(2, 3, 16, 16, dtype=torch.int64), {}, "floating-point"),
        (torch.full((2, 3, 16, 16), torch.nan), {}, "NaN"),
        ([torch.zeros(2, 3, 16, 16), torch.zeros(1, 3, 16, 16)], {}, "same number of images"),
        ([], {}, r"not \[\]"),
        ({}, {}, "not none"),
        ("samples.png", {}, "images must be latents"),
        (torch.zeros(2, 3, 16, 16), {"captions": ["a"]}, "2 images and 1 captions"),
        (torch.zeros(2, 3, 16, 16), {"captions": "ab"}, "list"),
        (torch.zeros(2, 3, 16, 16), {"decoder": "pixels"}, "load_decoder"),
        (torch.zeros(2, 3, 16, 16), {"columns": 0}, "columns must be a whole number of at least 1, not 0"),
        (torch.zeros(2, 3, 16, 16), {"scale": 1.5}, "scale must be a whole number"),
        (
            torch.zeros(2, 3, 16, 16),
            {"scale": 10**6},
            r"16,000,004 x 32,000,008 pixels, more than the limit of 134,217,728: show fewer images, or give a lower",
        ),
        (torch.zeros(1, dtype=torch.uint8).expand(9000, 512, 512, 3), {}, "show fewer images$"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_words(images: Any, options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tailprune.show(images, **options)


def _place(sheet: np.ndarray, tile: np.ndarray) -> tuple[int, int]:
    """Where the tile lies in the sheet, by its upper left corner; exactly once."""
    height, width, _ = tile.shape
    corners = (sheet == tile[0, 0]).all(-1).nonzero()
    places = [(int(y), int(x)) for y, x in zip(*corners, strict=True)]
    (place,) = [(y, x) for y, x in places if np.array_equal(sheet[y : y + height, x : x + width], tile)]
    return place
