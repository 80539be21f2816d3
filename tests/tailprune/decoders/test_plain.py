"""Pictures of samples, by decoders without weights, and the one door to all decoders."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tailprune.decoders import DECODERS, load_decoder

SOURCED = ("sd-vae", "va-vae", "audioldm")


def test_the_decoders_are_named_in_order() -> None:
    assert tuple(DECODERS) == ("pixels", "latents", "sd-vae", "va-vae", "audioldm")


def test_an_unknown_decoder_is_named_beside_the_known() -> None:
    with pytest.raises(
        ValueError, match="there is no decoder 'vae': give one of pixels, latents, sd-vae, va-vae, audio"
    ):
        load_decoder("vae")


@pytest.mark.parametrize("name", SOURCED)
def test_a_decoder_with_weights_says_that_it_needs_a_source(name: str) -> None:
    with pytest.raises(ValueError, match=f"decoder '{name}' needs a source"):
        load_decoder(name)


@pytest.mark.parametrize("name", ["pixels", "latents"])
@pytest.mark.parametrize("given", [{"source": "some/vae"}, {"statistics": "stats.pt"}, {"scale": 0.5}])
def test_a_decoder_without_weights_refuses_what_belongs_to_weights(name: str, given: dict) -> None:
    with pytest.raises(ValueError, match=f"decoder '{name}' has no weights: leave out {next(iter(given))}"):
        load_decoder(name, **given)


@pytest.mark.parametrize("name", ["sd-vae", "audioldm"])
def test_statistics_are_refused_where_they_would_not_be_used(name: str) -> None:
    with pytest.raises(ValueError, match=f"decoder '{name}' takes no statistics"):
        load_decoder(name, "some/folder", statistics="stats.pt")


def test_importing_the_decoders_imports_no_library_of_networks(run_python: Callable[[str], str]) -> None:
    script = "import sys, tailprune.decoders; print([m for m in ('diffusers', 'transformers') if m in sys.modules])"
    assert run_python(script) == "[]\n"


def test_pixels_maps_minus_one_to_black_and_one_to_white_and_clips_the_rest() -> None:
    image = torch.tensor([-1.0, 0.0, 1.0, 7.0]).expand(1, 3, 2, 4)
    shown = load_decoder("pixels")(image)
    assert (shown.images.shape, shown.images.dtype, shown.shows) == ((1, 2, 4, 3), torch.uint8, "image")
    assert shown.images[0, 0, :, 0].tolist() == [0, 128, 255, 255]


def test_pictures_have_no_sound() -> None:
    shown = load_decoder("pixels")(torch.zeros(1, 3, 2, 2))
    assert (shown.sounds, shown.sample_rate) == (None, None)


def test_pixels_takes_three_channels_alone() -> None:
    with pytest.raises(
        ValueError, match=r"pixels takes latents with 3 channels.* these have 4, with shape \(1, 4, 2, 2"
    ):
        load_decoder("pixels")(torch.zeros(1, 4, 2, 2))


@pytest.mark.parametrize("name", ["pixels", "latents"])
def test_a_sample_without_its_batch_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"takes latents with shape \(B, C, H, W\); these have shape \(3, 2, 2\)"):
        load_decoder(name)(torch.zeros(3, 2, 2))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_few_latents_are_shown_by_their_first_three_channels(channels: int) -> None:
    latents = torch.zeros(2, channels, 4, 4)
    latents[:, 0] = 3.0  # three deviations
    shown = load_decoder("latents")(latents)
    assert (shown.images.shape, shown.shows) == ((2, 4, 4, 3), "latents")
    assert shown.images[0, 0, 0].tolist() == ([255, 255, 255] if channels == 1 else [255, 128, 128])


def test_many_latents_are_shown_by_their_principal_components_in_order_of_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(3, 8 * 6, generator=generator)
    factors = torch.linalg.qr((factors - factors.mean(1, keepdim=True)).T)[0].T * 48**0.5  # uncorrelated, variance 1
    axes = torch.linalg.qr(torch.randn(16, 3, generator=generator))[0]
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    latents = (axes @ (torch.tensor([[5.0], [3.0], [1.0]]) * factors)).view(1, 16, 8, 6) + 2.0
    shown = load_decoder("latents")(latents)
    expected = (factors / 3).clamp(-1, 1).add(1).mul(127.5).round().view(3, 8, 6).permute(1, 2, 0)
    assert shown.shows == "latents"
    # One level of 255 for rounding in float32 latents.
    torch.testing.assert_close(shown.images[0].float(), expected, atol=1, rtol=0)


def test_a_picture_of_latents_is_the_same_in_every_batch() -> None:
    latents = torch.randn(3, 32, 8, 8, generator=torch.Generator().manual_seed(1))
    decode = load_decoder("latents")
    together = decode(latents).images
    assert together.shape == (3, 8, 8, 3)
    assert torch.equal(together, torch.cat([decode(sample).images for sample in latents.split(1)]))


def test_latents_that_do_not_vary_are_grey() -> None:
    latents = torch.randn(1, 16, 1, 1, generator=torch.Generator().manual_seed(2)).expand(-1, -1, 5, 5)
    assert load_decoder("latents")(latents).images.unique().tolist() == [128]


def test_components_without_variance_are_grey() -> None:
    latents = torch.arange(16.0).view(1, 16, 1, 1) * torch.randn(5, 5, generator=torch.Generator().manual_seed(3))
    images = load_decoder("latents")(latents).images
    assert len(images[..., 0].unique()) > 5
    assert images[..., 1:].unique().tolist() == [128]
