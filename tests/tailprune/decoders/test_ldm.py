"""VA-VAE's decoder from a file in the LDM code's format."""

from __future__ import annotations

import pathlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tailprune.checkpoints import HubError
from tailprune.decoders import DecoderError, load_decoder, pixels
from tests.hub import write_cached
from tests.tailprune.decoders.autoencoders import ldm_decode, ldm_weights, statistics, tiny_vae

SHAPES = {
    "tiny": {"widths": (32, 64), "z": 4, "resnets": 2},
    "f16d32": {"widths": (32, 32, 64, 64, 128), "z": 32, "resnets": 3, "attentive": (4,)},
    "attention in the middle": {"widths": (64, 32, 32), "z": 8, "resnets": 1, "attentive": (1,)},
}


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    return ldm_weights(**SHAPES["tiny"])


@pytest.fixture
def stats(tmp_path: Path) -> Path:
    return statistics(tmp_path / "latents_stats.pt", 4)[0]


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("shape", SHAPES)
def test_the_decoder_agrees_with_a_reference_of_the_ldm_code(tmp_path: Path, shape: str) -> None:
    weights, channels = ldm_weights(**SHAPES[shape]), SHAPES[shape]["z"]
    stats, _, _ = statistics(tmp_path / "stats.pt", channels)
    decode = load_decoder("va-vae", saved(tmp_path / "vae.pt", weights), statistics=stats)
    z = torch.randn(2, channels, 3, 2, generator=torch.Generator().manual_seed(1))
    expected = ldm_decode(weights, z)
    assert expected.std() > 0.1
    # Both in float32; they multiply matrices in another order.
    torch.testing.assert_close(decode.half(z), expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize(("scale", "multiplier"), [(None, 1.0), (0.5, 0.5)])
def test_latents_are_scaled_and_shifted_back_by_the_statistics(
    tmp_path: Path, weights: dict[str, torch.Tensor], scale: float | None, multiplier: float
) -> None:
    stats, mean, std = statistics(tmp_path / "stats.pt", 4)
    decode = load_decoder("va-vae", saved(tmp_path / "vae.pt", weights), statistics=stats, scale=scale)
    x = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(2))
    shown = decode(x)
    assert (shown.images.shape, shown.shows) == ((2, 8, 8, 3), "image")
    expected = pixels(ldm_decode(weights, x / multiplier * std + mean))
    torch.testing.assert_close(shown.images.int(), expected.int(), atol=1, rtol=0)  # a level, where rounding is even


def test_statistics_may_be_vectors(tmp_path: Path, weights: dict[str, torch.Tensor], stats: Path) -> None:
    flat = {name: value.flatten() for name, value in torch.load(stats).items()}
    file = saved(tmp_path / "vae.pt", weights)
    x = torch.randn(1, 4, 4, 4)
    images = [load_decoder("va-vae", file, statistics=s)(x).images for s in (stats, saved(tmp_path / "flat.pt", flat))]
    assert torch.equal(*images)


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".safetensors"])
def test_the_file_may_be_of_any_published_kind(
    tmp_path: Path, weights: dict[str, torch.Tensor], stats: Path, suffix: str
) -> None:
    file = tmp_path / f"vae{suffix}"
    if suffix == ".safetensors":
        save_file(weights, file)
    else:
        torch.save({"state_dict": weights, "epoch": 3}, file)
    assert load_decoder("va-vae", file, statistics=stats)(torch.zeros(1, 4, 4, 4)).images.shape == (1, 8, 8, 3)


def test_foreign_tensors_of_training_are_ignored(tmp_path: Path, weights: dict[str, torch.Tensor], stats: Path) -> None:
    foreign = ("loss.discriminator.main.0.weight", "foundation_model.model.norm.weight", "linear_proj.weight")
    foreign += ("encoder.conv_in.weight", "quant_conv.weight")
    together = weights | {name: torch.zeros(3, 5) for name in foreign}
    x = torch.randn(1, 4, 4, 4)
    files = saved(tmp_path / "with.pt", {"state_dict": together}), saved(tmp_path / "without.pt", weights)
    assert torch.equal(*[load_decoder("va-vae", file, statistics=stats)(x).images for file in files])


def run(path: Path) -> None:
    path.touch()


class Poison:
    """What a pickle can do to who runs it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return run, (self.path,)


def test_objects_of_a_training_checkpoint_are_passed_over_and_not_run(
    tmp_path: Path, weights: dict[str, torch.Tensor], stats: Path
) -> None:
    callbacks = {Poison: Counter(a=1), "poison": Poison(tmp_path / "run"), "path": pathlib.PurePosixPath("a")}
    file = saved(tmp_path / "last.ckpt", {"callbacks": callbacks, "state_dict": weights})
    load_decoder("va-vae", file, statistics=stats)
    assert not (tmp_path / "run").exists()


def test_a_folder_of_diffusers_is_taken_too_and_its_scaling_factor_is_not_that_of_the_statistics(
    tmp_path: Path, stats: Path
) -> None:
    vae = tiny_vae(scaling_factor=0.1)
    vae.save_pretrained(tmp_path / "vae")
    x = torch.randn(1, 4, 4, 4)
    found = torch.load(stats)
    expected = pixels(vae.decode(x * found["std"] + found["mean"]).sample)
    for source in (tmp_path, tmp_path / "vae"):
        images = load_decoder("va-vae", source, statistics=stats)(x).images
        torch.testing.assert_close(images.int(), expected.int(), atol=1, rtol=0)


def test_a_batch_of_three_is_three_batches_of_one(
    tmp_path: Path, weights: dict[str, torch.Tensor], stats: Path, check_batches: Callable[..., None]
) -> None:
    decode = load_decoder("va-vae", saved(tmp_path / "vae.pt", weights), statistics=stats)
    check_batches(decode, torch.randn(3, 4, 4, 4))


def test_without_statistics_it_says_that_it_needs_them(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match=r"decoder 'va-vae' needs statistics: the latents_stats.pt"):
        load_decoder("va-vae", saved(tmp_path / "vae.pt", weights))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"mean": torch.zeros(4)}, "std is missing"),
        ({"mean": torch.zeros(8), "std": torch.ones(4)}, r"mean has shape \(8,\); give mean and std with shape"),
        ({"mean": torch.zeros(4), "std": torch.tensor([1.0, 1, 0, 1])}, "std must be above 0 in every channel"),
        ({"mean": torch.full((4,), float("nan")), "std": torch.ones(4)}, "mean holds NaN or infinity"),
    ],
)
def test_statistics_of_another_model_are_refused(
    tmp_path: Path, weights: dict[str, torch.Tensor], content: dict, said: str
) -> None:
    file, stats = saved(tmp_path / "vae.pt", weights), saved(tmp_path / "other.pt", content)
    with pytest.raises(DecoderError, match=f"{stats}: {said}"):
        load_decoder("va-vae", file, statistics=stats)


def test_latents_with_other_channels_are_refused(tmp_path: Path, weights: dict[str, torch.Tensor], stats: Path) -> None:
    decode = load_decoder("va-vae", saved(tmp_path / "vae.pt", weights), statistics=stats)
    assert decode.channels == 4
    with pytest.raises(ValueError, match=r"va-vae takes latents with 4 channels.* these have 32"):
        decode(torch.zeros(1, 32, 4, 4))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"decoder.mid.block_1.conv1.bias": None}, "decoder.mid.block_1.conv1.bias is missing"),
        (
            {"decoder.up.1.upsample.conv.bias": torch.zeros(7)},
            r"decoder.up.1.upsample.conv.bias is \(7,\), not \(64,\)",
        ),
        ({"decoder.temb.weight": torch.zeros(7)}, "decoder.temb.weight is not part of it"),
        ({"post_quant_conv.weight": None}, "post_quant_conv.weight must exist"),
        ({"decoder.up.0.block.1.conv2.weight": None}, "the file has N.M = 0.0, 1.0, 1.1"),
        (
            {f"decoder.up.0.block.{block}.conv2.weight": None for block in (0, 1)},
            "every level N, from 0, .*; the file has N.M = 1.0, 1.1",
        ),
        (
            {"decoder.up.0.block.0.conv2.weight": torch.tensor(1.0)},
            "decoder.up.0.block.0.conv2.weight must exist, with four dimensions",
        ),
        ({"decoder.up.0.block.0.conv2.weight": torch.zeros(48, 48, 3, 3)}, "a level has 48 channels"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_its_tensors_under_their_names_there(
    tmp_path: Path, weights: dict[str, torch.Tensor], stats: Path, changed: dict, said: str
) -> None:
    content = {name: value for name, value in (weights | changed).items() if value is not None}
    file = saved(tmp_path / "vae.pt", content)
    with pytest.raises(DecoderError, match=f"{file}: .*{said}"):
        load_decoder("va-vae", file, statistics=stats)


def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path, stats: Path) -> None:
    file = saved(tmp_path / "dit.pt", {"model": {"x_embedder.proj.weight": torch.zeros(2, 2)}})
    with pytest.raises(DecoderError, match=f"{file}: is not an autoencoder in the LDM code's format.*file has none"):
        load_decoder("va-vae", file, statistics=stats)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "no checkpoint at"), (b"", "is empty"), (b"PK but no archive", "a zip archive that was cut short")],
)
def test_what_is_no_file_of_tensors_is_refused(tmp_path: Path, stats: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "vae.pt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DecoderError, match=said) as error:
        load_decoder("va-vae", file, statistics=stats)
    assert str(file) in str(error.value)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of the hub; nothing is fetched into it."""
    monkeypatch.setenv("TAILPRUNE_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TAILPRUNE_OFFLINE", "1")
    return tmp_path / "hub"


def test_file_and_statistics_may_be_on_the_hub(
    tmp_path: Path, weights: dict[str, torch.Tensor], stats: Path, hub_cache: Path
) -> None:
    file = saved(tmp_path / "vae.pt", weights)
    write_cached(hub_cache, "owner/vae", {"vae.pt": file.read_bytes(), "latents_stats.pt": stats.read_bytes()})
    far = load_decoder("va-vae", "hf://owner/vae/vae.pt", statistics="hf://owner/vae/latents_stats.pt")
    x = torch.randn(1, 4, 4, 4)
    assert torch.equal(far(x).images, load_decoder("va-vae", file, statistics=stats)(x).images)


@pytest.mark.parametrize("files", [{}, {"model.safetensors": b"weights"}], ids=["nothing", "no folder of diffusers"])
def test_a_repository_whose_file_has_to_be_named_says_so(stats: Path, hub_cache: Path, files: dict[str, bytes]) -> None:
    write_cached(hub_cache, "owner/vae", {"vae.pt": b"weights", **files})
    with pytest.raises((HubError, DecoderError), match=r"needs its file named: hf://owner/vae/FILE\.pt$"):
        load_decoder("va-vae", "hf://owner/vae", statistics=stats)


def test_a_diffusers_folder_of_the_hub_with_unfit_statistics_is_not_asked_to_be_named(
    tmp_path: Path, hub_cache: Path
) -> None:
    tiny_vae().save_pretrained(tmp_path / "vae")
    write_cached(hub_cache, "owner/vae", {path.name: path.read_bytes() for path in (tmp_path / "vae").iterdir()})
    wrong, _, _ = statistics(tmp_path / "stats.pt", 3)
    with pytest.raises(DecoderError, match="give mean and std with shape") as error:
        load_decoder("va-vae", "hf://owner/vae", statistics=wrong)
    assert "named" not in str(error.value)
    right, _, _ = statistics(tmp_path / "right.pt", 4)
    assert load_decoder("va-vae", "hf://owner/vae", statistics=right).channels == 4


def test_a_file_of_the_hub_that_is_not_there_is_not_asked_to_be_named(stats: Path, hub_cache: Path) -> None:
    with pytest.raises(HubError, match=r"hf://owner/vae/vae\.pt is not in the cache") as error:
        load_decoder("va-vae", "hf://owner/vae/vae.pt", statistics=stats)
    assert "named" not in str(error.value)
