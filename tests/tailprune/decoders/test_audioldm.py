"""AudioLDM's decoder from a folder in diffusers' layout: spectrogram and sound."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import matplotlib
import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from tailprune.decoders import DecoderError, load_decoder
from tailprune.decoders.audioldm import HIGHEST, LOWEST, picture
from tests.tailprune.decoders.autoencoders import randomised, tiny_vae

BANDS, RATE, HOP = 8, 4000, 6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_vae(latent_channels=8, in_channels=1, out_channels=1, scaling_factor=0.9).save_pretrained(tmp_path / "vae")
    config = SpeechT5HifiGanConfig(
        model_in_dim=BANDS,
        sampling_rate=RATE,
        upsample_initial_channel=16,
        upsample_rates=[3, 2],
        upsample_kernel_sizes=[5, 4],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3, 5]],
    )
    randomised(SpeechT5HifiGan(config)).save_pretrained(tmp_path / "vocoder")
    return tmp_path


@pytest.fixture
def latents() -> torch.Tensor:
    return torch.randn(3, 8, 10, 4, generator=torch.Generator().manual_seed(0))


def test_sound_has_the_length_and_the_rate_of_the_vocoder(folder: Path, latents: torch.Tensor) -> None:
    made = load_decoder("audioldm", folder)(latents)
    assert (made.sounds.shape, made.sounds.dtype, made.sample_rate) == ((3, 20 * HOP), torch.float32, RATE)
    assert 0 < made.sounds.abs().max() <= 1


@pytest.mark.parametrize(("scale", "used"), [(None, 0.9), (0.5, 0.5)])
def test_sound_and_picture_are_those_of_the_real_classes(
    folder: Path, latents: torch.Tensor, scale: float | None, used: float
) -> None:
    made = load_decoder("audioldm", folder, scale=scale)(latents)
    with torch.no_grad():
        mel = AutoencoderKL.from_pretrained(folder / "vae").eval().decode(latents / used).sample.squeeze(1)
        sounds = SpeechT5HifiGan.from_pretrained(folder / "vocoder").eval()(mel)
    torch.testing.assert_close(made.sounds, sounds, atol=1e-5, rtol=0)  # float32, in batches of another size
    torch.testing.assert_close(made.images.int(), picture(mel).int(), atol=1, rtol=0)


def test_the_picture_is_the_spectrogram_with_time_to_the_right(folder: Path, latents: torch.Tensor) -> None:
    made = load_decoder("audioldm", folder)(latents)
    assert (made.images.shape, made.images.dtype, made.shows) == ((3, BANDS, 20, 3), torch.uint8, "spectrogram")


def test_a_batch_of_three_is_three_batches_of_one(
    folder: Path, latents: torch.Tensor, check_batches: Callable[..., None]
) -> None:
    check_batches(load_decoder("audioldm", folder), latents)


def test_the_encoder_is_not_kept_in_memory(folder: Path, check_no_encoder: Callable[[], None]) -> None:
    decode = load_decoder("audioldm", folder)
    check_no_encoder()
    assert decode.channels == 8


def test_nothing_is_asked_of_the_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for way in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, way, lambda *_: pytest.fail("connected"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("looked up a host"))
    load_decoder("audioldm", folder)


def test_weights_in_bin_files_are_read(folder: Path, latents: torch.Tensor) -> None:
    expected = load_decoder("audioldm", folder)(latents).sounds
    for part, name, former in (
        ("vae", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
        ("vocoder", "model.safetensors", "pytorch_model.bin"),
    ):
        torch.save(load_file(folder / part / name), folder / part / former)
        (folder / part / name).unlink()
    assert torch.equal(load_decoder("audioldm", folder)(latents).sounds, expected)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((1, 4, 10, 4), "audioldm takes latents with 8 channels.* these have 4"),
        ((1, 8, 10, 16), "audioldm takes latents of width 4, for the 8 mel bands of its vocoder; .* gives 32 bands"),
    ],
)
def test_latents_of_another_shape_are_refused_before_any_work(folder: Path, shape: tuple[int, ...], said: str) -> None:
    decode = load_decoder("audioldm", folder)
    decode.half.forward = lambda z: pytest.fail("decoded them")
    with pytest.raises(ValueError, match=said):
        decode(torch.zeros(shape))


def test_a_folder_without_a_vocoder_is_refused(folder: Path) -> None:
    (folder / "vocoder").rename(folder / "vocoder.old")
    with pytest.raises(DecoderError, match=f"{folder}: has no folder vocoder/; give a folder with AudioLDM's"):
        load_decoder("audioldm", folder)


def test_a_vocoder_with_a_tensor_missing_is_refused(folder: Path) -> None:
    file = folder / "vocoder" / "model.safetensors"
    save_file({name: value for name, value in load_file(file).items() if name != "conv_pre.bias"}, file)
    with pytest.raises(DecoderError, match=f"{file}: does not fit SpeechT5HifiGan: conv_pre.bias is missing"):
        load_decoder("audioldm", folder)


@pytest.mark.parametrize("change", [{"model_in_dim": "many"}, {"upsample_initial_channel": -1}])
def test_a_vocoder_with_an_unfit_configuration_is_refused(folder: Path, change: dict[str, int | str]) -> None:
    path = folder / "vocoder" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DecoderError, match=f"{folder}/vocoder: its configuration does not fit SpeechT5HifiGan"):
        load_decoder("audioldm", folder)


def test_an_autoencoder_of_pictures_is_refused(folder: Path) -> None:
    tiny_vae().save_pretrained(folder / "vae")
    with pytest.raises(DecoderError, match="decodes to 3 channels; give one that decodes to 1"):
        load_decoder("audioldm", folder)


def test_without_any_scaling_factor_a_scale_is_asked_for(folder: Path) -> None:
    path = folder / "vae" / "config.json"
    config = json.loads(path.read_text())
    del config["scaling_factor"]
    path.write_text(json.dumps(config))
    with pytest.raises(DecoderError, match="has no scaling_factor; give scale"):
        load_decoder("audioldm", folder)
    assert load_decoder("audioldm", folder, scale=0.9).scale == 0.9


def test_frequency_goes_upwards_and_louder_is_brighter() -> None:
    mel = torch.full((1, 5, 4), LOWEST)
    mel[0, 2, 0] = HIGHEST  # the lowest band, in the third frame
    brightness = picture(mel)[0].sum(-1)  # (frequency, time)
    assert brightness.shape == (4, 5)
    assert divmod(int(brightness.argmax()), 5) == (3, 2)


def test_a_spectrogram_looks_the_same_beside_louder_ones() -> None:
    quiet, loud = torch.full((1, 2, 2), -8.0), torch.full((1, 2, 2), 1.0)
    assert torch.equal(picture(torch.cat([quiet, loud]))[:1], picture(quiet))


def test_the_colours_are_viridis_from_the_quietest_to_the_loudest() -> None:
    level = torch.linspace(0, 1, 256)
    shown = picture((LOWEST + level * (HIGHEST - LOWEST)).view(1, 256, 1))[0, 0]
    viridis = torch.tensor(matplotlib.colormaps["viridis"](level.numpy())[:, :3]) * 255
    # Straight lines between 17 colours of it leave it by 5 levels at most.
    torch.testing.assert_close(shown.double(), viridis, atol=6, rtol=0)


def test_what_lies_outside_the_range_has_the_colour_of_its_end() -> None:
    ends = picture(torch.tensor([LOWEST - 5, LOWEST, HIGHEST, HIGHEST + 5]).view(1, 4, 1))[0, 0]
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[2], ends[3])


def test_the_folder_may_be_on_the_hub(folder: Path, latents: torch.Tensor, check_hub: Callable[..., None]) -> None:
    check_hub("audioldm", folder, latents)
