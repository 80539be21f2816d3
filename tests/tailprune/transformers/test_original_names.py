"""FLUX.1 and MiniMax-H3 under the names of the original code are compacted as they are under diffusers'."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from documentation.transformers import PUBLISHED
from tailprune import load_transformer
from tailprune.__main__ import main
from tailprune.checkpoints import CheckpointError
from tailprune.spec import InputError
from tailprune.spec.layouts import CONFIG, DIFFUSERS_WEIGHTS
from tailprune.spec.safetensors import encode_header
from tailprune.transformers import Written, compact, convert, rewriting, verify, verifying
from tailprune.transformers.renaming import open_whole
from tests.tailprune.transformers.original import as_bfl, as_minimax
from tests.tailprune.transformers.tiny_models import TINY

WEIGHTS = DIFFUSERS_WEIGHTS[0]
HEADS = 2
COMFYUI = "model.diffusion_model."
KINDS = ("flux", "flux-schnell", "minimax-h3 stacked", "minimax-h3 interleaved")
DTYPES = (torch.float32, torch.bfloat16, torch.float8_e4m3fn)


def qkv_of(kind: str) -> dict[str, Any]:
    return {"qkv": kind.split()[1]} if " " in kind else {}


def original(kind: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if " " not in kind:
        return as_bfl(weights)
    found = as_minimax(weights, HEADS, qkv_of(kind)["qkv"])
    return found | {"rope.inv_freq": 1 / 10000.0 ** (torch.arange(0, 8, 2).float() / 8)}


def save(tensors: Mapping[str, Tensor], path: Path, prefix: str = "") -> Path:
    path.parent.mkdir(exist_ok=True)
    save_file({prefix + name: tensor.clone() for name, tensor in tensors.items()}, path)
    return path


def saved(
    kind: str, folder: Path, dtype: torch.dtype = torch.float32, *, config: bool = True, prefix: str = ""
) -> tuple[nn.Module, Path]:
    """A tiny model in diffusers' layout, in `whole`, and the file of the same model under its original names."""
    name = kind.split()[0]
    model = TINY[name].build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(dtype).float())
    model.save_pretrained(folder / "whole")
    weights = {each: tensor.to(dtype) for each, tensor in model.state_dict().items()}
    save(weights, folder / "whole" / WEIGHTS)
    path = save(original(kind, weights), folder / "original" / "model.safetensors", prefix)
    if config:
        (path.parent / CONFIG).write_bytes((folder / "whole" / CONFIG).read_bytes())
    return model, path


def made(kind: str, source: Path, out: Path, **how: Any) -> Written:
    pooled = {} if " " in kind else {"pooled": "zero"}
    return compact(source, out, **({"steps": 4} | how), **pooled)


def outputs(folder: Path, kind: str) -> Tensor:
    name = kind.split()[0]
    with torch.no_grad():
        found = load_transformer(folder, dtype=torch.float32)(**TINY[name].inputs(), return_dict=False)[0]
    assert isinstance(found, Tensor)
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_result_is_that_of_the_same_model_by_diffusers_names(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    _, path = saved(kind, tmp_path, dtype, prefix=COMFYUI)
    ours = made(kind, tmp_path / "whole", tmp_path / "a")
    theirs = made(kind, path, tmp_path / "b", **qkv_of(kind))
    a, b = load_file(tmp_path / "a" / WEIGHTS), load_file(tmp_path / "b" / WEIGHTS)
    assert a.keys() == b.keys()
    assert all(a[name].dtype == b[name].dtype and a[name].equal(b[name]) for name in a)
    assert outputs(tmp_path / "a", kind).equal(outputs(tmp_path / "b", kind))
    for fact in ("error", "worst_error", "rank", "covers", "parameters", "adaln_parameters", "bytes", "dtype"):
        assert getattr(ours, fact) == pytest.approx(getattr(theirs, fact)), fact


@pytest.mark.parametrize("how", [{"rank": 6}, {"error": 0.05}, {"rank": 6, "guidance": [2.0, 3.5]}])
def test_directions_for_all_times_are_the_same_too(how: dict[str, Any], tmp_path: Path) -> None:
    _, path = saved("flux", tmp_path)
    for source, out in ((tmp_path / "whole", "a"), (path, "b")):
        made("flux", source, tmp_path / out, steps=None, **how)
    a, b = load_file(tmp_path / "a" / WEIGHTS), load_file(tmp_path / "b" / WEIGHTS)
    assert all(a[name].equal(b[name]) for name in a)


def test_a_mean_of_pooled_texts_is_the_same_too(tmp_path: Path) -> None:
    _, path = saved("flux", tmp_path)
    texts = torch.randn(5, 24, generator=torch.Generator().manual_seed(3))
    save_file({"texts": texts}, tmp_path / "texts.safetensors")
    for source, out in ((tmp_path / "whole", "a"), (path, "b")):
        compact(source, tmp_path / out, steps=4, population=tmp_path / "texts.safetensors", pooled="mean")
    a, b = load_file(tmp_path / "a" / WEIGHTS), load_file(tmp_path / "b" / WEIGHTS)
    assert all(a[name].equal(b[name]) for name in a)
    assert verify(tmp_path / "b", path) == verify(tmp_path / "b", tmp_path / "whole")


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_are_read_in_pieces_of_any_size(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece, and some rows of AdaLN, begin and end in any of the places where a tensor's rows are in the file."""
    _, path = saved(kind, tmp_path)
    for module in (rewriting, verifying):
        monkeypatch.setattr(module, "PIECE", 1000)
        monkeypatch.setattr(module, "ROWS", 7)
    made(kind, tmp_path / "whole", tmp_path / "a")
    made(kind, path, tmp_path / "b", **qkv_of(kind))
    a, b = load_file(tmp_path / "a" / WEIGHTS), load_file(tmp_path / "b" / WEIGHTS)
    assert all(a[name].equal(b[name]) for name in a)
    verify(tmp_path / "b", path, **qkv_of(kind))


def read_by_diffusers(kind: str, tensors: Mapping[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
    """What diffusers' own reader of the original names makes of a file."""
    from diffusers.loaders import single_file_utils

    if " " in kind:
        read = single_file_utils.convert_minimax_h3_transformer_checkpoint_to_diffusers
        return dict(read(dict(tensors), config, qkv_layout=qkv_of(kind)["qkv"]))
    # It splits linear1 as that of a model of 3,072 columns: each row is given so often that the splits are there.
    often = 3072 // (config["num_attention_heads"] * config["attention_head_dim"])
    given = {name: each.repeat_interleave(often, 0) if "linear1" in name else each for name, each in tensors.items()}
    found = single_file_utils.convert_flux_transformer_checkpoint_to_diffusers(given)
    split = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
    return {
        name: each[::often] if name.startswith("single") and any(part in name for part in split) else each
        for name, each in found.items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_diffusers_reads_the_same_from_the_file(kind: str, tmp_path: Path) -> None:
    model, path = saved(kind, tmp_path)
    found = read_by_diffusers(kind, load_file(path), dict(model.config))
    expected = model.state_dict()
    assert found.keys() == expected.keys()
    assert all(found[name].equal(expected[name]) for name in expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_can_be_verified_against_its_file(kind: str, tmp_path: Path) -> None:
    _, path = saved(kind, tmp_path)
    made(kind, path, tmp_path / "small", **qkv_of(kind))
    found, other = verify(tmp_path / "small", path, **qkv_of(kind)), verify(tmp_path / "small", tmp_path / "whole")
    assert found == other
    tensors = load_file(path)
    name = next(name for name in tensors if "mlp.fc1" in name or "img_mlp.0.weight" in name)
    tensors[name][-1, -1] += 1
    with pytest.raises(CheckpointError, match=r"ff\.net\.0\.proj\.weight differs from the whole model's"):
        verify(tmp_path / "small", save(tensors, path), **qkv_of(kind))


def test_the_other_order_of_rows_is_seen_against_the_file(tmp_path: Path) -> None:
    _, path = saved("minimax-h3 stacked", tmp_path)
    made("minimax-h3 stacked", path, tmp_path / "small", qkv="interleaved")
    with pytest.raises(CheckpointError, match=r"attn\.to_q\.weight differs"):
        verify(tmp_path / "small", path, qkv="stacked")


def test_another_configuration_than_the_whole_model_s_is_seen(tmp_path: Path) -> None:
    _, path = saved("flux", tmp_path)
    made("flux", path, tmp_path / "small")
    config = json.loads((tmp_path / "small" / CONFIG).read_text())
    (tmp_path / "small" / CONFIG).write_text(json.dumps(config | {"axes_dims_rope": [8, 4, 4]}))
    with pytest.raises(CheckpointError, match=r"axes_dims_rope is \[8, 4, 4\] in its configuration"):
        verify(tmp_path / "small", path)


@pytest.mark.parametrize("guidance", [True, False])
def test_without_a_configuration_it_is_made_from_the_tensors(guidance: bool, tmp_path: Path) -> None:
    from diffusers import FluxTransformer2DModel

    torch.manual_seed(0)
    model = FluxTransformer2DModel(
        in_channels=6,
        out_channels=4,
        num_layers=1,
        num_single_layers=2,
        num_attention_heads=1,
        joint_attention_dim=16,
        pooled_projection_dim=24,
        guidance_embeds=guidance,
    )
    path = save(as_bfl(model.state_dict()), tmp_path / "original" / "flux1-dev.safetensors")
    written = made("flux", path, tmp_path / "small")
    config = json.loads((tmp_path / "small" / CONFIG).read_text())
    expected = {key: value for key, value in model.config.items() if not key.startswith("_")}
    expected["axes_dims_rope"] = list(expected["axes_dims_rope"])
    assert {key: config.get(key) for key in expected} == expected
    assumed = "No tensor tells these fields of config.json, which are taken to be as published: "
    assert f"{assumed}patch_size 1, axes_dims_rope [16, 56, 56]." in written.notes
    card = (tmp_path / "small" / "README.md").read_text()
    assert all(f"- {note}\n" in card for note in written.notes)
    assert dict(load_transformer(tmp_path / "small").config)["guidance_embeds"] is guidance


def test_of_minimax_h3_the_file_tells_its_sizes_and_what_it_does_not_is_said(tmp_path: Path) -> None:
    kind = "minimax-h3 interleaved"
    _, path = saved(kind, tmp_path, config=False)
    written = made(kind, path, tmp_path / "b", **qkv_of(kind))
    made(kind, tmp_path / "whole", tmp_path / "a")
    assert outputs(tmp_path / "a", kind).equal(outputs(tmp_path / "b", kind))
    config = json.loads((tmp_path / "b" / CONFIG).read_text())
    assert {key: config[key] for key in TINY["minimax-h3"].config} == TINY["minimax-h3"].config
    assert "The rows of q, k and v in qkv_proj were taken to be interleaved." in written.notes
    assert any("patch_size [1, 2, 2], rope_theta 10000.0, norm_eps 1e-05" in note for note in written.notes)


@pytest.mark.parametrize(("published", "count"), [("FLUX.1-dev", 780), ("FLUX.1-schnell", 776), ("MiniMax-H3", None)])
def test_published_sizes_are_read_with_their_configuration(published: str, count: int | None, tmp_path: Path) -> None:
    """From headers of their sizes, with a hole in place of every value; how many tensors BFL's files have is known."""
    import diffusers

    name, stated = PUBLISHED[published]
    with torch.device("meta"):
        model = getattr(diffusers, name)(**stated)
    weights = as_bfl(model.state_dict()) if count else as_minimax(model.state_dict(), 56)
    sizes = {each: ("BF16", tuple(tensor.shape), 2 * tensor.numel()) for each, tensor in weights.items()}
    path, header = tmp_path / "model.safetensors", encode_header(sizes)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + sum(size for _, _, size in sizes.values()))
    assert count in (None, len(sizes))
    source = open_whole(path, None if count else "stacked").source
    told = json.loads(json.dumps(source.config))
    for key, value in json.loads(json.dumps(dict(model.config))).items():
        if not key.startswith("_") and key != "out_channels":  # it is that of in_channels
            assert told[key] == value, key
    assert {each: tensor.shape for each, tensor in source.tensors.items()} == {
        each: tuple(tensor.shape) for each, tensor in model.state_dict().items()
    }
    assert source.size_of(source.tensors) == sum(size for _, _, size in sizes.values())


def test_what_was_compacted_can_be_written_in_other_layouts(tmp_path: Path) -> None:
    """From a whole file for ComfyUI to a small one."""
    kind = "minimax-h3 stacked"
    _, path = saved(kind, tmp_path, torch.bfloat16, prefix=COMFYUI)
    made(kind, path, tmp_path / "small", **qkv_of(kind))
    convert(tmp_path / "small", tmp_path / "small.safetensors", layout="comfyui")
    whole, small = load_file(path), load_file(tmp_path / "small.safetensors")
    same = [name for name in small if "adaln" not in name]
    assert len(same) > 20
    assert all(small[name].equal(whole[COMFYUI + name]) for name in same)


def in_shards(tensors: Mapping[str, Tensor], folder: Path) -> Path:
    """The tensors in three files with an index."""
    folder.mkdir()
    names, index = sorted(tensors), {}
    for number in range(3):
        file = f"model-{number + 1:05}-of-00003.safetensors"
        save({name: tensors[name] for name in names[number::3]}, folder / file)
        index |= dict.fromkeys(names[number::3], file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


def test_shards_with_original_names_are_read_one_after_another(tmp_path: Path) -> None:
    kind = "minimax-h3 interleaved"
    _, path = saved(kind, tmp_path)
    shards = in_shards(load_file(path), tmp_path / "shards")
    made(kind, tmp_path / "whole", tmp_path / "a")
    made(kind, shards, tmp_path / "b", **qkv_of(kind))
    assert len(list((tmp_path / "b").glob("*-of-00003.safetensors"))) == 3
    assert outputs(tmp_path / "a", kind).equal(outputs(tmp_path / "b", kind))
    assert verify(tmp_path / "b", shards, **qkv_of(kind)) == verify(tmp_path / "b", tmp_path / "whole")


def test_a_run_that_was_stopped_does_not_go_on_with_the_other_order_of_rows(tmp_path: Path) -> None:
    kind = "minimax-h3 interleaved"
    _, path = saved(kind, tmp_path)
    shards = in_shards(load_file(path), tmp_path / "shards")

    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise Stop

    with pytest.raises(Stop):
        made(kind, shards, tmp_path / "small", qkv="stacked", on_bytes=stop)
    with pytest.raises(InputError, match="has an unfinished run of another kind"):
        made(kind, shards, tmp_path / "small", qkv="interleaved")
    made(kind, shards, tmp_path / "small", qkv="stacked")


def test_tensors_of_other_models_in_the_file_are_left_out_and_said(tmp_path: Path) -> None:
    _, path = saved("flux", tmp_path, prefix=COMFYUI)
    others = {"vae.decoder.conv_in.weight": torch.ones(2), "text_encoders.clip_l.a": torch.ones(1)}
    save(load_file(path) | others | {"text_encoders.b": torch.ones(1)}, path)
    written = made("flux", path, tmp_path / "small")
    note = "Its files have tensors of other models too, which are left out: text_encoders.* (2), vae.* (1)."
    assert note in written.notes


FOREIGN = "double_blocks.0.img_attn.extra.weight"
Tensors = dict[str, Tensor]


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {each: tensor for each, tensor in tensors.items() if each != name}


def with_(**more: Tensor) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {name.replace("__", "."): tensor for name, tensor in more.items()}


HOSTILE: list[tuple[str, Callable[[Tensors], Tensors], str]] = [
    ("flux", without("double_blocks.1.txt_attn.qkv.bias"), r"lacks double_blocks\.1\.txt_attn\.qkv\.bias"),
    ("flux", without("single_blocks.0.norm.key_norm.scale"), r"lacks single_blocks\.0\.norm\.key_norm\.scale"),
    ("flux", without("double_blocks.1.img_mod.lin.bias"), "some of double_blocks.* have a bias"),
    ("flux", without("final_layer.adaLN_modulation.1.bias"), r"lacks final_layer\.adaLN_modulation\.1\.bias"),
    ("flux", without("guidance_in.out_layer.weight"), r"no tensor guidance_in\.out_layer\.weight"),
    ("flux", lambda tensors: tensors | {FOREIGN: torch.ones(2)}, r"a tensor that no FLUX\.1 .*img_attn\.extra\.weight"),
    (
        "flux",
        with_(double_blocks__7__img_mlp__0__weight=torch.ones(2)),
        "num_layers is 2 in its configuration, and 8 by its",
    ),
    (
        "flux",
        with_(double_blocks__0__img_attn__norm__query_norm__weight=torch.ones(16)),
        r"no FLUX.*query_norm\.weight",
    ),
    (
        "flux",
        with_(double_blocks__0__img_mlp__0__weight=torch.ones(127, 32)),
        r"img_mlp\.0\.weight has the shape \[127",
    ),
    (
        "flux",
        with_(single_blocks__1__linear1__weight=torch.ones(224, 31)),
        r"linear1\.weight has the shape \[224, 31\]",
    ),
    ("flux", with_(single_blocks__1__linear1__bias=torch.ones(1, 224)), r"linear1\.bias has the shape \[1, 224\]"),
    (
        "flux",
        with_(time_in__in_layer__weight=torch.ones(32, 128)),
        r"time_in\.in_layer\.weight has the shape \[32, 128",
    ),
    ("flux", with_(x_embedder__weight=torch.ones(32, 4)), r"no FLUX\.1 of its depth has, x_embedder\.weight"),
    ("flux", with_(scaled_fp8=torch.ones(1)), "weights are stored with scales"),
    ("flux", with_(double_blocks__0__img_mlp__0__scale_weight=torch.ones(1)), "weights are stored with scales"),
    ("minimax-h3 stacked", without("blocks.1.norm2.weight"), r"lacks blocks\.1\.norm2\.weight"),
    ("minimax-h3 stacked", without("token_refiner.final_norm.weight"), r"lacks token_refiner\.final_norm"),
    ("minimax-h3 stacked", with_(blocks__0__attn__to_q__weight=torch.ones(2)), r"no MiniMax-H3 .*attn\.to_q\.weight"),
    ("minimax-h3 stacked", with_(blocks__0__mlp__fc1__weight=torch.ones(64, 64)), "ffn_dim is 64 in its configuration"),
    (
        "minimax-h3 stacked",
        with_(blocks__1__mlp__fc1__weight=torch.ones(64, 64)),
        r"fc1\.weight has the shape \[64, 64",
    ),
    ("minimax-h3 stacked", with_(rope__inv_freq=torch.ones(4)), r"rope\.inv_freq is not"),
]


@pytest.mark.parametrize(("kind", "change", "reason"), HOSTILE)
def test_what_the_model_has_not_or_lacks_is_refused_by_its_name(
    kind: str, change: Callable[[Tensors], Tensors], reason: str, tmp_path: Path
) -> None:
    _, path = saved(kind, tmp_path)
    save(change(load_file(path)), path)
    with pytest.raises(CheckpointError, match=reason):
        made(kind, path, tmp_path / "small", **qkv_of(kind))
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize("kind", ["flux", "minimax-h3 stacked"])
def test_a_model_under_both_namings_is_refused(kind: str, tmp_path: Path) -> None:
    _, path = saved(kind, tmp_path)
    theirs, ours = load_file(path), load_file(tmp_path / "whole" / WEIGHTS)
    save(theirs | ours, path)
    with pytest.raises(CheckpointError, match="as diffusers names it, and"):
        made(kind, path, tmp_path / "small")
    save(theirs | {COMFYUI + name: each for name, each in theirs.items()}, path)
    with pytest.raises(CheckpointError, match="has a second transformer"):
        made(kind, path, tmp_path / "small", **qkv_of(kind))


CONFIGURATIONS: list[tuple[dict[str, Any], str]] = [
    ({"guidance_embeds": False}, "guidance_embeds is False in its configuration, and True by its tensors"),
    ({"num_layers": 3}, "num_layers is 3 in its configuration, and 2 by its tensors"),
    ({"num_attention_heads": 4, "attention_head_dim": 8}, "num_attention_heads is 4 in its configuration"),
    ({"axes_dims_rope": [16, 56, 56]}, r"axes_dims_rope is \[16, 56, 56\] in its configuration, which does not fit"),
    ({"axes_dims_rope": [5, 5, 6]}, "axes_dims_rope is"),
    ({"axes_dims_rope": "4"}, "axes_dims_rope is '4'"),
    ({"patch_size": 2}, "out_channels is 4 in its configuration, and 1 by its tensors"),
    ({"patch_size": "x"}, "patch_size is 'x'"),
    ({"_class_name": "SD3Transformer2DModel"}, "by its configuration it is a SD3Transformer2DModel"),
]


@pytest.mark.parametrize(("change", "reason"), CONFIGURATIONS)
def test_a_configuration_of_another_model_is_refused(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    _, path = saved("flux", tmp_path)
    config = json.loads((path.parent / CONFIG).read_text()) | {"out_channels": 4}
    (path.parent / CONFIG).write_text(json.dumps(config | change))
    with pytest.raises(CheckpointError, match=reason):
        made("flux", path, tmp_path / "small")


def test_heads_of_no_published_model_need_a_configuration(tmp_path: Path) -> None:
    _, path = saved("flux", tmp_path, config=False)
    with pytest.raises(CheckpointError, match=r"its heads are 16 wide, and not 128 .* axes_dims_rope is not known"):
        made("flux", path, tmp_path / "small")
    kind = "minimax-h3 stacked"
    _, path = saved(kind, tmp_path / "other", config=False)
    save(without("rope.inv_freq")(load_file(path)), path)
    with pytest.raises(CheckpointError, match=r"its heads are 32 wide, and not 128 .* rope_freq_dim is not known"):
        made(kind, path, tmp_path / "small", **qkv_of(kind))


def test_a_configuration_that_is_not_diffusers_is_refused(tmp_path: Path) -> None:
    kind = "minimax-h3 interleaved"
    _, path = saved(kind, tmp_path)
    shards = in_shards(load_file(path), tmp_path / "shards")
    (shards / CONFIG).write_text('{"hidden_size": 64}')
    with pytest.raises(CheckpointError, match="is not diffusers', as it has no _class_name"):
        made(kind, shards, tmp_path / "small", **qkv_of(kind))


def test_the_order_of_rows_is_asked_for_where_no_tensor_tells_it_and_nowhere_else(tmp_path: Path) -> None:
    _, path = saved("minimax-h3 stacked", tmp_path)
    with pytest.raises(InputError, match="stand in one of two orders, which no tensor tells: give qkv as stacked"):
        made("minimax-h3 stacked", path, tmp_path / "small")
    with pytest.raises(InputError, match="give qkv as stacked"):
        made("minimax-h3 stacked", path, tmp_path / "small", qkv="rows")
    for kind, source in (("minimax-h3 stacked", tmp_path / "whole"), ("flux", saved("flux", tmp_path / "flux")[1])):
        with pytest.raises(InputError, match="qkv is for a MiniMax-H3 under its original names"):
            made(kind, source, tmp_path / "small", qkv="stacked")


def test_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, path = saved("minimax-h3 stacked", tmp_path)

    def ask(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tailprune", *arguments])
        return main(), *capsys.readouterr()

    code, _, error = ask("compact", str(path), str(tmp_path / "small"), "--rank", "2")
    assert code == 1
    assert "give qkv as stacked" in error
    code, card, _ = ask("compact", str(path), str(tmp_path / "small"), "--rank", "2", "--qkv", "stacked")
    assert code == 0
    assert "- The rows of q, k and v in qkv_proj were taken to be stacked.\n" in card
    code, said, _ = ask("verify", str(tmp_path / "small"), "--against", str(path), "--qkv", "stacked")
    assert code == 0
    assert "46 tensors are those of the whole model" in said
