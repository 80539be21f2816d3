"""LoRAs projected onto compacted transformers, against the same LoRAs on diffusers' whole models."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tailprune import load_transformer
from tailprune.__main__ import main
from tailprune.checkpoints import CheckpointError
from tailprune.spec import InputError
from tailprune.spec.transformers import CLASSES
from tailprune.transformers import compact, merging, project_lora, verify
from tailprune.transformers.original_names import HALVES_SWAPPED, ORIGINAL_NAMES
from tests.tailprune.transformers.test_compact import NO_TEXT, NOT_PLAIN, STEPS, difference, outputs, pooled, times_of
from tests.tailprune.transformers.tiny_models import TINY

NAMES = ["qwen", "flux", "sd3", "minimax-h3", "hunyuan-video", "auraflow", "hidream", "cogvideox"]
SOURCES_OF_C = ("time", "t_embedder", "p_embedder", "guidance", "ofs_embedding")
ADALN = "transformer_blocks.0.img_mod.1"
OTHER = "transformer_blocks.1.attn.to_k"


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def made(name: str, folder: Path) -> tuple[nn.Module, Tensor]:
    """The whole model, with its compacted one in `small`, and the times that it covers."""
    whole = TINY[name].save(folder / "whole")
    times = times_of(name, folder / "whole")
    how: dict[str, Any] = {"times": times} if name in NOT_PLAIN else {"steps": STEPS}
    compact(folder / "whole", folder / "small", **how, **pooled(name))
    return whole, times


def linears(model: nn.Module) -> dict[str, nn.Linear]:
    """The layers that a LoRA may change."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not name.startswith(SOURCES_OF_C)
    }


def lora_of_all(model: nn.Module, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """A LoRA of every layer, by diffusers' names, with ranks 2 and 3."""
    tensors: dict[str, Tensor] = {}
    for place, (name, layer) in enumerate(linears(model).items()):
        rank = 2 + place % 2
        tensors[f"transformer.{name}.lora_A.weight"] = noise(rank, layer.in_features, seed=place).to(dtype)
        tensors[f"transformer.{name}.lora_B.weight"] = noise(layer.out_features, rank, seed=place + 1).to(dtype)
    return tensors


def add(model: nn.Module, name: str, weight: Tensor | float, bias: Tensor | float = 0.0) -> None:
    layer = model.get_submodule(name)
    layer.weight.data += weight
    if layer.bias is not None:
        layer.bias.data += bias


def add_lora(model: nn.Module, tensors: dict[str, Tensor], scale: Callable[[int], float] = lambda rank: 1.0) -> None:
    for name, down in tensors.items():
        if name.endswith(".lora_A.weight"):
            layer = name.removeprefix("transformer.").removesuffix(".lora_A.weight")
            add(model, layer, scale(len(down)) * (tensors[name.replace("lora_A", "lora_B")] @ down))


def load(model: nn.Module, path: Path) -> None:
    """Put a file of PEFT on a model: each layer gives what it gave, and B (A x) + b of what it is given."""
    tensors = load_file(path)
    for name, down in tensors.items():
        if name.endswith(".lora_A.weight"):
            layer = name.removeprefix("transformer.").removesuffix(".lora_A.weight")
            up, bias = (tensors[name.replace("lora_A.weight", f"lora_B.{kind}")] for kind in ("weight", "bias"))
            model.get_submodule(layer).register_forward_hook(
                lambda _, given, said, down=down, up=up, bias=bias: said + given[0] @ down.T @ up.T + bias
            )


def predicted(model: nn.Module, name: str, times: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return outputs(model, name, TINY[name].inputs() | NO_TEXT.get(name, {}), times)


@pytest.mark.parametrize("name", NAMES)
def test_a_projected_lora_is_the_lora_on_the_whole_model(name: str, tmp_path: Path) -> None:
    whole, times = made(name, tmp_path)
    tensors = lora_of_all(whole)
    save_file(tensors, tmp_path / "lora.safetensors")
    found = project_lora(tmp_path / "lora.safetensors", tmp_path / "small", tmp_path / "out.safetensors")
    small = load_transformer(tmp_path / "small")
    without = predicted(small, name, times)
    load(small, tmp_path / "out.safetensors")
    add_lora(whole, tensors)
    exact = predicted(whole, name, times)
    assert difference(predicted(small, name, times), exact) < 1e-5
    assert difference(without, exact) > 1e-3
    assert found.adaln_layers + found.other_layers == len(linears(whole))
    assert found.adaln_layers == sum("narrow" in key for key in load_file(tmp_path / "out.safetensors")) / 3


@pytest.mark.parametrize("name", ["qwen", "minimax-h3", "sd3"])
def test_a_merged_model_has_the_lora_times_its_strength(name: str, tmp_path: Path) -> None:
    whole, times = made(name, tmp_path)
    tensors = lora_of_all(whole)
    save_file(tensors, tmp_path / "lora.safetensors")
    found = project_lora(
        tmp_path / "lora.safetensors", tmp_path / "small", tmp_path / "merged", merge=True, strength=0.5
    )
    add_lora(whole, tensors, lambda rank: 0.5)
    merged = load_transformer(tmp_path / "merged")
    assert difference(predicted(merged, name, times), predicted(whole, name, times)) < 1e-5
    assert (found.merged, found.strength) == (True, 0.5)


def test_layers_that_do_not_read_c_keep_their_bytes(tmp_path: Path) -> None:
    whole, _ = made("qwen", tmp_path)
    tensors = lora_of_all(whole, torch.bfloat16)
    save_file(tensors, tmp_path / "lora.safetensors")
    project_lora(tmp_path / "lora.safetensors", tmp_path / "small", tmp_path / "out.safetensors")
    after = load_file(tmp_path / "out.safetensors")
    adaln = [key for key in tensors if "_mod." in key or "norm_out" in key]
    for key in tensors.keys() - adaln:
        assert torch.equal(after[key], tensors[key])
        assert after[key].dtype == torch.bfloat16
    assert after[f"transformer.{ADALN}.narrow.lora_A.weight"].shape[1] == STEPS - 1
    assert not after.keys() & set(adaln)


def test_the_file_states_the_rank_of_each_layer_and_a_scale_of_one(tmp_path: Path) -> None:
    made("qwen", tmp_path)
    tensors = {
        f"transformer.{layer}.{name}": values
        for layer, rank, width in ((ADALN, 2, 6 * 32), (OTHER, 3, 32))
        for name, values in {"lora_A.weight": noise(rank, 32), "lora_B.weight": noise(width, rank)}.items()
    }
    save_file(tensors | {f"transformer.{OTHER}.alpha": torch.tensor(6.0)}, tmp_path / "lora.safetensors")
    project_lora(tmp_path / "lora.safetensors", tmp_path / "small", tmp_path / "out.safetensors")
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        stated = json.loads(file.metadata()["lora_adapter_metadata"])
        down = file.get_tensor(f"transformer.{OTHER}.lora_A.weight")
    assert stated["transformer.r"] == stated["transformer.lora_alpha"] == 2
    assert stated["transformer.rank_pattern"] == stated["transformer.alpha_pattern"] == {f"^{OTHER}": 3}
    assert stated["transformer.target_modules"] == [f"{ADALN}.narrow", OTHER]
    assert stated["transformer.lora_bias"] is True
    assert torch.equal(down, 2 * tensors[f"transformer.{OTHER}.lora_A.weight"])


def test_a_scale_that_the_type_does_not_hold_makes_the_layer_float32(tmp_path: Path) -> None:
    made("qwen", tmp_path)
    down, up = noise(3, 32).bfloat16(), noise(32, 3).bfloat16()
    tensors = {f"{OTHER}.lora_A.weight": down, f"{OTHER}.lora_B.weight": up, f"{OTHER}.alpha": torch.tensor(1.0)}
    save_file(tensors, tmp_path / "lora.safetensors")
    project_lora(tmp_path / "lora.safetensors", tmp_path / "small", tmp_path / "out.safetensors")
    after = load_file(tmp_path / "out.safetensors")
    assert torch.equal(after[f"transformer.{OTHER}.lora_A.weight"], (down.double() / 3).float())
    assert torch.equal(after[f"transformer.{OTHER}.lora_B.weight"], up.float())


def forms(rows: int, columns: int) -> dict[str, tuple[dict[str, Tensor], Tensor, Tensor | float]]:
    """The tensors of each form, and dW and db by the formulas of their papers."""
    down, up = noise(4, columns, seed=1), noise(rows, 4, seed=2)
    a, b, c, d = noise(rows, 3, seed=3), noise(3, columns, seed=4), noise(rows, 3, seed=5), noise(3, columns, seed=6)
    outer, inner = noise(4, 2, seed=7), noise(rows // 4, columns // 2, seed=8)
    left, right = noise(rows // 4, 2, seed=9), noise(2, columns // 2, seed=10)
    whole, bias = noise(rows, columns, seed=11), noise(rows, seed=12)
    alpha = torch.tensor(1.5)
    return {
        "lora": ({"lora_down.weight": down, "lora_up.weight": up, "alpha": alpha}, 1.5 / 4 * up @ down, 0.0),
        "lora with a bias": (
            {"lora_A.weight": down, "lora_B.weight": up, "lora_B.bias": bias, "alpha": alpha},
            1.5 / 4 * up @ down,
            1.5 / 4 * bias,
        ),
        "loha": (
            {"hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": c, "hada_w2_b": d, "alpha": alpha},
            0.5 * (a @ b) * (c @ d),
            0.0,
        ),
        "lokr": ({"lokr_w1": outer, "lokr_w2": inner, "alpha": alpha}, torch.kron(outer, inner), 0.0),
        "lokr of a product": (
            {"lokr_w1": outer, "lokr_w2_a": left, "lokr_w2_b": right, "alpha": alpha},
            0.75 * torch.kron(outer, left @ right),
            0.0,
        ),
        "difference": ({"diff": whole, "diff_b": bias}, whole, bias),
        "bias": ({"diff_b": bias}, torch.zeros(rows, columns), bias),
    }


FORMS = list(forms(8, 8))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_change_of_adaln_is_projected(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailprune.transformers.projecting.ROWS", 50)  # several pieces, that end within factors
    whole, times = made("qwen", tmp_path)
    tensors, weight, bias = forms(192, 32)[form]
    save_file({f"diffusion_model.{ADALN}.{key}": each for key, each in tensors.items()}, tmp_path / "lora.safetensors")
    project_lora(tmp_path / "lora.safetensors", tmp_path / "small", tmp_path / "out.safetensors")
    project_lora(tmp_path / "lora.safetensors", tmp_path / "small", tmp_path / "merged", merge=True)
    small = load_transformer(tmp_path / "small")
    load(small, tmp_path / "out.safetensors")
    add(whole, ADALN, weight, bias)
    exact = predicted(whole, "qwen", times)
    assert difference(predicted(small, "qwen", times), exact) < 1e-5
    assert difference(predicted(load_transformer(tmp_path / "merged"), "qwen", times), exact) < 1e-5


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_change_of_another_layer_is_merged(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailprune.transformers.merging.ROWS", 5)
    whole, times = made("qwen", tmp_path)
    tensors, weight, bias = forms(32, 32)[form]
    save_file({f"{OTHER}.{key}": each for key, each in tensors.items()}, tmp_path / "lora.safetensors")
    project_lora(tmp_path / "lora.safetensors", tmp_path / "small", tmp_path / "merged", merge=True)
    add(whole, OTHER, weight, bias)
    merged = load_transformer(tmp_path / "merged")
    assert difference(predicted(merged, "qwen", times), predicted(whole, "qwen", times)) < 1e-5
    if "lora" not in form:
        with pytest.raises(InputError, match="which a file for diffusers' loader cannot hold: merge it"):
            project_lora(tmp_path / "lora.safetensors", tmp_path / "small", tmp_path / "out.safetensors")
        assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("where", ["diffusers", "peft"])
def test_a_stated_alpha_is_rank_stabilised_where_that_is_stated(where: str, tmp_path: Path) -> None:
    whole, times = made("qwen", tmp_path)
    tensors = lora_of_all(whole)
    config = {"r": 2, "lora_alpha": 1.0, "use_rslora": True, "alpha_pattern": {f"^{OTHER}": 3.0}}
    path = tmp_path / "adapter_model.safetensors"
    if where == "peft":
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        save_file({key.replace("transformer.", "base_model.model.", 1): each for key, each in tensors.items()}, path)
    else:
        stated = json.dumps({f"transformer.{key}": value for key, value in config.items()})
        save_file(tensors, path, {"lora_adapter_metadata": stated})
    project_lora(path, tmp_path / "small", tmp_path / "merged", merge=True)
    add_lora(whole, tensors, lambda rank: 1 / math.sqrt(rank))
    other = {key: each for key, each in tensors.items() if OTHER in key}
    add_lora(whole, other, lambda rank: 2 / math.sqrt(rank))
    merged = load_transformer(tmp_path / "merged")
    assert difference(predicted(merged, "qwen", times), predicted(whole, "qwen", times)) < 1e-5


def test_a_pattern_that_names_a_whole_layer_is_not_of_those_that_end_alike(tmp_path: Path) -> None:
    whole, times = made("flux", tmp_path)
    tensors = lora_of_all(whole)
    config = {"lora_alpha": 1.0, "alpha_pattern": {"^proj_out": 6.0, "to_k": 4.0, "attn.to_k": 9.0}}
    stated = json.dumps({f"transformer.{key}": value for key, value in config.items()})
    save_file(tensors, tmp_path / "lora.safetensors", {"lora_adapter_metadata": stated})
    project_lora(tmp_path / "lora.safetensors", tmp_path / "small", tmp_path / "merged", merge=True)
    for key, each in tensors.items():
        if "lora_A" in key:
            layer = key.removeprefix("transformer.").removesuffix(".lora_A.weight")
            alpha = {"proj_out": 6.0}.get(layer, 4.0 if layer.endswith(".to_k") else 1.0)
            add(whole, layer, alpha / len(each) * (tensors[key.replace("lora_A", "lora_B")] @ each))
    merged = load_transformer(tmp_path / "merged")
    assert difference(predicted(merged, "flux", times), predicted(whole, "flux", times)) < 1e-5


@pytest.mark.parametrize(("form", "kind"), [("loha", "LOHA"), ("lokr", "LOKR"), ("lokr of a product", "LOKR")])
def test_the_alpha_that_peft_states_of_a_loha_or_lokr_counts(form: str, kind: str, tmp_path: Path) -> None:
    whole, times = made("qwen", tmp_path)
    tensors, weight, _ = forms(32, 32)[form]
    of_papers = {"loha": 0.5, "lokr": 1.0, "lokr of a product": 0.75}[form]
    rank = {"loha": 3, "lokr": 16, "lokr of a product": 2}[form]
    config = {"peft_type": kind, "r": 99, "rank_pattern": {OTHER: rank}, "alpha": 12, "alpha_pattern": {}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    path = tmp_path / "adapter_model.safetensors"
    save_file({f"base_model.model.{OTHER}.{key}": each for key, each in tensors.items() if key != "alpha"}, path)
    project_lora(path, tmp_path / "small", tmp_path / "merged", merge=True)
    add(whole, OTHER, 12 / rank * weight / of_papers)
    merged = load_transformer(tmp_path / "merged")
    assert difference(predicted(merged, "qwen", times), predicted(whole, "qwen", times)) < 1e-5


def test_a_difference_of_a_norm_is_merged(tmp_path: Path) -> None:
    whole, times = made("qwen", tmp_path)
    norm = "transformer_blocks.0.attn.norm_q"
    change = noise(16)
    save_file({f"diffusion_model.{norm}.diff": change}, tmp_path / "lora.safetensors")
    project_lora(tmp_path / "lora.safetensors", tmp_path / "small", tmp_path / "merged", merge=True)
    whole.get_submodule(norm).weight.data += change
    merged = load_transformer(tmp_path / "merged")
    assert difference(predicted(merged, "qwen", times), predicted(whole, "qwen", times)) < 1e-5


def test_names_of_kohya_are_those_of_diffusers_with_underscores(tmp_path: Path) -> None:
    whole, _ = made("sd3", tmp_path)
    tensors = lora_of_all(whole)
    save_file(tensors, tmp_path / "a.safetensors")
    flat = {}
    for key, each in tensors.items():
        module, _, which = key.removeprefix("transformer.").removesuffix(".weight").rpartition(".lora_")
        ending = {"A": "lora_down", "B": "lora_up"}[which]
        flat[f"lora_unet_{module.replace('.', '_')}.{ending}.weight"] = each
    save_file(flat, tmp_path / "b.safetensors")
    for name in ("a", "b"):
        project_lora(tmp_path / f"{name}.safetensors", tmp_path / "small", tmp_path / f"{name}-out.safetensors")
    ours, theirs = (load_file(tmp_path / f"{name}-out.safetensors") for name in ("a", "b"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("name", ["flux", "minimax-h3"])
@pytest.mark.parametrize("flat", [False, True])
def test_original_names_mean_the_layers_that_diffusers_makes_of_them(name: str, flat: bool, tmp_path: Path) -> None:
    whole, times = made(name, tmp_path)
    layers, tensors = linears(whole), {}
    for place, (pattern, ours) in enumerate(ORIGINAL_NAMES[TINY[name].name].items()):
        for block in range(9) if "*" in pattern else range(1):
            theirs = [each.replace("*", str(block)) for each in ours]
            if theirs[0] not in layers or "embedder.linear_" in theirs[0]:  # norms, and what makes c
                break
            down = noise(2, layers[theirs[0]].in_features, seed=place)
            up = noise(sum(layers[each].out_features for each in theirs), 2, seed=place + 1)
            module = pattern.replace("*", str(block))
            module = f"lora_unet_{module.replace('.', '_')}" if flat else f"diffusion_model.{module}"
            tensors[f"{module}.lora_down.weight"], tensors[f"{module}.lora_up.weight"] = down, up
            change = up @ down
            if pattern in HALVES_SWAPPED:
                change = change.roll(len(change) // 2, 0)
            for layer, rows in zip(theirs, change.split([layers[each].out_features for each in theirs]), strict=True):
                add(whole, layer, rows)
    save_file(tensors, tmp_path / "lora.safetensors")
    project_lora(tmp_path / "lora.safetensors", tmp_path / "small", tmp_path / "out.safetensors")
    project_lora(tmp_path / "lora.safetensors", tmp_path / "small", tmp_path / "merged", merge=True)
    small, exact = load_transformer(tmp_path / "small"), predicted(whole, name, times)
    load(small, tmp_path / "out.safetensors")
    assert difference(predicted(small, name, times), exact) < 1e-5
    assert difference(predicted(load_transformer(tmp_path / "merged"), name, times), exact) < 1e-5


@pytest.mark.parametrize("name", ORIGINAL_NAMES)
def test_original_names_of_adaln_and_of_what_makes_c_are_those_of_the_records(name: str) -> None:
    ours, theirs = (cls for cls in CLASSES if cls.name == name)
    for mine, other in zip(ours.linears, theirs.linears, strict=True):
        assert ORIGINAL_NAMES[name][other.name] == (mine.name,)
        assert (other.name in HALVES_SWAPPED) == (mine.pieces != other.pieces)
    for part, original in zip(ours.parts, theirs.parts, strict=True):
        assert [ORIGINAL_NAMES[name][layer] for layer in original.layers] == [(layer,) for layer in part.layers]
        assert (part.what, part.number, part.optional) == (original.what, original.number, original.optional)


def test_an_alpha_in_the_metadata_counts_for_minimax_h3(tmp_path: Path) -> None:
    whole, times = made("minimax-h3", tmp_path)
    tensors = lora_of_all(whole)
    save_file(tensors, tmp_path / "lora.safetensors", {"alpha": "1"})
    project_lora(tmp_path / "lora.safetensors", tmp_path / "small", tmp_path / "merged", merge=True)
    add_lora(whole, tensors, lambda rank: 1 / rank)
    merged = load_transformer(tmp_path / "merged")
    assert difference(predicted(merged, "minimax-h3", times), predicted(whole, "minimax-h3", times)) < 1e-5


def pair(layer: str, *, rows: int = 32, columns: int = 32, rank: int = 2, other: int = 2) -> dict[str, Tensor]:
    return {f"{layer}.lora_A.weight": noise(rank, columns), f"{layer}.lora_B.weight": noise(rows, other)}


NAN = torch.tensor(float("nan"))
HOSTILE: list[tuple[dict[str, Tensor], dict[str, str], str]] = [
    ({}, {"format": "pt"}, "has no tensors"),
    (pair("transformer_blocks.7.attn.to_q"), {}, r"transformer_blocks\.7\.attn\.to_q is no layer of the Qwen"),
    (pair("joint_blocks.0.x_block.adaLN_modulation.1"), {}, "is no layer of the Qwen"),
    (pair("adaln_basis"), {}, "adaln_basis is no layer"),
    (pair(OTHER) | pair(f"transformer.{OTHER}"), {}, "both change transformer_blocks.1.attn.to_k: leave one out"),
    (
        pair(OTHER) | {f"{OTHER}.lora_down.weight": noise(2, 32)},
        {},
        "are the same tensor of one layer: leave one out",
    ),
    (pair(ADALN, rows=192, columns=4), {}, r"lora_A\.weight has the shape \[2, 4\], .* take 32 columns"),
    (pair(ADALN, rows=96), {}, "take 192 rows"),
    (pair(OTHER, other=3), {}, "take as many columns as .* has rows, 2"),
    (pair(OTHER, rank=0, other=0), {}, "a factor is a matrix"),
    ({f"{OTHER}.lora_A.weight": noise(2, 32)}, {}, "which are not the tensors of one LoRA"),
    (pair(OTHER) | {f"{OTHER}.diff": noise(32, 32)}, {}, "which are not the tensors of one LoRA"),
    ({f"{OTHER}.alpha": torch.tensor(1.0)}, {}, "which are not the tensors of one LoRA"),
    (pair(OTHER) | {f"{OTHER}.alpha": NAN}, {}, "is not one finite number"),
    (pair(OTHER) | {f"{OTHER}.alpha": noise(2)}, {}, "is not one finite number"),
    (pair(OTHER) | {f"{OTHER}.dora_scale": noise(32, 1)}, {}, "of DoRA, which is not read"),
    (pair(OTHER) | {f"{OTHER}.lora_C.weight": noise(2, 2)}, {}, r"ends in none of \.lora_A\.weight"),
    (pair("time_text_embed.timestep_embedder.linear_1"), {}, "changes what makes c"),
    (pair("lora_unet_time_text_embed_timestep_embedder_linear_2"), {}, "changes what makes c"),
    (pair("text_encoder.layers.0.q_proj"), {}, "is of a text encoder"),
    (pair("lora_te1_layers_0_q_proj"), {}, "is of a text encoder"),
    ({f"{OTHER}.diff": noise(32, 31)}, {}, r"diff has the shape \[32, 31\]"),
    ({f"{OTHER}.diff_b": noise(31)}, {}, r"take \[32\]"),
    ({f"{OTHER}.lokr_w1": noise(4, 4), f"{OTHER}.lokr_w2": noise(8, 4)}, {}, "factors whose product has 32 rows"),
    ({key: each.long() for key, each in pair(OTHER).items()}, {}, "has the type I64"),
    (pair(f"{OTHER}.norm"), {}, "is no layer"),
    (pair("transformer_blocks.0.attn.norm_q"), {}, "has no matrix to change"),
    ({key: each * NAN for key, each in pair(ADALN, rows=192).items()}, {}, "holds NaN or infinity"),
    (pair(OTHER), {"lora_adapter_metadata": "{"}, "does not describe its adapters as PEFT does"),
    (pair(OTHER), {"lora_adapter_metadata": '{"transformer.use_dora": true}'}, "is a DoRA"),
    (pair(OTHER), {"lora_adapter_metadata": '{"transformer.lora_alpha": "x"}'}, "does not describe"),
    (pair(OTHER), {"lora_adapter_metadata": '{"transformer.alpha_pattern": {"(a+)+": 1}}'}, "only names are read"),
    (pair(OTHER), {"lora_adapter_metadata": '{"transformer.peft_type": "OFT"}'}, "is of the kind OFT of PEFT"),
    (
        pair(OTHER) | {f"{OTHER}.alpha": torch.tensor(1.0)},
        {"lora_adapter_metadata": '{"transformer.lora_alpha": 1}'},
        "has alphas as tensors and in its description",
    ),
]


def test_what_does_not_fit_is_refused_with_the_reason(tmp_path: Path) -> None:
    made("qwen", tmp_path)
    for tensors, metadata, said in HOSTILE:
        save_file(tensors, tmp_path / "lora.safetensors", metadata)
        for merge in (False, True):
            with pytest.raises(InputError, match=said):
                project_lora(tmp_path / "lora.safetensors", tmp_path / "small", tmp_path / "out", merge=merge)
            assert {path.name for path in tmp_path.iterdir()} == {"whole", "small", "lora.safetensors"}


def test_a_qkv_whose_order_is_not_known_is_refused(tmp_path: Path) -> None:
    made("minimax-h3", tmp_path)
    module = "blocks.0.attn.qkv_proj"
    tensors = {f"{module}.lora_A.default.weight": noise(2, 64), f"{module}.lora_B.default.weight": noise(192, 2)}
    save_file(tensors, tmp_path / "lora.safetensors")
    with pytest.raises(InputError, match="may have the rows of its heads in turns"):
        project_lora(tmp_path / "lora.safetensors", tmp_path / "small", tmp_path / "out.safetensors")


def test_files_that_are_not_what_they_say_are_refused(tmp_path: Path) -> None:
    made("qwen", tmp_path)
    lora, small = tmp_path / "lora.safetensors", tmp_path / "small"
    with pytest.raises(FileNotFoundError, match="there is no file"):
        project_lora(lora, small, tmp_path / "out")
    save_file(pair(OTHER), lora)
    lora.write_bytes(lora.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="the file has"):
        project_lora(lora, small, tmp_path / "out")
    save_file(pair(OTHER), lora)
    with pytest.raises(FileNotFoundError, match=r"has no compaction\.json"):
        project_lora(lora, tmp_path / "whole", tmp_path / "out")
    with pytest.raises(InputError, match="exists: give another name"):
        project_lora(lora, small, lora)
    with pytest.raises(InputError, match="there is no folder"):
        project_lora(lora, small, tmp_path / "none" / "out")
    with pytest.raises(InputError, match="strength belongs to merge"):
        project_lora(lora, small, tmp_path / "out", strength=0.5)
    directions = small / "directions.safetensors"
    good = directions.read_bytes()
    directions.write_bytes(good[:-4] + b"abcd")
    with pytest.raises(CheckpointError, match="its sha256 differs"):
        project_lora(lora, small, tmp_path / "out")
    directions.unlink()
    with pytest.raises(InputError, match=r"has no directions\.safetensors.* compact the whole model again"):
        project_lora(lora, small, tmp_path / "out")


def test_a_bias_where_there_is_none_is_refused(tmp_path: Path) -> None:
    made("auraflow", tmp_path)
    save_file({"joint_transformer_blocks.0.attn.to_q.diff_b": noise(32)}, tmp_path / "lora.safetensors")
    with pytest.raises(InputError, match=r"changes a bias, and .* has none"):
        project_lora(tmp_path / "lora.safetensors", tmp_path / "small", tmp_path / "out", merge=True)


def test_a_sum_that_the_type_does_not_hold_is_refused(tmp_path: Path) -> None:
    TINY["qwen"].build().half().save_pretrained(tmp_path / "whole")
    compact(tmp_path / "whole", tmp_path / "small", steps=3)
    save_file({f"{OTHER}.diff": torch.full((32, 32), 1e5)}, tmp_path / "lora.safetensors")
    with pytest.raises(InputError, match="or is too large"):
        project_lora(tmp_path / "lora.safetensors", tmp_path / "small", tmp_path / "out", merge=True)
    assert not (tmp_path / ".out.partial").exists()


def test_a_merge_that_is_stopped_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made("qwen", tmp_path)
    save_file(pair(OTHER), tmp_path / "lora.safetensors")

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(merging, "_describe", stop)
    with pytest.raises(KeyboardInterrupt):
        project_lora(tmp_path / "lora.safetensors", tmp_path / "small", tmp_path / "out", merge=True)
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "small", "lora.safetensors"}


def test_a_merged_model_of_several_files_says_what_was_merged(tmp_path: Path) -> None:
    TINY["qwen"].save(tmp_path / "whole", max_shard_size="40KB")
    compact(tmp_path / "whole", tmp_path / "small", steps=STEPS)
    save_file(pair(OTHER), tmp_path / "lora.safetensors")
    project_lora(tmp_path / "lora.safetensors", tmp_path / "small", tmp_path / "once", merge=True)
    project_lora(tmp_path / "lora.safetensors", tmp_path / "once", tmp_path / "twice", merge=True, strength=-1)
    said = json.loads((tmp_path / "twice" / "compaction.json").read_text())
    assert [each["strength"] for each in said["adapters"]] == [1, -1]
    assert "with strength -1" in (tmp_path / "twice" / "README.md").read_text()
    before, after = (load_transformer(tmp_path / name).state_dict() for name in ("small", "twice"))
    assert all(torch.allclose(before[key], after[key], atol=1e-6) for key in before)
    with pytest.raises(CheckpointError, match="has an adapter merged"):
        verify(tmp_path / "once", tmp_path / "whole")


def test_directions_that_the_layers_were_not_made_with_are_found(tmp_path: Path) -> None:
    made("qwen", tmp_path)
    path = tmp_path / "small" / "directions.safetensors"
    decode = load_file(path)["decode"]
    save_file({"decode": -decode}, path)
    note = tmp_path / "small" / "compaction.json"
    said = json.loads(note.read_text())
    said["files"]["directions.safetensors"] = hashlib.sha256(path.read_bytes()).hexdigest()
    note.write_text(json.dumps(said))
    with pytest.raises(CheckpointError, match=r"is not the whole model's times directions\.safetensors"):
        verify(tmp_path / "small", tmp_path / "whole")


def test_with_a_rank_a_lora_of_adaln_is_within_the_error_of_the_directions(tmp_path: Path) -> None:
    whole = TINY["minimax-h3"].save(tmp_path / "whole")
    compact(tmp_path / "whole", tmp_path / "small", rank=5)
    tensors = lora_of_all(whole)
    save_file(tensors, tmp_path / "lora.safetensors")
    project_lora(tmp_path / "lora.safetensors", tmp_path / "small", tmp_path / "merged", merge=True)
    add_lora(whole, tensors)
    times = torch.tensor([0.13, 0.57, 0.91])
    merged = load_transformer(tmp_path / "merged")
    assert difference(predicted(merged, "minimax-h3", times), predicted(whole, "minimax-h3", times)) < 1e-3


def test_the_command_says_what_it_projected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made("qwen", tmp_path)
    save_file(pair(OTHER) | pair(ADALN, rows=192), tmp_path / "lora.safetensors")
    arguments = ["tailprune", "project-lora", str(tmp_path / "lora.safetensors"), "--onto", str(tmp_path / "small")]
    monkeypatch.setattr("sys.argv", [*arguments, "--out", str(tmp_path / "out.safetensors")])
    assert main() == 0
    assert "1 layers of AdaLN projected, 1 others as they were" in capsys.readouterr().out
    assert main() == 1
    assert "exists: give another name" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", [*arguments, "--out", str(tmp_path / "m"), "--merge", "--strength", "2", "--json"])
    assert main() == 0
    assert json.loads(capsys.readouterr().out)["strength"] == 2
