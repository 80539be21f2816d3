"""Files that are not what they say, and folders that lack something, are refused with the reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tailprune.checkpoints import CheckpointError
from tailprune.spec import MissingFileError
from tailprune.spec.layouts import CONFIG, DIFFUSERS_WEIGHTS
from tailprune.transformers import anatomy
from tests.hub import FakeHub, ask_science, write_cached
from tests.tailprune.transformers.tiny_models import TINY

WEIGHTS = DIFFUSERS_WEIGHTS[0]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    TINY["qwen"].save(folder / "one")
    TINY["qwen"].save(folder / "many", max_shard_size="60KB")
    return folder


@pytest.fixture
def one(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved / "one", tmp_path / "one"))


@pytest.fixture
def many(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved / "many", tmp_path / "many"))


def rewrite_header(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the entries of a file's header, and leave the bytes of its tensors."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        anatomy(path)
    return str(error.value)


def test_a_header_with_a_larger_shape_than_its_bytes_is_refused(one: Path) -> None:
    rewrite_header(one / WEIGHTS, lambda header: header["img_in.weight"].update(shape=[10**9, 16]))
    assert "img_in.weight takes 2,048 bytes, but F32 of shape [1000000000, 16] takes 64,000,000,000" in refusal(one)


def test_a_header_with_overlapping_tensors_is_refused(one: Path) -> None:
    def overlap(header: dict[str, Any]) -> None:
        first, second = [entry for entry in header.values() if "shape" in entry and entry["shape"] == [192, 32]][:2]
        second["data_offsets"] = first["data_offsets"]

    rewrite_header(one / WEIGHTS, overlap)
    assert "begins at byte" in refusal(one)


def test_a_header_with_an_unknown_type_is_refused(one: Path) -> None:
    rewrite_header(one / WEIGHTS, lambda header: header["img_in.weight"].update(dtype="Q4"))
    assert "img_in.weight has the type 'Q4'" in refusal(one)


def test_a_file_that_was_cut_short_is_refused(one: Path) -> None:
    content = (one / WEIGHTS).read_bytes()
    (one / WEIGHTS).write_bytes(content[:-100])
    assert f"the file has {len(content) - 100:,} bytes, but its header describes {len(content):,}" in refusal(one)


def test_a_header_that_is_not_json_is_refused(one: Path) -> None:
    (one / WEIGHTS).write_bytes((10).to_bytes(8, "little") + b"{" + b"x" * 9)
    assert "download it again" in refusal(one)


def test_a_pickle_is_refused(one: Path) -> None:
    torch.save({"a": torch.ones(2)}, one / WEIGHTS)
    assert "is a pickle of PyTorch" in refusal(one)


def test_a_missing_shard_is_named(many: Path) -> None:
    shard = sorted(many.glob("*-of-*"))[2]
    shard.unlink()
    with pytest.raises(MissingFileError, match=f"lacks {shard.name}"):
        anatomy(many)


def test_an_index_that_names_the_wrong_shard_is_refused(many: Path) -> None:
    path = many / f"{WEIGHTS}.index.json"
    index = json.loads(path.read_text())
    shards = sorted(set(index["weight_map"].values()))
    wrong = next(name for name, shard in index["weight_map"].items() if shard == shards[0])
    index["weight_map"][wrong] = shards[1]
    path.write_text(json.dumps(index))
    assert f"its index says that {wrong} is in {shards[1]}, which does not have it" in refusal(many)


def test_a_tensor_in_two_shards_is_refused(many: Path) -> None:
    first, second = sorted(many.glob("*-of-*"))[:2]
    save_file(load_file(first) | load_file(second), second)
    assert f"is in {first.name} and in {second.name}" in refusal(many)


def test_an_index_that_is_damaged_is_refused(many: Path) -> None:
    (many / f"{WEIGHTS}.index.json").write_text('{"weight_map": {}}')
    assert "names no files of weights" in refusal(many)


def test_an_unknown_class_is_refused_with_those_that_are_known(one: Path) -> None:
    (one / CONFIG).write_text('{"_class_name": "UNet2DConditionModel"}')
    said = refusal(one)
    assert "'UNet2DConditionModel'" in said
    assert "FluxTransformer2DModel" in said


def test_another_class_than_the_tensors_is_refused(one: Path) -> None:
    (one / CONFIG).write_text('{"_class_name": "SD3Transformer2DModel"}')
    assert "by its configuration it is a SD3Transformer2DModel, but it lacks pos_embed.proj.weight" in refusal(one)


def test_tensors_of_no_class_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"down_blocks.0.weight": torch.ones(2)}, path)
    assert "its tensors are those of no class that is known" in refusal(path)


def test_a_configuration_of_another_depth_is_refused(one: Path) -> None:
    config = json.loads((one / CONFIG).read_text())
    (one / CONFIG).write_text(json.dumps(config | {"num_layers": 60}))
    assert "num_layers is 60 in its configuration, but the files have 2 of" in refusal(one)


def test_a_configuration_that_is_not_json_is_refused(one: Path) -> None:
    (one / CONFIG).write_text("{")
    assert "is not JSON" in refusal(one)


def without(path: Path, name: str) -> None:
    tensors = load_file(path)
    del tensors[name]
    save_file(tensors, path)


def test_a_block_without_its_modulation_is_refused(one: Path) -> None:
    without(one / WEIGHTS, "transformer_blocks.0.img_mod.1.weight")
    assert "lacks transformer_blocks.0.img_mod.1.weight, though it has later blocks" in refusal(one)


def test_a_model_whose_adaln_was_replaced_is_refused(tmp_path: Path) -> None:
    tensors = dict(TINY["minimax-h3"].build().state_dict())
    for name in [name for name in tensors if name.endswith(".linear.weight")]:
        tensors[name] = tensors[name][:, :8].contiguous()
    save_file(tensors, tmp_path / "model.safetensors")
    assert "reads 8 columns, but c has 24 components" in refusal(tmp_path / "model.safetensors")
    tables = {name: each for name, each in tensors.items() if "time_embedder" not in name}
    tables["adaln_t_table"] = torch.zeros(1025, 8)
    save_file(tables, tmp_path / "table.safetensors")
    assert "has adaln_t_table, so its AdaLN was replaced already" in refusal(tmp_path / "table.safetensors")


def test_a_folder_without_weights_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(MissingFileError, match="no transformer at"):
            anatomy(path)


@pytest.mark.usefixtures("processes")
def test_of_a_model_on_the_hub_the_headers_alone_are_read(many: Path, tmp_path: Path) -> None:
    hub = FakeHub({"owner/model": {f"transformer/{file.name}": file.read_bytes() for file in many.iterdir()}})
    try:
        said = ask_science("anatomy", "hf://owner/model", "--json", hub=hub.url, cache=tmp_path / "cache")
        offline = ask_science(
            "anatomy", "hf://owner/model", hub=hub.url, cache=tmp_path / "cache", TAILPRUNE_OFFLINE="1"
        )
    finally:
        hub.stop()
    assert said.returncode == 0, said.stderr
    found, whole = json.loads(said.stdout), anatomy(many)
    assert found["parameters"] == whole.parameters
    assert found["unmeasured"] == "the headers alone were read: fetch the weights"
    assert not list((tmp_path / "cache").rglob("*.safetensors")), "no weights in the cache"
    assert offline.returncode == 1
    assert "TAILPRUNE_OFFLINE is set" in offline.stderr


def test_a_model_in_the_cache_is_read_whole(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cached(tmp_path, "owner/model", {f"transformer/{file.name}": file.read_bytes() for file in many.iterdir()})
    monkeypatch.setenv("TAILPRUNE_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TAILPRUNE_OFFLINE", "1")
    assert anatomy("hf://owner/model").ranks == anatomy(many).ranks
