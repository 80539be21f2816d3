"""What a file is, from its names and shapes alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import tailprune
from tailprune.checkpoints.load import CheckpointError
from tailprune.checkpoints.recognition import groups, likeliest, parameter_counts, recognise
from tailprune.systems import MG, REPA, DiT, System
from tailprune.systems.dit import DiTConfig
from tests.tailprune.conftest import random_system
from tests.tailprune.parity import given, read

REFERENCE = Path(__file__).parents[2] / "reference"
OFFICIAL = json.loads((REFERENCE / "official_checkpoints.json").read_text())
SHAPES = {
    name: {tensor: tuple(said["shape"]) for tensor, said in listed["tensors"].items()}
    for name, listed in OFFICIAL.items()
}
SIZES = {
    "DiT-XL/2 256": "XL/2",
    "SiT-XL/2 256": "XL/2",
    "MDTv2-XL/2 256": "XL/2",
    "LightningDiT-XL/1 256": "XL/1",
    "REPA SiT-XL/2 256": "XL/2",
    "MG SiT-XL/2 256": "XL/2",
    "X-MDPT-S 256": "S/2",
    "X-MDPT-B 256": "B/2",
    "X-MDPT-L 256": "L/2",
    "MDSGen-B": "B",
}
FILE_NAMES = {
    "SiT-XL/2 256": "SiT-XL-2-256x256.pt",
    "DiT-XL/2 256": "DiT-XL-2-256x256.pt",
    "MG SiT-XL/2 256": "MG-SiT-XL-2.pt",
}
"""Of the files whose tensors several families have by name and shape."""


@pytest.mark.parametrize("name", OFFICIAL)
def test_a_published_file_is_recognised_with_its_size_and_every_tensor_is_claimed(name: str) -> None:
    file_name = FILE_NAMES.get(name, "")
    first = likeliest(recognise(SHAPES[name]), [file_name])
    assert first is not None
    assert first.family == OFFICIAL[name]["family"]
    assert first.size == SIZES[name]
    assert first.configuration is not None
    assert first.configuration.hidden_size == OFFICIAL[name]["condition_dim"]
    assert {*first.names.values(), *first.left_out} == SHAPES[name].keys()


@pytest.mark.parametrize("name", OFFICIAL)
def test_parameters_and_adaln_of_a_published_file_are_counted_as_published(name: str) -> None:
    assert parameter_counts(SHAPES[name]) == (OFFICIAL[name]["parameters"], OFFICIAL[name]["adaln_parameters"])


def test_names_and_shapes_do_not_tell_dit_from_sit() -> None:
    assert SHAPES["DiT-XL/2 256"] == SHAPES["SiT-XL/2 256"]
    readings = recognise(SHAPES["DiT-XL/2 256"])
    assert {"dit", "sit"} <= {reading.family for reading in readings}
    assert likeliest(readings, ["0400000.pt", "checkpoints"]) is None


@pytest.mark.parametrize(
    ("said", "family"),
    [
        (["imgnet-sit.pt"], "sit"),
        (["babysit.pt"], None),
        (["0400000.pt", "checkpoints", "000-SiT-S-2-Linear-velocity-None"], "sit"),
        (["SiT-XL/2", "0400000.pt"], "sit"),
        (["SiT-XL-2-MG.pt"], "mg"),
        (["SiT-XL/2", "last.pt", "MG"], "mg"),  # MG trains a network that its options name SiT
        (["sit.pt", "repa"], "repa"),
        (["sit.pt", "repa", "mg"], None),
        (["mg.pt", "SiT"], "mg"),
        (["sit.pt", "dit"], "sit"),  # the nearest text counts
        (["dit.pt", "sit"], "dit"),
        (["dit-or-mg.pt"], None),
        (["dit-or-sit"], None),
        (["mdt.pt"], None),  # no family that the file fits
    ],
)
def test_a_text_chooses_among_families_with_the_same_tensors(said: list[str], family: str | None) -> None:
    found = likeliest(recognise(SHAPES["MG SiT-XL/2 256"]), said)
    assert (found and found.family) == family


@pytest.mark.parametrize("name", ["SiT-XL/2 256", "MG SiT-XL/2 256"])
def test_query_and_key_norm_alone_does_not_tell_the_family(name: str) -> None:
    shapes = dict(SHAPES[name])
    for block in range(28):
        for of in ("q_norm", "k_norm"):
            shapes |= {f"blocks.{block}.attn.{of}.weight": (72,), f"blocks.{block}.attn.{of}.bias": (72,)}
    fitting = recognise(shapes)
    assert {"sit", "repa"} <= {each.family for each in fitting}
    assert likeliest(fitting, []) is None
    assert all(isinstance(each.configuration, DiTConfig) and each.configuration.qk_norm for each in fitting[:2])


@pytest.mark.parametrize("path", sorted(REFERENCE.glob("*.pt.xz")), ids=lambda path: path.name.split(".")[0])
def test_a_reference_case_is_inspected_for_what_it_is(path: Path, tmp_path: Path) -> None:
    case = read(path)
    torch.save({"ema": case["state_dict"]}, tmp_path / "case.pt")
    known = {"family": case["family"]} if case["family"] in ("dit", "sit", "mg") else {}
    found = tailprune.inspect(tmp_path / "case.pt", **known, **given(case))
    assert found.family == case["family"]
    assert (
        found.configuration.items()
        >= {key: value for key, value in case["config"].items() if key in found.configuration}.items()
    )
    assert found.latent_shape == tuple(case["inputs"]["z"].shape[1:])
    assert found.held_under == "ema"
    assert str(found).count("million parameters") == 1


def test_what_served_training_alone_is_reported_and_not_kept(tmp_path: Path) -> None:
    case = read(REFERENCE / "mdt-a.pt.xz")
    save_file(case["state_dict"], tmp_path / "mdt.safetensors")
    found = tailprune.inspect(tmp_path / "mdt.safetensors", num_heads=4)
    assert found.left_out == {"mask_token": 1, "sideblocks": 12}
    assert "left out, since only training uses it: mask_token (1 tensors), sideblocks (12 tensors)" in str(found)
    kept = tailprune.load(tmp_path / "mdt.safetensors", num_heads=4).state_dict()
    assert not any(name.startswith(("mask_token", "sideblocks")) for name in kept)
    assert len(kept) + 13 == len(case["state_dict"])


def test_a_file_read_as_the_wrong_family_is_refused_with_the_one_it_looks_like(tmp_path: Path) -> None:
    case = read(REFERENCE / "mdt-a.pt.xz")
    save_file(case["state_dict"], tmp_path / "last.safetensors")
    with pytest.raises(CheckpointError) as error:
        tailprune.load(tmp_path / "last.safetensors", family="dit", num_heads=4)
    message = str(error.value)
    assert "last.safetensors: does not fit dit: there is no tensor named 'blocks.0.mlp.fc1.weight'" in message
    assert message.endswith("; it fits mdt")


def test_a_file_that_fits_nothing_is_refused_with_the_nearest_and_what_is_wrong(tmp_path: Path) -> None:
    case = read(REFERENCE / "lightningdit-a.pt.xz")
    state = dict(case["state_dict"])
    del state["blocks.2.mlp.w3.bias"]
    save_file(state, tmp_path / "cut.safetensors")
    for family in (None, "sit"):
        with pytest.raises(CheckpointError, match=r"nearest is lightningdit, but .*blocks.2.mlp.w3.bias is missing"):
            tailprune.load(tmp_path / "cut.safetensors", family=family, num_heads=4)


def test_a_file_of_something_else_is_refused_with_what_it_has(tmp_path: Path) -> None:
    torch.save(read(REFERENCE / "mdt-a.pt.xz")["state_dict"], tmp_path / "last.pt")
    has = (
        "; the file has pos_embed, decoder_pos_embed, mask_token, x_embedder, t_embedder, y_embedder, en_inblocks, "
        "en_outblocks, de_blocks, sideblocks, final_layer; it fits mdt"
    )
    with pytest.raises(CheckpointError, match=has):
        tailprune.load(tmp_path / "last.pt", family="dit", num_heads=4)
    unet = {"model.unet.down.weight": torch.zeros(2), "model.unet.up.weight": torch.zeros(3)}
    torch.save(unet, tmp_path / "unet.pt")
    for ask, family in ((tailprune.load, None), (tailprune.load, "mdt"), (tailprune.load_condition, "mdt")):
        with pytest.raises(CheckpointError, match=r"; the file has model\.unet\.down, model\.unet\.up$"):
            ask(tmp_path / "unet.pt", family=family)


def test_what_a_file_has_is_described_in_short() -> None:
    said = groups({f"{'a' * 1000}{n}.weight": (1,) for n in range(100)})
    assert said.endswith(", and 88 more")
    assert len(said) < 600


@pytest.mark.parametrize(
    ("family", "words"), [(None, "the nearest is mdt, but"), ("dit", "the nearest is mdt, but there")]
)
def test_a_given_value_that_the_family_of_the_file_refuses_is_complained_of(
    tmp_path: Path, family: str | None, words: str
) -> None:
    save_file(read(REFERENCE / "mdt-a.pt.xz")["state_dict"], tmp_path / "last.safetensors")
    with pytest.raises(CheckpointError, match=f"{words} num_heads = 5 was given, but the tensors have 4 heads$"):
        tailprune.load(tmp_path / "last.safetensors", family=family, num_heads=5)


def test_a_given_value_is_complained_of_where_another_value_is_not_told(tmp_path: Path) -> None:
    save_file(read(REFERENCE / "mdsgen-a.pt.xz")["state_dict"], tmp_path / "last.safetensors")
    with pytest.raises(CheckpointError, match="the nearest is mdsgen, but num_heads = 5 was given"):
        tailprune.load(tmp_path / "last.safetensors", num_heads=5)


@pytest.mark.parametrize("encoder_depth", [1, 2])
def test_the_old_names_of_repa_blocks_are_understood(tmp_path: Path, encoder_depth: int) -> None:
    case = read(REFERENCE / "repa-a.pt.xz")

    def old(name: str) -> str:
        for block in range(encoder_depth, 3):
            name = name.replace(f"blocks.{block}.", f"decoder_blocks.{block - encoder_depth}.")
        return name

    legacy = {old(name): tensor for name, tensor in case["state_dict"].items()}
    legacy |= {name.replace("projectors.0", "projectors.1"): t.clone() for name, t in legacy.items() if "proj" in name}
    torch.save(case["state_dict"], tmp_path / "new.pt")
    torch.save(legacy, tmp_path / "old.pt")
    new, loaded = (tailprune.load(tmp_path / name, num_heads=4) for name in ("new.pt", "old.pt"))
    assert loaded.family == "repa"
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in new.state_dict().items())


def test_a_number_of_heads_that_the_tensors_contradict_is_refused(tmp_path: Path) -> None:
    save_file(read(REFERENCE / "lightningdit-a.pt.xz")["state_dict"], tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="num_heads = 6 was given, but the tensors have 4 heads"):
        tailprune.load(tmp_path / "a.safetensors", family="lightningdit", num_heads=6)


@pytest.mark.parametrize("cls", [DiT, REPA, MG])
def test_a_file_that_several_families_fit_says_so(tmp_path: Path, cls: type[System]) -> None:
    system = random_system(cls, learn_sigma=False)
    save_file(system.state_dict(), tmp_path / "a.safetensors")
    found = tailprune.inspect(tmp_path / "a.safetensors", family=cls.family, num_heads=4)
    assert {"dit", "sit", "repa", "mg"} - {cls.family} <= set(found.also_fits)
    assert "have the same tensors; give family" in str(found)


def test_a_decode_layer_that_nothing_tells_is_asked_for(tmp_path: Path) -> None:
    save_file(read(REFERENCE / "mdsgen-a.pt.xz")["state_dict"], tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"of the 2 blocks .* number, 4, is too large: give decode_layer"):
        tailprune.load(tmp_path / "a.safetensors")
    assert tailprune.load(tmp_path / "a.safetensors", decode_layer=1).family == "mdsgen"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"labels": torch.tensor([1]), "video": torch.zeros(1, 32, 512)},
            "takes the inputs labels, not labels, video",
        ),
        ({"labels": torch.tensor([1]), "scale": torch.tensor([2.0])}, "takes the inputs labels, not labels, scale"),
        ({"video": torch.zeros(1, 32, 512)}, "takes the inputs labels, not video"),
    ],
)
def test_a_label_system_refuses_what_it_is_not_conditioned_on(inputs: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tailprune.sample(random_system(DiT), inputs, steps=2, seeds=[0])
