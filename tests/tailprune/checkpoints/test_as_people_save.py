"""Checkpoints as training scripts and downloads leave them: read as their authors mean, or refused with the way out."""

from __future__ import annotations

import argparse
import hashlib
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import tailprune
from tailprune.checkpoints import CheckpointError, HubError, fetch
from tailprune.systems import DiT, SiT, System
from tests.hub import write_cached
from tests.tailprune.conftest import random_system

State = dict[str, Tensor]
AS_DIT: dict[str, Any] = {"family": "dit", "num_heads": 4}


@pytest.fixture
def state(dit: System) -> State:
    return dict(dit.state_dict())


@pytest.fixture
def raw(state: State) -> State:
    return {name: tensor + 1 for name, tensor in state.items()}


def loaded_is(path: Path, state: State, **given: Any) -> bool:
    found = tailprune.load(path, **(AS_DIT | given)).state_dict()
    return all(torch.equal(found[name], tensor) for name, tensor in state.items())


# The family


@pytest.fixture
def own_sit() -> State:
    """A SiT of a user's own, trained without learn_sigma: tensors that DiT, REPA and MG may have too."""
    return dict(random_system(SiT, learn_sigma=False).state_dict())


def test_a_file_that_names_no_family_is_refused_with_those_it_may_be(own_sit: State, tmp_path: Path) -> None:
    torch.save({"ema": own_sit}, tmp_path / "0400000.pt")
    for read in (tailprune.load, tailprune.load_condition, tailprune.inspect):
        with pytest.raises(ValueError, match=r"0400000\.pt: .*give family, one of dit, sit, .*repa, mg$"):
            read(tmp_path / "0400000.pt", num_heads=4)


def test_the_folder_of_a_run_names_the_family(own_sit: State, tmp_path: Path) -> None:
    path = tmp_path / "000-SiT-S-2-Linear-velocity-None" / "checkpoints" / "0400000.pt"
    path.parent.mkdir(parents=True)
    torch.save({"ema": own_sit}, path)
    assert tailprune.load(path, num_heads=4).family == "sit"


class Config:
    """An object with attributes, such as a script pickles beside its weights."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


@pytest.mark.parametrize(
    "beside",
    [
        {"args": argparse.Namespace(model="SiT-XL/2", num_heads=8)},
        {"config": {"model": {"name": "x", "_target_": "models.sit.SiT", "num_heads": 8}}},
        {"hyper_parameters": {"arch": "SiT-S/2", "n_heads": 8}},
        {"cfg": Config(_content={"model": Config(_val="SiT-B/2"), "num_heads": Config(_val=8)})},
    ],
    ids=["Namespace", "dict", "Lightning", "OmegaConf"],
)
def test_the_options_of_its_training_name_family_and_heads(
    own_sit: State, tmp_path: Path, beside: dict[str, Any]
) -> None:
    torch.save({"ema": own_sit, **beside}, tmp_path / "0400000.pt")
    found = tailprune.inspect(tmp_path / "0400000.pt")
    assert (found.family, found.configuration["num_heads"], found.heads_assumed) == ("sit", 8, False)


def test_a_configuration_beside_the_weights_names_family_and_heads(own_sit: State, tmp_path: Path) -> None:
    save_file(own_sit, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "sit", "num_heads": 8}))
    found = tailprune.inspect(tmp_path)
    assert (found.family, found.configuration["num_heads"]) == ("sit", 8)


STATED = {
    "Namespace": {"args": argparse.Namespace(model="SiT-XL/2", depth=2, num_heads=8)},
    "dict": {"config": {"model": {"_target_": "models.sit.SiT", "num_heads": 8, "params": {"depth": 2}}}},
    "Lightning": {"hyper_parameters": {"arch": "SiT-S/2", "n_heads": 8, "num_layers": 2, "hidden_size": 32}},
    "OmegaConf": {"cfg": Config(_content={"model": Config(_val="SiT-B/2"), "n_heads": 8, "depth": Config(_val=2)})},
    "flat": {"arch": "sit", "num_heads": 8, "depth": 2},
}


def without_last_block(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if not name.startswith("blocks.1.")}


@pytest.mark.parametrize("beside", STATED.values(), ids=STATED)
@pytest.mark.parametrize("key", ["ema", "state_dict"])
def test_a_file_without_its_last_block_is_refused_if_its_options_state_the_depth(
    own_sit: State, tmp_path: Path, beside: dict[str, Any], key: str
) -> None:
    path = tmp_path / "0400000.pt"
    torch.save({key: own_sit, **beside}, path)
    assert tailprune.load(path).config.depth == 2
    torch.save({key: without_last_block(own_sit), **beside}, path)
    for call in (tailprune.load, tailprune.inspect):
        with pytest.raises(CheckpointError, match=r"state \w+ = 2, but it has the tensors of 1 blocks: it was cut"):
            call(path)


def test_a_configuration_beside_the_weights_or_metadata_state_the_depth_too(own_sit: State, tmp_path: Path) -> None:
    stated = {"model_type": "sit", "num_heads": 8, "depth": 2}
    cut = without_last_block(own_sit)
    save_file(cut, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(stated))
    save_file(cut, tmp_path / "sit.safetensors", {name: str(value) for name, value in stated.items()})
    save_file(cut, tmp_path / "sit-b.safetensors", {"config": json.dumps(stated)})
    for path in (tmp_path, tmp_path / "sit.safetensors", tmp_path / "sit-b.safetensors"):
        with pytest.raises(CheckpointError, match="its options state depth = 2"):
            tailprune.load(path)


@pytest.mark.parametrize(
    "beside",
    [
        {"config": {"vae": {"depth": 4}, "text_encoder": {"num_layers": 12}, "model": "sit", "num_heads": 8}},
        {"config": {"model": "sit", "num_heads": 8, "projector": {"num_layers": 3}, "encoder_depth": 8}},
        {"config": {"model": {"arch": "sit", "num_layers": 12, "hidden_size": 768}, "num_heads": 8}},
        {"config": {"model": "sit", "depth": 2, "num_heads": 8, "network": {"num_layers": 5}}},
        {"config": {"model": "sit", "depth": "deep", "num_heads": 8, "num_layers": None, "n_layers": 0}},
    ],
    ids=["of other parts", "of training", "of another width", "one of two", "no numbers"],
)
def test_a_depth_that_is_of_another_network_is_passed_over(
    own_sit: State, tmp_path: Path, beside: dict[str, Any]
) -> None:
    torch.save({"ema": own_sit, **beside}, tmp_path / "0400000.pt")
    assert tailprune.load(tmp_path / "0400000.pt").config.depth == 2


def test_a_number_of_heads_that_is_only_assumed_is_said(tmp_path: Path) -> None:
    save_file(dict(random_system(DiT, hidden_size=384, num_heads=8).state_dict()), tmp_path / "dit.safetensors")
    found = tailprune.inspect(tmp_path / "dit.safetensors")
    assert found.heads_assumed
    assert "6 attention heads, assumed as published for a width of 384: if it has another number, give" in str(found)
    told = tailprune.inspect(tmp_path / "dit.safetensors", num_heads=8)
    assert not told.heads_assumed
    assert "8 attention heads\n" in str(told) + "\n"


# Raw and averaged weights


@pytest.mark.parametrize(
    "key",
    [
        "ema", "model_ema", "ema_model", "ema_state_dict", "state_dict_ema", "ema_weights", "model_ema1", "EMA",
        "emaModel", "swa_model", "ema_0.9999",
    ],
)  # fmt: skip
def test_the_averaged_weights_are_taken_under_any_usual_key(state: State, raw: State, tmp_path: Path, key: str) -> None:
    torch.save({"model": raw, key: state, "opt": {"state": {0: {"exp_avg": torch.ones(3)}}}}, tmp_path / "last.pt")
    assert loaded_is(tmp_path / "last.pt", state)
    assert loaded_is(tmp_path / "last.pt", raw, key="model")
    found = tailprune.inspect(tmp_path / "last.pt", **AS_DIT)
    assert (found.held_under, found.beside) == (key, ("model",))
    assert f"weights under the key {key!r}; not used: 'model'" in str(found)


@pytest.mark.parametrize(
    "names",
    [
        lambda state, raw: {f"model.{n}": t for n, t in raw.items()} | {f"ema.{n}": t for n, t in state.items()},
        lambda state, raw: (
            {f"online_model.{n}": t for n, t in raw.items()}
            | {f"ema_model.module.{n}": t for n, t in state.items()}
            | {"initted": torch.tensor(True), "step": torch.tensor(3)}
        ),
        lambda state, raw: raw | {f"ema.{n}": t for n, t in state.items()},
        lambda state, raw: (
            {f"model.diffusion_model.{n}": t for n, t in raw.items()}
            | {f"model_ema.diffusion_model{n.replace('.', '')}": t for n, t in state.items()}
            | {"model_ema.decay": torch.tensor(0.9)}
        ),
    ],
    ids=["prefixes", "two models in one", "average beside the names", "names without dots"],
)
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_averaged_weights_in_one_mapping_with_the_raw_ones_are_taken(
    state: State, raw: State, tmp_path: Path, names: Callable[[State, State], State], suffix: str
) -> None:
    path, both = tmp_path / f"last{suffix}", names(state, raw)
    save_file(both, path) if suffix == ".safetensors" else torch.save({"state_dict": both}, path)
    assert loaded_is(path, state)


def test_fixed_positions_that_an_average_lacks_are_those_of_the_raw_weights(
    state: State, raw: State, tmp_path: Path
) -> None:
    trained = {name: tensor for name, tensor in state.items() if name != "pos_embed"}
    torch.save({"model": raw, "ema": {"shadow": trained, "decay": 0.999}}, tmp_path / "last.pt")
    assert loaded_is(tmp_path / "last.pt", trained | {"pos_embed": raw["pos_embed"]})


@pytest.mark.parametrize("keys", [("model", "best"), ("ema", "ema2"), ("generator", "teacher")])
def test_two_copies_of_which_none_is_meant_are_refused_until_one_is_chosen(
    state: State, raw: State, tmp_path: Path, keys: tuple[str, str]
) -> None:
    first, second = keys
    torch.save({first: raw, second: state}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=f"weights more than once, under '{first}' and '{second}': give key"):
        tailprune.load(tmp_path / "last.pt", **AS_DIT)
    assert loaded_is(tmp_path / "last.pt", state, key=second)
    with pytest.raises(CheckpointError, match=f"no tensors under the key 'none'; it has '{first}' and '{second}'"):
        tailprune.load(tmp_path / "last.pt", key="none", **AS_DIT)


@pytest.mark.parametrize(
    "average",
    [
        lambda state: {"shadow_params": list(state.values()), "decay": 0.999},
        lambda state: Config(shadow=dict(state)),
        lambda state: nn.Linear(2, 2),
        lambda state: {name.replace("blocks", "layers"): tensor for name, tensor in list(state.items())[:9]},
    ],
    ids=["a list", "an object", "a module", "other names"],
)
def test_an_average_that_cannot_be_read_is_not_passed_over(
    state: State, tmp_path: Path, average: Callable[[State], object]
) -> None:
    torch.save({"model": state, "ema": average(state)}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"averaged weights under 'ema.* cannot be read .*give key = 'model'"):
        tailprune.load(tmp_path / "last.pt", **AS_DIT)
    assert loaded_is(tmp_path / "last.pt", state, key="model")


@pytest.mark.parametrize(
    ("beside", "key"),
    [
        (lambda state: {"ema": {0.9999: state}}, "ema.0.9999"),
        (lambda state: {"emas": [{"std": 0.05, "state_dict": state}]}, "emas.0.state_dict"),
    ],
    ids=["by decay", "in a list"],
)
def test_an_average_by_its_decay_or_in_a_list_is_taken(
    state: State, raw: State, tmp_path: Path, beside: Callable[[State], dict[str, Any]], key: str
) -> None:
    torch.save({"model": raw, **beside(state)}, tmp_path / "last.pt")
    assert loaded_is(tmp_path / "last.pt", state)
    assert tailprune.inspect(tmp_path / "last.pt", **AS_DIT).held_under == key


@pytest.mark.parametrize(
    "beside",
    [
        lambda state: {"optimizer_states": [{"ema": list(state.values()), "state": {}}]},
        lambda state: {"ema": {name: tensor.numpy() for name, tensor in state.items()}},
    ],
    ids=["in an optimizer", "as arrays"],
)
def test_an_average_of_an_optimizer_or_of_arrays_is_not_passed_over(
    state: State, tmp_path: Path, beside: Callable[[State], dict[str, Any]]
) -> None:
    torch.save({"model": state, **beside(state)}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"averaged weights under '.*ema.* cannot be read .*give key = 'model'"):
        tailprune.load(tmp_path / "last.pt", **AS_DIT)


def test_moments_of_an_optimizer_are_no_average(state: State, raw: State, tmp_path: Path) -> None:
    torch.save({"model": state, "optimizer": {"exp_avg": raw}}, tmp_path / "last.pt")
    assert loaded_is(tmp_path / "last.pt", state)


def test_a_weight_that_an_average_lacks_is_not_taken_from_the_raw_ones(
    state: State, raw: State, tmp_path: Path
) -> None:
    del state["blocks.0.mlp.fc1.bias"]
    torch.save({"model": raw, "ema": state}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"blocks\.0\.mlp\.fc1\.bias is missing"):
        tailprune.load(tmp_path / "last.pt", **AS_DIT)


@pytest.mark.parametrize(
    ("convert", "message"),
    [
        (lambda tensor: (tensor * 9).to(torch.int8), r"is of type torch\.int8"),
        (lambda tensor: tensor.to(torch.complex64), "is of complex numbers"),
        (lambda tensor: tensor.to_sparse(), "is sparse"),
        (lambda tensor: tensor.to("meta"), "has a shape but no values"),
    ],
)
def test_weights_that_are_not_plain_floating_point_numbers_are_named(
    state: State, tmp_path: Path, convert: Callable[[Tensor], Tensor], message: str
) -> None:
    state["blocks.0.mlp.fc1.weight"] = convert(state["blocks.0.mlp.fc1.weight"])
    torch.save(state, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=rf"blocks\.0\.mlp\.fc1\.weight {message}"):
        tailprune.load(tmp_path / "last.pt", **AS_DIT)


def test_a_block_of_an_impossible_number_is_refused(state: State, tmp_path: Path) -> None:
    state = {name.replace("blocks.1.", "blocks.1000000000."): tensor for name, tensor in state.items()}
    torch.save(state, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"blocks\.1000000000 is among the names, but .* tensors cannot make"):
        tailprune.load(tmp_path / "last.pt", **AS_DIT)


# Names


@pytest.mark.parametrize(
    "wrap",
    [
        lambda name: f"_orig_mod.module.{name}",
        lambda name: name.replace("blocks.0.", "blocks.0._orig_mod."),
        lambda name: name.replace("blocks.1.", "blocks.1._checkpoint_wrapped_module."),
        lambda name: f"_fsdp_wrapped_module.{name.replace('.attn.', '.attn._fsdp_wrapped_module.')}",
        lambda name: f"model.{name}",
        lambda name: f"net.module.{name}",
        lambda name: f"model.diffusion_model.{name}",
    ],
)
@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "module", "net", "weights"])
def test_wrappers_are_dropped_wherever_they_stand(
    state: State, tmp_path: Path, wrap: Callable[[str], str], key: str
) -> None:
    torch.save({key: {wrap(name): tensor for name, tensor in state.items()}, "epoch": 3}, tmp_path / "last.pt")
    assert loaded_is(tmp_path / "last.pt", state)


def test_what_averaging_counts_is_dropped(state: State, tmp_path: Path) -> None:
    averaged = {f"module.{name}": tensor for name, tensor in state.items()} | {"n_averaged": torch.tensor(7)}
    torch.save(averaged, tmp_path / "swa.pt")
    assert loaded_is(tmp_path / "swa.pt", state)


def test_two_tensors_of_one_name_are_refused(state: State, tmp_path: Path) -> None:
    torch.save(state | {"module.pos_embed": state["pos_embed"] + 1}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"two tensors for pos_embed: pos_embed and module\.pos_embed"):
        tailprune.load(tmp_path / "last.pt", **AS_DIT)


def test_the_closest_name_is_said_for_one_that_is_missing(state: State, tmp_path: Path) -> None:
    state["blocks.0.attn.proj.weights"] = state.pop("blocks.0.attn.proj.weight")
    torch.save(state, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"weight is missing \(the closest is blocks\.0\.attn\.proj\.weights\)"):
        tailprune.load(tmp_path / "last.pt", **AS_DIT)


@pytest.mark.parametrize(
    "content", [nn.Linear(2, 2), {"model": nn.Linear(2, 2), "epoch": 3}], ids=["alone", "in a dict"]
)
def test_a_whole_module_is_refused_with_what_to_save(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "module.pt")
    with pytest.raises(CheckpointError, match=r"holds a whole module.*torch\.save\(module\.state_dict\(\), path\)"):
        tailprune.load(tmp_path / "module.pt", **AS_DIT)


def test_a_file_of_arrays_is_refused_as_such(state: State, tmp_path: Path) -> None:
    torch.save({"model": {name: tensor.numpy() for name, tensor in state.items()}}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"only in lists, arrays or objects, such as 'model\.pos_embed': save"):
        tailprune.load(tmp_path / "last.pt", **AS_DIT)


def test_a_file_without_tensors_says_which_keys_it_has(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="no named tensors; its keys are epoch, lr: save the state_dict"):
        tailprune.load(tmp_path / "last.pt", **AS_DIT)


# Files that are not what their names say


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.safetensors",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2700593336\n",
            "git lfs pull",
        ),
        ("a.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a pointer of Git LFS"),
        ("a.pt", b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>", r"a web page \('Sign in'\)"),
        ("a.safetensors", b"\xef\xbb\xbf\n<html></html>", "a web page, not the file"),
        ("a.bin", b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a web page"),
        ("a.pt", b'{"error": "Repository not found"}', r"a text, '\{\"error\""),
        ("a.pt", b"\x1f\x8b\x08" + bytes(range(200)), "a gzip archive: unpack it"),
        ("a.bin", b"GGUF\x03" + bytes(40), "a GGUF file"),
        ("a.ckpt", b"\x89HDF\r\n\x1a\n" + bytes(40), "an HDF5 file"),
        ("a.safetensors", struct.pack("<Q", 5000) + b'{"a":', "cut short in its header"),
    ],
)
def test_a_file_of_something_else_is_told_by_its_first_bytes(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name}: is .*{message}"):
        tailprune.load(tmp_path / name, **AS_DIT)


def test_archives_of_something_else_are_told_by_their_content(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    (tmp_path / "a.npz").rename(tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "b.pt", "w") as archive:
        archive.writestr("b/data.pkl", b"")
        archive.writestr("b/constants.pkl", b"")
    for name, message in (("a.pt", "a zip archive with x.npy, not one of torch.save"), ("b.pt", "is TorchScript")):
        with pytest.raises(CheckpointError, match=message):
            tailprune.load(tmp_path / name, **AS_DIT)


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".ckpt"])
def test_safetensors_under_another_suffix_are_read(state: State, tmp_path: Path, suffix: str) -> None:
    save_file(state, tmp_path / "a.safetensors")
    path = (tmp_path / "a.safetensors").rename(tmp_path / f"a{suffix}")
    assert loaded_is(path, state)


def test_a_pickle_named_safetensors_is_to_be_renamed(state: State, tmp_path: Path) -> None:
    torch.save({"ema": state}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"is a pickle of PyTorch, .*: rename it to end in \.pt"):
        tailprune.load(tmp_path / "a.safetensors", **AS_DIT)


def test_a_file_that_is_not_there_is_said_with_the_closest(state: State, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "checkpoint-400.pt")
    with pytest.raises(FileNotFoundError, match=r"did you mean checkpoint-400\.pt\?"):
        tailprune.load(tmp_path / "checkpoint_400.pt", **AS_DIT)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        tailprune.load(tmp_path / "none" / "a.pt", **AS_DIT)


# Damage


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_named(state: State, tmp_path: Path, wrong: float) -> None:
    name = "blocks.1.mlp.fc1.weight"
    state[name] = state[name].clone()
    state[name][0, 0] = wrong
    torch.save(state, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=rf"{name} holds NaN or infinity, in 1 of 4,096 values"):
        tailprune.load(tmp_path / "last.pt", **AS_DIT)


def test_a_download_whose_end_is_zeros_is_refused(state: State, tmp_path: Path) -> None:
    save_file(state, tmp_path / "a.safetensors")
    content = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    with pytest.raises(CheckpointError, match=r"weight and \d+ more hold long runs of zeros, as in a download"):
        tailprune.load(tmp_path / "a.safetensors", **AS_DIT)
    with pytest.raises(CheckpointError, match="long runs of zeros"):
        tailprune.load_condition(tmp_path / "a.safetensors", **AS_DIT)
    assert tailprune.inspect(tmp_path / "a.safetensors", **AS_DIT).family == "dit"  # reads no tensor unless asked to
    with pytest.raises(CheckpointError, match="long runs of zeros"):
        tailprune.inspect(tmp_path / "a.safetensors", check=True, **AS_DIT)


def test_a_hole_in_the_middle_of_a_matrix_is_refused_and_single_rows_of_zeros_are_not(
    state: State, tmp_path: Path
) -> None:
    name = "blocks.0.attn.qkv.weight"
    for rows, fits in ((slice(40, 41), True), (slice(40, 52), False)):
        state[name] = torch.full_like(state[name], 0.5)
        state[name][rows] = 0
        torch.save(state, tmp_path / "last.pt")
        if fits:
            assert loaded_is(tmp_path / "last.pt", state)
        else:
            with pytest.raises(CheckpointError, match=f"{name} hold"):
                tailprune.load(tmp_path / "last.pt", **AS_DIT)


def test_layers_that_training_begins_at_zero_may_be_zero(state: State, tmp_path: Path) -> None:
    zero = {name: torch.zeros_like(t) if "adaLN" in name or "final" in name else t for name, t in state.items()}
    torch.save(zero, tmp_path / "last.pt")
    assert loaded_is(tmp_path / "last.pt", zero)


def damaged(content: bytes) -> bytes:
    return content[:-4] + b"\x3f\x3f\x3f\x3f"


def test_a_file_of_the_hub_is_compared_with_the_digest_that_the_hub_gave(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILPRUNE_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TAILPRUNE_OFFLINE", "1")
    save_file(state, tmp_path / "dit.safetensors")
    snapshot = write_cached(
        tmp_path / "cache", "owner/repo", {"dit.safetensors": (tmp_path / "dit.safetensors").read_bytes()}
    )
    assert loaded_is(fetch("hf://owner/repo/dit.safetensors"), state)
    blob = (snapshot / "dit.safetensors").resolve()
    blob.write_bytes(damaged(blob.read_bytes()))
    with pytest.raises(HubError, match=r"dit\.safetensors is not what the hub has: .*delete the file"):
        tailprune.load("hf://owner/repo/dit.safetensors", **AS_DIT)
    with pytest.raises(CheckpointError, match="is not what the hub has"):
        tailprune.load(snapshot / "dit.safetensors", **AS_DIT)


def test_a_file_downloaded_into_a_folder_is_compared_unless_it_was_written_to_since(
    state: State, tmp_path: Path
) -> None:
    path = tmp_path / "dit.safetensors"
    save_file(state, path)
    note = tmp_path / ".cache" / "huggingface" / "download" / "dit.safetensors.metadata"
    note.parent.mkdir(parents=True)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    note.write_text(f"{'c' * 40}\n{digest}\n{path.stat().st_mtime}\n")
    assert loaded_is(path, state)
    note.write_text(f"{'c' * 40}\n{'0' * 64}\n{path.stat().st_mtime}\n")
    with pytest.raises(CheckpointError, match=r"is not what the hub has: .*the hub gave 000000000000"):
        tailprune.load(path, **AS_DIT)
    note.write_text(f"{'c' * 40}\n{'0' * 64}\n{path.stat().st_mtime - 60}\n")
    assert loaded_is(path, state)


# Classes and the null condition


@pytest.fixture
def without_null(state: State, tmp_path: Path) -> Path:
    """A DiT trained without dropping labels: ten rows for ten classes."""
    table = "y_embedder.embedding_table.weight"
    torch.save({"ema": state | {table: state[table][:10].clone()}}, tmp_path / "dit.pt")
    return tmp_path / "dit.pt"


def test_as_many_classes_as_rows_leave_no_null_condition(without_null: Path, tmp_path: Path) -> None:
    assert tailprune.inspect(without_null, num_heads=4).classes == 9
    system = tailprune.load(without_null, classes=10, **AS_DIT)
    assert (system.num_classes, system.null_condition) == (10, False)
    inputs, prunes = {"labels": torch.tensor([9])}, [None, tailprune.Prune("tail", 0.05)]
    assert len(tailprune.sample(system, inputs, prune=prunes, steps=3, seeds=[0])) == 2
    with pytest.raises(ValueError, match=r"guidance must be 1, not 1\.5: this system has no null condition"):
        tailprune.sample(system, inputs, steps=3, seeds=[0], guidance=1.5)
    with pytest.raises(CheckpointError, match="classes = 12 was given, but the label table has 10 rows: for 9 classes"):
        tailprune.load(without_null, classes=12, **AS_DIT)
    tailprune.save_system(system, tmp_path / "saved.safetensors")
    assert tailprune.load(tmp_path / "saved.safetensors").null_condition is False
    assert tailprune.load_condition(tmp_path / "saved.safetensors").null_condition is False
    assert "10 classes and no null condition" in str(tailprune.inspect(tmp_path / "saved.safetensors"))


def test_the_options_of_its_training_say_whether_there_is_a_null_condition(without_null: Path) -> None:
    content = torch.load(without_null)
    torch.save(content | {"args": argparse.Namespace(num_classes=10)}, without_null)
    assert tailprune.load(without_null, **AS_DIT).null_condition is False


def test_a_system_without_a_null_condition_is_compacted(without_null: Path) -> None:
    system = tailprune.load(without_null, classes=10, **AS_DIT)
    made = tailprune.compact(system, times=torch.tensor([500.0]), inputs=system.all_inputs(), keep=8, fill="mean")
    assert made.system.null_condition is False


@pytest.mark.parametrize(("rows", "null"), [(1, False), (2, True)])
def test_an_unconditional_model_is_sampled_and_described(state: State, tmp_path: Path, rows: int, null: bool) -> None:
    table = "y_embedder.embedding_table.weight"
    torch.save(state | {table: state[table][:rows].clone()}, tmp_path / "dit.pt")
    system = tailprune.load(tmp_path / "dit.pt", num_heads=4)
    assert (system.num_classes, system.null_condition) == (1, null)
    assert "1 class and" in str(tailprune.inspect(tmp_path / "dit.pt", num_heads=4))
    labels = {"labels": torch.tensor([0, 0])}
    tailprune.sample(
        system, labels, prune=tailprune.Prune("tail", 0.05), steps=3, seeds=[0, 1], guidance=2.0 if null else 1.0
    )
    description = tailprune.describe(system.condition(torch.tensor([500.0]), system.all_inputs()))
    assert 0 < description.npr < 1
    assert np.isnan(description.cosine.mean)
    over_time = tailprune.describe_over_time(
        system.embed_inputs(system.all_inputs()), system.embed_time(torch.tensor([500.0, 0.0])), [0.05]
    )
    assert over_time.npr[0].item() == pytest.approx(description.npr, rel=1e-5)
    assert over_time.cosine_mean.isnan().all()


def test_positions_that_are_no_square_are_refused_in_words(state: State, tmp_path: Path) -> None:
    torch.save(state | {"pos_embed": torch.randn(1, 32, 32)}, tmp_path / "dit.pt")
    with pytest.raises(CheckpointError, match="pos_embed has 32 positions, which are no square grid: only square"):
        tailprune.load(tmp_path / "dit.pt", num_heads=4)


# Folders


def sharded(folder: Path, state: State, index: str, part: str, save: Callable[[State, Path], None]) -> None:
    names, where = sorted(state), {}
    for number, part_names in enumerate((names[:15], names[15:]), 1):
        file = part.format(f"{number:05}-of-00002")
        save({name: state[name].contiguous() for name in part_names}, folder / file)
        where |= dict.fromkeys(part_names, file)
    if index:
        (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": where}))


@pytest.mark.parametrize(
    ("index", "part"),
    [
        ("model.safetensors.index.json", "model-{}.safetensors"),
        ("", "model-{}.safetensors"),
        ("pytorch_model.bin.index.json", "pytorch_model-{}.bin"),
    ],
)
def test_folders_of_several_files_are_read(state: State, tmp_path: Path, index: str, part: str) -> None:
    save = save_file if part.endswith("safetensors") else torch.save
    sharded(tmp_path, state, index, part, save)  # type: ignore[arg-type]
    assert loaded_is(tmp_path, state)
    (tmp_path / part.format("00002-of-00002")).unlink()
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*00002-of-00002"):
        tailprune.load(tmp_path, **AS_DIT)


def test_a_folder_with_pytorch_model_bin_is_read(state: State, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert loaded_is(tmp_path, state)


def test_a_folder_of_several_models_is_refused_until_one_file_is_given(
    state: State, raw: State, tmp_path: Path
) -> None:
    save_file(raw, tmp_path / "model.safetensors")
    save_file(state, tmp_path / "model_1.safetensors")
    with pytest.raises(
        CheckpointError, match=r"several models, model\.safetensors, model_1\.safetensors, .*give the file"
    ):
        tailprune.load(tmp_path, **AS_DIT)
    assert loaded_is(tmp_path / "model_1.safetensors", state)


def test_a_folder_of_other_files_names_them(state: State, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "0400000.pt")
    with pytest.raises(FileNotFoundError, match=r"give one of its files, such as 0400000\.pt"):
        tailprune.load(tmp_path, **AS_DIT)
