"""Pictures of samples."""

from __future__ import annotations

import pytest
import torch

from tailprune import decoders


def test_pixels_maps_minus_one_to_black_and_one_to_white_and_clips_the_rest() -> None:
    image = torch.tensor([-1.0, 0.0, 1.0, 7.0]).expand(1, 3, 2, 4)
    shown = decoders.get("pixels")(image)
    assert (shown.shape, shown.dtype) == ((1, 2, 4, 3), torch.uint8)
    assert shown[0, 0, :, 0].tolist() == [0, 128, 255, 255]


@pytest.mark.parametrize("channels", [1, 3, 4, 16])
def test_latents_of_any_number_of_channels_become_a_picture(channels: int) -> None:
    latents = torch.zeros(2, channels, 4, 4)
    latents[:, 0] = 3.0  # three deviations
    shown = decoders.get("latents")(latents)
    assert shown.shape == (2, 4, 4, 3)
    assert shown[0, 0, 0].tolist() == ([255, 255, 255] if channels == 1 else [255, 128, 128])


def test_an_unknown_decoder_is_named_beside_the_known() -> None:
    with pytest.raises(ValueError, match="no decoder is called 'vae'; there are latents, pixels"):
        decoders.get("vae")
