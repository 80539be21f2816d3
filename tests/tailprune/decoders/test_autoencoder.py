"""SD-VAE's decoder from a folder of diffusers' AutoencoderKL."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from tailprune.decoders import DecoderError, load_decoder, pixels
from tests.tailprune.decoders.autoencoders import tiny_vae

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_vae(scaling_factor=0.5).save_pretrained(tmp_path / "sd")
    return tmp_path / "sd"


@pytest.fixture
def latents() -> torch.Tensor:
    return torch.randn(3, 4, 6, 4, generator=torch.Generator().manual_seed(0))


def rewrite(folder: Path, change) -> None:
    """Changes the file of weights."""
    tensors = {new: value for name, value in load_file(folder / WEIGHTS).items() for new, value in change(name, value)}
    save_file(tensors, folder / WEIGHTS)


def test_pictures_are_those_of_the_whole_model(folder: Path, latents: torch.Tensor) -> None:
    shown = load_decoder("sd-vae", folder)(latents)
    expected = pixels(AutoencoderKL.from_pretrained(folder).eval().decode(latents / 0.5).sample.detach())
    assert (shown.images.shape, shown.images.dtype, shown.shows) == ((3, 12, 8, 3), torch.uint8, "image")
    assert shown.images.float().std() > 40, "a picture with nothing in it agrees with anything"
    # One level of 255: where a value lies between two, batches of other sizes may round it otherwise.
    torch.testing.assert_close(shown.images.int(), expected.int(), atol=1, rtol=0)


def test_the_network_agrees_with_the_whole_model(folder: Path, latents: torch.Tensor) -> None:
    decoded = load_decoder("sd-vae", folder).half(latents)
    torch.testing.assert_close(decoded, AutoencoderKL.from_pretrained(folder).decode(latents).sample.detach())


@pytest.mark.parametrize(
    ("given", "configured", "used"), [(0.25, 0.5, 0.25), (None, 0.5, 0.5), (None, None, 0.18215), (0.25, None, 0.25)]
)
def test_a_given_scale_wins_over_the_configuration_and_that_over_the_published_one(
    folder: Path, latents: torch.Tensor, given: float | None, configured: float | None, used: float
) -> None:
    config = json.loads((folder / "config.json").read_text()) | {"scaling_factor": configured}
    if configured is None:
        del config["scaling_factor"]
    (folder / "config.json").write_text(json.dumps(config))
    decode = load_decoder("sd-vae", folder, scale=given)
    assert torch.equal(decode(latents).images[:1], pixels(decode.half(latents[:1] / used)))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_nothing_can_be_divided_by_is_refused(folder: Path, scale: float) -> None:
    with pytest.raises(ValueError, match=r"scale must be a finite number above 0"):
        load_decoder("sd-vae", folder, scale=scale)


def test_the_encoder_is_not_kept_in_memory(folder: Path, check_no_encoder: Callable[[], None]) -> None:
    decode = load_decoder("sd-vae", folder)
    check_no_encoder()
    kept = sum(parameter.numel() for parameter in decode.half.parameters())
    whole = AutoencoderKL.from_pretrained(folder)
    assert kept == sum(p.numel() for part in (whole.decoder, whole.post_quant_conv) for p in part.parameters())


def test_a_file_without_an_encoder_is_enough(folder: Path, latents: torch.Tensor) -> None:
    expected = load_decoder("sd-vae", folder)(latents).images
    rewrite(folder, lambda name, value: [] if name.startswith(("encoder.", "quant_conv.")) else [(name, value)])
    assert torch.equal(load_decoder("sd-vae", folder)(latents).images, expected)


def test_a_batch_of_three_is_three_batches_of_one(
    folder: Path, latents: torch.Tensor, check_batches: Callable[..., None]
) -> None:
    check_batches(load_decoder("sd-vae", folder), latents)


def test_a_model_is_found_under_vae_as_in_a_pipeline(folder: Path, latents: torch.Tensor) -> None:
    (folder.parent / "pipeline").mkdir()
    expected = load_decoder("sd-vae", folder)(latents).images
    folder.rename(folder.parent / "pipeline" / "vae")
    assert torch.equal(load_decoder("sd-vae", folder.parent / "pipeline")(latents).images, expected)


def test_weights_in_a_bin_file_are_read(folder: Path, latents: torch.Tensor) -> None:
    expected = load_decoder("sd-vae", folder)(latents).images
    torch.save(load_file(folder / WEIGHTS), folder / "diffusion_pytorch_model.bin")
    (folder / WEIGHTS).unlink()
    assert torch.equal(load_decoder("sd-vae", folder)(latents).images, expected)


@pytest.mark.parametrize("convolutions", [False, True])
def test_attention_under_the_names_of_former_diffusers_is_read(
    folder: Path, latents: torch.Tensor, convolutions: bool
) -> None:
    expected = load_decoder("sd-vae", folder)(latents).images
    former = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def renamed(name: str, value: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
        for now, before in former.items():
            if f".{now}." in name:
                wide = value[..., None, None] if convolutions and value.ndim == 2 else value
                return [(name.replace(now, before), wide.contiguous())]
        return [(name, value)]

    rewrite(folder, renamed)
    assert any(".query." in name for name in load_file(folder / WEIGHTS))
    assert torch.equal(load_decoder("sd-vae", folder)(latents).images, expected)


def test_weights_in_half_precision_are_computed_with_in_float32_without_gradients(folder: Path) -> None:
    rewrite(folder, lambda name, value: [(name, value.half())])
    half = load_decoder("sd-vae", folder).half
    assert {(p.dtype, p.requires_grad) for p in half.parameters()} == {(torch.float32, False)}
    assert not any(module.training for module in half.modules())


def test_latents_with_other_channels_are_refused_before_any_work(folder: Path) -> None:
    decode = load_decoder("sd-vae", folder)
    decode.half.forward = lambda z: pytest.fail("decoded them")
    assert decode.channels == 4
    with pytest.raises(
        ValueError, match=r"sd-vae takes latents with 4 channels.* these have 8, with shape \(2, 8, 4, 4"
    ):
        decode(torch.zeros(2, 8, 4, 4))


def test_tensors_that_do_not_fit_are_named(folder: Path) -> None:
    def broken(name: str, value: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
        if name == "decoder.conv_in.bias":
            return [("decoder.extra.bias", value)]
        return [(name, value[:2].contiguous() if name == "post_quant_conv.bias" else value)]

    rewrite(folder, broken)
    with pytest.raises(DecoderError) as refused:
        load_decoder("sd-vae", folder)
    for part in (
        str(folder / WEIGHTS),
        "decoder.conv_in.bias is missing",
        "decoder.extra.bias is not part of it",
        "post_quant_conv.bias is (2,), not (4,)",
    ):
        assert part in str(refused.value)


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DecoderError, match=f"{tmp_path}: has no config.json, and none in vae/; give"):
        load_decoder("sd-vae", tmp_path)


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    with pytest.raises(DecoderError, match=f"{folder}: has no weights; give .* {WEIGHTS} or .*bin"):
        load_decoder("sd-vae", folder)


def test_a_file_that_is_no_safetensors_file_is_refused(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DecoderError, match=f"{folder / WEIGHTS}: is a pointer of Git LFS"):
        load_decoder("sd-vae", folder)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"_class_name": "VQModel"}, "its _class_name must be 'AutoencoderKL', not 'VQModel'"),
        ({"out_channels": 1}, "decodes to 1 channels; give one that decodes to 3"),
        ({"shift_factor": 0.1}, "has shift_factor, which is not supported"),
        ({"up_block_types": ["NoSuchBlock"] * 2}, "configuration does not fit an AutoencoderKL: NoSuchBlock"),
    ],
)
def test_another_model_is_refused_by_its_configuration(folder: Path, changed: dict, said: str) -> None:
    config = json.loads((folder / "config.json").read_text()) | changed
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(DecoderError, match=said) as refused:
        load_decoder("sd-vae", folder)
    assert str(folder) in str(refused.value)


def test_the_folder_may_be_on_the_hub(folder: Path, latents: torch.Tensor, check_hub: Callable[..., None]) -> None:
    check_hub("sd-vae", folder, latents)
