"""What is said of a transformer, against diffusers' own classes."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from documentation.transformers import row, write_headers
from tailprune.__main__ import main
from tailprune.spec.transformers import CLASSES
from tailprune.transformers import Anatomy, anatomy, as_text
from tests.tailprune.transformers.original import as_bfl, as_minimax
from tests.tailprune.transformers.tiny_models import TINY, inputs_of_linears, share_embedders


def save_single(tensors: Mapping[str, Tensor], path: Path) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


def layers_of(found: Anatomy, names: list[str]) -> set[str]:
    """The layers that an anatomy's groups stand for, among the names of a model's layers."""
    patterns = [group.name.split("*") for group in found.linears]
    return {
        name
        for name in names
        for before, *after in patterns
        if (not after and name == before)
        or (
            after
            and name.startswith(before)
            and name.endswith(after[0])
            and name[len(before) : -len(after[0])].isdigit()
        )
    }


@pytest.mark.parametrize("name", TINY)
def test_counts_what_the_module_has(name: str, tmp_path: Path) -> None:
    model = TINY[name].save(tmp_path)
    found = anatomy(tmp_path)
    assert found.name == TINY[name].name
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    modules = dict(model.named_modules())
    layers = layers_of(found, list(modules))
    assert sum(group.count for group in found.linears) == len(layers)
    assert found.adaln_parameters == sum(each.numel() for layer in layers for each in modules[layer].parameters())


@pytest.mark.parametrize("name", TINY)
def test_finds_every_linear_layer_that_reads_silu_of_c_and_no_other(name: str, tmp_path: Path) -> None:
    model = TINY[name].build()
    share_embedders(model)
    model.save_pretrained(tmp_path)
    read = inputs_of_linears(model, TINY[name].inputs())
    last = next(cls for cls in CLASSES if cls.name == TINY[name].name and cls.naming == "diffusers").linears[-1].name
    reading = {layer for layer, inputs in read.items() if inputs.shape == read[last].shape and inputs.equal(read[last])}
    assert layers_of(anatomy(tmp_path), list(read)) == reading


@pytest.mark.parametrize("name", TINY)
def test_a_file_is_recognised_by_the_names_of_its_tensors(name: str, tmp_path: Path) -> None:
    model = TINY[name].build()
    path = save_single(model.state_dict(), tmp_path / "model.safetensors")
    assert anatomy(path).name == TINY[name].name


@pytest.mark.parametrize(("name", "original"), [("flux", as_bfl), ("minimax-h3", partial(as_minimax, heads=2))])
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_original_names_say_the_same(name: str, original: Any, prefix: str, tmp_path: Path) -> None:
    model = TINY[name].save(tmp_path)
    tensors = {prefix + each: tensor for each, tensor in original(model.state_dict()).items()}
    if prefix:
        tensors["vae.decoder.weight"] = torch.ones(3)
    theirs, ours = anatomy(save_single(tensors, tmp_path / "original.safetensors")), anatomy(tmp_path)
    assert theirs.naming != ours.naming == "diffusers"
    for fact in ("name", "parameters", "adaln_parameters", "condition_dim", "depends_on", "embedder_parameters"):
        assert getattr(theirs, fact) == getattr(ours, fact), fact
    assert theirs.ranks is not None
    assert ours.ranks is not None
    assert theirs.ranks.needed == ours.ranks.needed


def test_a_folder_of_shards_and_one_around_it_say_the_same(tmp_path: Path) -> None:
    TINY["flux"].save(tmp_path / "one")
    TINY["flux"].save(tmp_path / "many" / "transformer", max_shard_size="60KB")
    one, many = anatomy(tmp_path / "one"), anatomy(tmp_path / "many")
    assert len(list((tmp_path / "many" / "transformer").glob("*.safetensors"))) > 3
    assert many.path.endswith("transformer")
    assert (many.parameters, many.linears, many.ranks) == (one.parameters, one.linears, one.ranks)


def test_the_types_of_the_file_count(tmp_path: Path) -> None:
    model = TINY["qwen"].build().to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    found = anatomy(tmp_path)
    assert found.adaln_types == ("BF16",)
    assert (found.bytes, found.adaln_bytes) == (2 * found.parameters, 2 * found.adaln_parameters)


def test_only_some_models_of_a_class_take_a_guidance(tmp_path: Path) -> None:
    TINY["flux"].save(tmp_path / "dev")
    TINY["flux-schnell"].save(tmp_path / "schnell")
    assert anatomy(tmp_path / "dev").depends_on == ("time", "guidance", "pooled text")
    assert anatomy(tmp_path / "schnell").depends_on == ("time", "pooled text")


@pytest.mark.parametrize(
    ("model", "parameters", "adaln", "linears", "width"),
    [
        ("FLUX.1-dev", 11_901_408_320, 3_247_448_064, 77, 3072),
        ("Qwen-Image", 20_430_401_088, 6_815_864_832, 121, 3072),
        ("MiniMax-H3", 33_122_992_896, 13_039_369_728, 51, 2688),
    ],
)
def test_published_models_have_their_published_size(
    model: str, parameters: int, adaln: int, linears: int, width: int, tmp_path: Path
) -> None:
    write_headers(model, tmp_path)
    found = anatomy(tmp_path)
    assert (found.parameters, found.adaln_parameters, found.condition_dim) == (parameters, adaln, width)
    assert sum(group.count for group in found.linears) == linears
    assert found.bytes == 2 * parameters
    assert found.ranks is None, "the file has holes in place of values"
    assert row(model, found) in (Path(__file__).parents[3] / "docs" / "large-transformers.md").read_text()


def test_a_replacement_takes_the_numbers_that_it_would_have(tmp_path: Path) -> None:
    TINY["qwen"].save(tmp_path)
    found = anatomy(tmp_path)
    rows = sum(group.count * group.outputs for group in found.linears)
    *ranks, table = found.replacements
    assert [each.error for each in ranks] == [0.1, 0.01, 0.001, 0.0001]
    for each in found.replacements:
        assert each.parameters == rows * each.columns + rows + each.columns * found.condition_dim
        assert each.bytes + each.saved_bytes == found.adaln_bytes
    assert (table.what, table.number, table.columns, table.error) == ("steps", 50, 49, 0.0)


@pytest.mark.parametrize("width", [80, 120])
def test_the_text_fits_the_terminal(width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_headers("FLUX.1-dev", tmp_path)
    monkeypatch.chdir(tmp_path)
    lines = as_text(anatomy("."), width).splitlines()
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for said in (
        "11,901,408,320",
        "3,247,448,064",
        "27.3%",
        "6.49",
        "time + guidance + pooled text",
        "table of 50 steps",
    ):
        assert said in text
    assert ("2 x (shift scale gate)" in text) == (width == 120)


def test_the_command_prints_text_and_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    TINY["qwen"].save(tmp_path)
    monkeypatch.setattr("sys.argv", ["tailprune", "anatomy", str(tmp_path)])
    assert main() == 0
    assert "QwenImageTransformer2DModel" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["tailprune", "anatomy", str(tmp_path), "--json"])
    assert main() == 0
    said = json.loads(capsys.readouterr().out)
    assert said["depends_on"] == ["time"]
    assert said["ranks"]["needed"].keys() == {"0.1", "0.01", "0.001", "0.0001"}
    assert 0 < said["adaln_share"] < 1


@pytest.mark.parametrize(("file", "begins"), [("ranks.png", b"\x89PNG"), ("ranks.SVG", b"<?xml")])
def test_the_command_draws_the_errors_by_the_rank(
    file: str, begins: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    TINY["qwen"].save(tmp_path / "qwen")
    monkeypatch.setattr("sys.argv", ["tailprune", "anatomy", str(tmp_path / "qwen"), "--figure", str(tmp_path / file)])
    assert main() == 0
    assert (tmp_path / file).read_bytes().startswith(begins)
    assert "QwenImageTransformer2DModel" in capsys.readouterr().out


def test_the_command_draws_no_other_formats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["tailprune", "anatomy", str(tmp_path), "--figure", "ranks.pdf"])
    with pytest.raises(SystemExit):
        main()
    assert "ranks.pdf ends in neither of .png, .svg" in capsys.readouterr().err


def test_the_command_gives_the_reason_of_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["tailprune", "anatomy", str(tmp_path / "nothing")])
    assert main() == 1
    assert "no transformer at" in capsys.readouterr().err


def test_diffusers_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    TINY["flux"].save(tmp_path)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert anatomy(tmp_path).ranks is not None
