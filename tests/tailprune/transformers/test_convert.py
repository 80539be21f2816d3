"""A compacted MiniMax-H3 in other programs' layouts: what they compute with it, and back to the same numbers."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tailprune import load_transformer
from tailprune.__main__ import main
from tailprune.checkpoints import CheckpointError
from tailprune.spec import InputError
from tailprune.transformers import compact, convert, converting, verify
from tailprune.transformers.layouts import is_adaln
from tailprune.transformers.modeling import ReadsDirections
from tests.tailprune.transformers.tiny_models import TINY

BLOCK, LAST = "transformer_blocks.1.adaln_proj.linear", "norm_out.linear"
WEIGHTS = "diffusion_pytorch_model.safetensors"
GRID = torch.linspace(0, 1, 1025)
NAMES = {"comfyui": "h3.safetensors", "musubi": "h3.safetensors"}
ROUNDED = {"comfyui": 1e-7, "sglang": 1e-7, "fastvideo": 2e-3, "musubi": 1e-7}
"""What the error of a conversion from bfloat16 is at most: float32 in a table, float16 in FastVideo's directions."""


def as_published(model: nn.Module) -> nn.Module:
    """The types of the published weights: float32 in the first and last layers, bfloat16 between."""
    model.to(torch.bfloat16)
    for name in ("proj_in", "audio_proj_in", "proj_out", "audio_proj_out", "time_embedder"):
        model.get_submodule(name).float()
    return model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compacted model in float32, in shards, and one of the published types, both of 8 columns."""
    folder = tmp_path_factory.mktemp("made")
    TINY["minimax-h3"].save(folder / "whole", max_shard_size="200KB")
    as_published(TINY["minimax-h3"].build()).save_pretrained(folder / "half")
    compact(folder / "whole", folder / "small", rank=8)
    compact(folder / "half", folder / "small-half", rank=8)
    return folder


def tensors_of(path: Path) -> dict[str, Tensor]:
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def modulations(model: Any, times: Tensor) -> list[Tensor]:
    """What the second block and the final layer of diffusers' class make of some times."""
    embedded = model.time_embedder(model.time_proj(times))
    read = F.silu(embedded)
    return [model.get_submodule(name)(read.to(model.get_submodule(name).narrow.weight.dtype)) for name in (BLOCK, LAST)]


def interpolated(table: Tensor, times: Tensor) -> Tensor:
    """The table between two of its times, as the programs read it."""
    place = times * (len(table) - 1)
    lower = place.floor().long().clamp(max=len(table) - 2)
    part = (place - lower)[:, None]
    return table[lower] * (1 - part) + table[lower + 1] * part


def computed(path: Path, layout: str, times: Tensor, model: Any) -> list[Tensor]:
    """The same as a program computes it from its layout, in float32."""
    found = {name: tensor.float() for name, tensor in tensors_of(path).items()}
    if layout == "fastvideo":
        read = F.silu(model.time_embedder(model.time_proj(times))) @ found["adaln_basis.weight"].T
        return [read @ found[f"{name}.weight"].T + found[f"{name}.bias"] for name in (BLOCK, LAST)]
    if layout == "sglang":
        read = interpolated(found["time_embedder.table"], times)
        return [
            read @ found[f"{name}.weight"].T + found[name.replace("linear", "folded_bias")] for name in (BLOCK, LAST)
        ]
    read = interpolated(found["adaln_t_table"], times)
    names = ("blocks.1.adaln_proj.linear", "final_layer.adaln_proj.linear")
    return [read @ found[f"{name}.weight"].T + found[f"{name}.bias"] for name in names]


def apart(ours: list[Tensor], theirs: list[Tensor]) -> float:
    return max(float((a - b).norm() / b.norm()) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("layout", ["comfyui", "sglang"])
def test_a_program_computes_the_same_at_the_times_of_the_table(layout: str, made: Path, tmp_path: Path) -> None:
    out = tmp_path / NAMES.get(layout, "h3")
    converted = convert(made / "small", out, layout=layout)
    model = load_transformer(made / "small")
    assert apart(computed(out, layout, GRID, model), modulations(model, GRID)) < 2e-6
    assert converted.error < 2e-7
    assert (converted.columns, converted.times) == (8, 1025)


@pytest.mark.parametrize("layout", ["comfyui", "sglang"])
def test_the_error_between_the_times_of_the_table_is_what_is_stated(layout: str, made: Path, tmp_path: Path) -> None:
    out = tmp_path / NAMES.get(layout, "h3")
    converted = convert(made / "small", out, layout=layout)
    model = load_transformer(made / "small").double()
    between = (GRID[1:] + GRID[:-1]) / 2
    tables = {"comfyui": "adaln_t_table", "sglang": "time_embedder.table"}
    table = tensors_of(out)[tables[layout]].double()
    basis = model.adaln_basis
    exact = (F.silu(model.time_embedder(model.time_proj(between).double())) - basis.mean) @ basis.weight.T
    weight = torch.cat([m.narrow.weight for m in model.modules() if isinstance(m, ReadsDirections)])
    wrong = ((interpolated(table, between.double()) - exact) @ weight.T).square().sum(1).max()
    whole = (((exact - exact.mean(0)) @ weight.T).square().sum(1)).mean()
    assert converted.error_between is not None
    assert 0 < converted.error_between < 1e-3
    assert converted.error_between == pytest.approx(float((wrong / whole).sqrt()), rel=0.05, abs=1e-6)


def test_fastvideo_computes_the_same_at_any_time(made: Path, tmp_path: Path) -> None:
    converted = convert(made / "small", tmp_path / "h3", layout="fastvideo")
    model, times = load_transformer(made / "small"), torch.rand(40)
    found = tensors_of(tmp_path / "h3")
    rows = found["adaln_basis.weight"]
    assert rows.dtype == found[f"{BLOCK}.weight"].dtype == found[f"{LAST}.bias"].dtype == torch.float16
    assert (rows.float() @ rows.float().T - torch.eye(8)).abs().max() < 1e-3
    assert apart(computed(tmp_path / "h3", "fastvideo", times, model), modulations(model, times)) < 2e-3
    assert 0 < converted.error < 2e-3
    assert (converted.times, converted.error_between) == (0, None)
    stated = json.loads((tmp_path / "h3" / "config.json").read_text())
    assert (stated["_class_name"], stated["adaln_rank"]) == ("MiniMaxH3Transformer3DModel", 8)
    assert "auto_map" not in stated


def test_all_else_of_comfyuis_file_is_what_diffusers_reads_from_it(made: Path, tmp_path: Path) -> None:
    from diffusers.loaders.single_file_utils import convert_minimax_h3_transformer_checkpoint_to_diffusers

    convert(made / "small", tmp_path / "h3.safetensors", layout="comfyui")
    found = load_file(tmp_path / "h3.safetensors")
    del found["adaln_t_table"]
    small = load_transformer(made / "small")
    assert found["rope.inv_freq"].equal(small.rope.inv_freq)
    read = convert_minimax_h3_transformer_checkpoint_to_diffusers(found, TINY["minimax-h3"].config)
    own = {
        name.replace(".narrow.", "."): value
        for name, value in small.state_dict().items()
        if not name.startswith(("adaln_", "time_"))
    }
    assert read.keys() == own.keys()
    for name, value in own.items():
        assert read[name].equal(value), name


def test_sglangs_directions_project_what_a_lora_adds(made: Path, tmp_path: Path) -> None:
    convert(made / "small", tmp_path / "h3", layout="sglang")
    found, model = tensors_of(tmp_path / "h3"), load_transformer(made / "small")
    lora = torch.randn(3, 24, generator=torch.Generator().manual_seed(0))
    whole = F.silu(model.time_embedder(model.time_proj(GRID))) @ lora.T
    projected = interpolated(found["time_embedder.table"], GRID) @ (lora @ found["adaln_basis"].T).T
    projected = projected + lora @ found["adaln_mean"]
    assert float((projected - whole).norm() / whole.norm()) < 1e-4
    stated = json.loads((tmp_path / "h3" / "config.json").read_text())
    assert stated["_class_name"] == "MiniMaxH3PrunedTransformer3DModel"
    assert (stated["adaln_rank"], stated["time_table_size"], stated["time_embed_dim"]) == (8, 1025, 24)
    assert {found[name].dtype for name in found if "folded_bias" in name or "basis" in name} == {torch.float32}


@pytest.mark.parametrize(
    ("layout", "kind"),
    [
        *itertools.product(["comfyui", "sglang", "fastvideo"], ["small", "small-half"]),
        ("musubi", "small-half"),
    ],
)
def test_there_and_back_are_the_same_numbers(layout: str, kind: str, made: Path, tmp_path: Path) -> None:
    there = tmp_path / NAMES.get(layout, "h3")
    first = convert(made / kind, there, layout=layout)
    second = convert(there, tmp_path / "back", layout="diffusers")
    ours, back = load_transformer(made / kind), load_transformer(tmp_path / "back")
    assert type(back) is type(ours)
    own = ours.state_dict()
    for name, value in back.state_dict().items():
        if not name.startswith(("adaln_", "time_")) and not (
            layout == "fastvideo" and is_adaln(name.replace(".narrow.", "."))
        ):
            assert value.dtype == own[name].dtype, name
            if layout == "musubi" and is_adaln(
                name.replace(".narrow.", ".")
            ):  # float16's smallest numbers are 6e-8 apart
                assert (value.float() - own[name].float()).abs().max() < 4e-8, name
            else:
                assert value.equal(own[name]), name
    tolerance = {"fastvideo": 4e-3 if kind == "small" else 2e-2}.get(layout, 2e-6 if kind == "small" else 5e-3)
    inputs = TINY["minimax-h3"].inputs()
    for time in (0.25, 0.75):  # a table has them
        inputs["timestep"] = torch.tensor([time, 1 - time])
        a, b = (model(**inputs, return_dict=False)[0].float() for model in (back, ours))
        assert float((a - b).norm() / b.norm()) < tolerance
    if kind == "small-half":
        assert first.error <= ROUNDED[layout]
    if layout != "fastvideo":
        assert second.error < 1e-12
    assert second.converted_from == ("comfyui" if layout == "musubi" else layout)


def test_from_one_program_to_the_next_and_between_tables(made: Path, tmp_path: Path) -> None:
    convert(made / "small-half", tmp_path / "a.safetensors", layout="comfyui")
    convert(made / "small-half", tmp_path / "b", layout="sglang")
    convert(tmp_path / "b", tmp_path / "c.safetensors", layout="comfyui")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "c.safetensors").read_bytes()
    convert(tmp_path / "a.safetensors", tmp_path / "d", layout="diffusers")
    converted = convert(tmp_path / "d", tmp_path / "e.safetensors", layout="musubi")
    assert converted.error < 1e-7
    assert load_file(tmp_path / "e.safetensors")["blocks.0.adaln_proj.linear.weight"].dtype == torch.float16


def test_the_steps_that_a_folder_covers_go_with_it(made: Path, tmp_path: Path) -> None:
    compact(made / "whole", tmp_path / "small", steps=5)
    convert(tmp_path / "small", tmp_path / "direct", layout="sglang")
    convert(tmp_path / "small", tmp_path / "fast", layout="fastvideo")
    convert(tmp_path / "fast", tmp_path / "sglang", layout="sglang")
    said = json.loads((tmp_path / "sglang" / "compaction.json").read_text())
    assert said["covered_times"] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    times = torch.tensor(said["covered_times"])
    found, model = tensors_of(tmp_path / "direct"), load_transformer(tmp_path / "small")
    read = F.silu(model.time_embedder(model.time_proj(times)))
    basis = model.adaln_basis
    spanned = found["adaln_mean"] + basis(read) @ found["adaln_basis"]
    assert float((spanned - read).norm() / read.norm()) < 1e-5


def test_a_converted_folder_is_loaded_by_diffusers_too(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tailprune.transformers.modeling import CompactedTransformer

    convert(made / "small", tmp_path / "h3.safetensors", layout="comfyui")
    convert(tmp_path / "h3.safetensors", tmp_path / "back", layout="diffusers")
    monkeypatch.setattr("diffusers.MiniMaxH3Transformer3DModel._keep_in_fp32_modules", None)  # wants accelerate
    loaded, ours = CompactedTransformer.from_pretrained(str(tmp_path / "back")), load_transformer(tmp_path / "back")
    with torch.no_grad():
        assert apart(modulations(loaded, GRID), modulations(ours, GRID)) == 0
    with pytest.raises(CheckpointError, match="does not say what was done"):
        verify(tmp_path / "back", made / "whole")


def test_shards_of_the_result_have_an_index(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converting, "SHARD", 60_000)
    converted = convert(made / "small", tmp_path / "h3", layout="fastvideo")
    assert len(converted.files) > 2
    convert(tmp_path / "h3", tmp_path / "back", layout="diffusers")
    assert load_transformer(tmp_path / "back").adaln_basis.weight.shape == (8, 24)


@pytest.mark.parametrize(
    ("name", "how", "layout", "said"),
    [
        ("flux", {"steps": 4, "pooled": "zero"}, "comfyui", "is a FluxTransformer2DModel"),
        ("qwen", {"steps": 4}, "sglang", "are of MiniMax-H3 alone"),
        ("minimax-h3", {"rank": 5}, "musubi", "AdaLN has 5 columns, and musubi reads 8"),
        ("minimax-h3", {"rank": 8}, "musubi", "is F32, and musubi wants BF16"),
        ("minimax-h3", {"rank": 8}, "diffusers", "has the layout diffusers already"),
        ("minimax-h3", {"rank": 8}, "gguf", "layout must be one of"),
    ],
)
def test_what_a_layout_cannot_hold_is_refused(
    name: str, how: dict[str, Any], layout: str, said: str, tmp_path: Path
) -> None:
    TINY[name].save(tmp_path / "whole")
    compact(tmp_path / "whole", tmp_path / "small", **how)
    with pytest.raises(InputError, match=said):
        convert(tmp_path / "small", tmp_path / NAMES.get(layout, "out"), layout=layout)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small", "whole"]


def test_a_whole_model_and_other_settings_are_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has neither directions nor a table"):
        convert(made / "whole", tmp_path / "h3", layout="sglang")
    shutil.copytree(made / "small", tmp_path / "small")
    stated = json.loads((made / "small" / "config.json").read_text())
    for key, value in [("norm_eps", 1e-6), ("rope_theta", 5000.0), ("patch_size", [1, 1, 4])]:
        (tmp_path / "small" / "config.json").write_text(json.dumps(stated | {key: value}))
        with pytest.raises(InputError, match=f"{key} is"):
            convert(tmp_path / "small", tmp_path / "h3.safetensors", layout="comfyui")


def test_a_table_gives_no_directions(made: Path, tmp_path: Path) -> None:
    convert(made / "small", tmp_path / "h3.safetensors", layout="comfyui")
    with pytest.raises(InputError, match="has a table alone, and sglang wants the directions too"):
        convert(tmp_path / "h3.safetensors", tmp_path / "h3", layout="sglang")
    with pytest.raises(InputError, match="has a table in place of the embedder"):
        convert(tmp_path / "h3.safetensors", tmp_path / "h3", layout="fastvideo")


def test_names_that_exist_or_do_not_fit_are_refused(made: Path, tmp_path: Path) -> None:
    (tmp_path / "there.safetensors").write_text("mine")
    with pytest.raises(InputError, match="exists: give another name"):
        convert(made / "small", tmp_path / "there.safetensors", layout="comfyui")
    assert (tmp_path / "there.safetensors").read_text() == "mine"
    with pytest.raises(InputError, match="is one file"):
        convert(made / "small", tmp_path / "h3", layout="comfyui")
    with pytest.raises(InputError, match="is a folder"):
        convert(made / "small", tmp_path / "h3.safetensors", layout="sglang")


@pytest.mark.parametrize(
    ("edit", "error", "said"),
    [
        (lambda found: found.pop("blocks.1.mlp.fc2.weight"), CheckpointError, "has no tensor blocks.1.mlp.fc2.weight"),
        (lambda found: found.update(more=torch.ones(1)), CheckpointError, "has a tensor that no compacted"),
        (
            lambda found: found.update({"blocks.1.attn.qkv_proj.weight": torch.ones(6, 6)}),
            CheckpointError,
            "blocks.1.attn.qkv_proj.weight has the shape",
        ),
        (
            lambda found: found.update({"blocks.0.adaln_proj.linear.weight": torch.ones(1152, 7)}),
            CheckpointError,
            "adaln_proj.linear.weight has the shape",
        ),
        (lambda found: found.update(adaln_t_table=torch.ones(1, 8)), CheckpointError, "has 1 times"),
        (lambda found: found.update(adaln_t_table=torch.ones(9, 7)), CheckpointError, "adaln_t_table has the shape"),
        (lambda found: found["adaln_t_table"].mul_(float("nan")), InputError, "is not finite"),
        (
            lambda found: found["final_layer.adaln_proj.linear.weight"].mul_(float("inf")),
            InputError,
            "norm_out.linear.weight is not finite",
        ),
        (lambda found: found["rope.inv_freq"].mul_(2), CheckpointError, "is not that of MiniMax-H3"),
        (
            lambda found: found.update({"blocks.0.norm1.weight": torch.ones(64, dtype=torch.int8)}),
            InputError,
            "has the type I8: quantise after",
        ),
        (
            lambda found: [found[name].zero_() for name in found if "adaln_proj" in name],
            CheckpointError,
            "does not depend on the time",
        ),
    ],
)
def test_a_file_that_is_not_what_it_seems_is_refused(
    edit: Callable[[dict[str, Tensor]], Any], error: type[Exception], said: str, made: Path, tmp_path: Path
) -> None:
    convert(made / "small", tmp_path / "h3.safetensors", layout="comfyui")
    found = load_file(tmp_path / "h3.safetensors")
    edit(found)
    save_file(found, tmp_path / "h3.safetensors")
    with pytest.raises(error, match=said):
        convert(tmp_path / "h3.safetensors", tmp_path / "back", layout="diffusers")
    assert [path.name for path in tmp_path.iterdir()] == ["h3.safetensors"]


@pytest.mark.parametrize("layout", ["comfyui", "fastvideo"])
def test_a_conversion_that_is_stopped_leaves_nothing(layout: str, made: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    out = tmp_path / NAMES.get(layout, "h3")
    with pytest.raises(KeyboardInterrupt):
        convert(made / "small", out, layout=layout, on_bytes=stop)
    assert not list(tmp_path.iterdir())
    convert(made / "small", out, layout=layout)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_files_that_change_meanwhile_and_too_little_room_are_refused(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made / "small-half", tmp_path / "small")

    def change(done: int, total: int) -> None:
        if done == total:
            (tmp_path / "small" / WEIGHTS).touch()

    with pytest.raises(CheckpointError, match="changed while they were read"):
        convert(tmp_path / "small", tmp_path / "h3.safetensors", layout="comfyui", on_bytes=change)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 90, 10))  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="GB of room"):
        convert(tmp_path / "small", tmp_path / "h3.safetensors", layout="comfyui")
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_float16_that_overflows_is_refused(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "small-half", tmp_path / "small")
    found = load_file(tmp_path / "small" / WEIGHTS)
    found[f"{BLOCK}.bias"][3] = 1e6
    save_file(found, tmp_path / "small" / WEIGHTS)
    with pytest.raises(InputError, match=r"linear\.bias is not finite in F16"):
        convert(tmp_path / "small", tmp_path / "h3.safetensors", layout="musubi")


@pytest.mark.parametrize("said", ['{"plan": {"times": 5}}', '{"plan": {"times": [[7.0]]}}', "[]", "{"])
def test_an_account_that_says_nonsense_is_refused(said: str, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "small", tmp_path / "small")
    (tmp_path / "small" / "compaction.json").write_text(said)
    with pytest.raises(CheckpointError, match=r"compaction\.json: (does not say|says that)"):
        convert(tmp_path / "small", tmp_path / "h3", layout="sglang")


def test_the_command_says_what_it_wrote(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "h3.safetensors")
    arguments = ["tailprune", "convert", str(made / "small"), out, "--layout", "comfyui"]
    monkeypatch.setattr("sys.argv", arguments)
    assert main() == 0
    printed = capsys.readouterr().out
    assert "in comfyui's layout: 8 columns, a table of 1,025 times" in printed
    assert "between the times of the table" in printed
    monkeypatch.setattr("sys.argv", arguments)
    assert main() == 1
    assert "exists: give another name" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", [*arguments[:3], str(tmp_path / "h3"), "--layout", "fastvideo", "--json"])
    assert main() == 0
    assert json.loads(capsys.readouterr().out)["columns"] == 8
