"""A DiT as diffusers saves it, beside diffusers' own answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiTTransformer2DModel
from safetensors.torch import load_file, save_file

import tailprune
from tailprune.checkpoints.load import CheckpointError
from tests.tailprune.parity import relative_error

CLASSES, WIDTH, DEPTH = 10, 32, 3


def made_by_diffusers(*, shared: bool, **changes: Any) -> DiTTransformer2DModel:
    """Random weights; `shared` embedders, as a converted checkpoint has them, or a block's own, as diffusers makes."""
    torch.manual_seed(0)
    model = DiTTransformer2DModel(
        **{
            "num_attention_heads": 4, "attention_head_dim": WIDTH // 4, "in_channels": 4, "out_channels": 8,
            "num_layers": DEPTH, "sample_size": 8, "patch_size": 2, "num_embeds_ada_norm": CLASSES, **changes,
        }
    )  # fmt: skip
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    if shared:
        for block in model.transformer_blocks[1:]:
            block.norm1.emb.load_state_dict(model.transformer_blocks[0].norm1.emb.state_dict())
    return model.requires_grad_(False).eval()


def theirs(model: DiTTransformer2DModel, x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return model(x, timestep=t, class_labels=labels).sample


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(3, 4, 8, 8), torch.tensor([999.0, 500.0, 0.0]), torch.tensor([0, 7, CLASSES])


@pytest.mark.parametrize("shared", [True, False], ids=["shared embedders", "embedders of each block"])
@pytest.mark.parametrize("shards", [None, "40KB"], ids=["one file", "several files"])
@pytest.mark.parametrize("inside", ["transformer", "."])
def test_it_agrees_with_diffusers_own_output(
    tmp_path: Path, batch: tuple[torch.Tensor, ...], shared: bool, shards: str | None, inside: str
) -> None:
    x, t, labels = batch
    model = made_by_diffusers(shared=shared)
    model.save_pretrained(tmp_path / inside, **({"max_shard_size": shards} if shards else {}))
    system = tailprune.load(tmp_path)
    assert system.family == "dit"
    ours = system(x, system.condition(t, {"labels": labels}))
    assert relative_error(ours, theirs(model, x, t, labels)) < 1e-4
    assert system.condition_dim == (WIDTH if shared else DEPTH * WIDTH)


@pytest.mark.parametrize("shared", [True, False])
def test_its_condition_alone_is_that_of_the_whole(
    tmp_path: Path, batch: tuple[torch.Tensor, ...], shared: bool
) -> None:
    _, t, labels = batch
    made_by_diffusers(shared=shared).save_pretrained(tmp_path)
    system, condition = tailprune.load(tmp_path), tailprune.load_condition(tmp_path)
    assert torch.equal(condition.condition(t, {"labels": labels}), system.condition(t, {"labels": labels}))
    assert not any("block" in name for name in condition.state_dict())


@pytest.mark.parametrize("shared", [True, False])
def test_it_samples_pruned_and_unpruned(tmp_path: Path, shared: bool) -> None:
    made_by_diffusers(shared=shared).save_pretrained(tmp_path)
    prunes = [None, tailprune.Prune("tail", 0.5), tailprune.Prune("head", 0.5)]
    made = tailprune.sample(
        tailprune.load(tmp_path), {"labels": torch.tensor([1, 2])}, steps=3, guidance=2.0, prune=prunes, seeds=range(2)
    )
    assert isinstance(made, list)
    assert all(latents.isfinite().all() for latents in made)
    assert not torch.equal(made[0], made[1])


def test_weights_saved_as_a_pickle_are_read(tmp_path: Path, batch: tuple[torch.Tensor, ...]) -> None:
    x, t, labels = batch
    model = made_by_diffusers(shared=True)
    model.save_pretrained(tmp_path / "transformer", safe_serialization=False)
    assert (tmp_path / "transformer" / "diffusion_pytorch_model.bin").is_file()
    system = tailprune.load(tmp_path)
    assert relative_error(system(x, system.condition(t, {"labels": labels})), theirs(model, x, t, labels)) < 1e-4


def test_weights_of_half_precision_are_read_where_there_are_no_others(
    tmp_path: Path, batch: tuple[torch.Tensor, ...]
) -> None:
    x, t, labels = batch
    model = made_by_diffusers(shared=True).half().float()
    model.save_pretrained(tmp_path / "transformer", variant="fp16")
    assert (tmp_path / "transformer" / "diffusion_pytorch_model.fp16.safetensors").is_file()
    system = tailprune.load(tmp_path)
    assert relative_error(system(x, system.condition(t, {"labels": labels})), theirs(model, x, t, labels)) < 1e-4


def test_a_tensor_that_is_a_single_number_is_refused(tmp_path: Path) -> None:
    made_by_diffusers(shared=True).save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    save_file(load_file(file) | {"transformer_blocks.0.attn1.to_k.weight": torch.tensor(1.0)}, file)
    with pytest.raises(CheckpointError, match=r"attn1\.to_k\.weight.* is a single number"):
        tailprune.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "class is UNet2DConditionModel, and only DiTTransformer2DModel"),
        ({"activation_fn": "geglu"}, "activation_fn is 'geglu'; only 'gelu-approximate'"),
        ({"num_layers": "many"}, "num_layers is 'many', not a whole number"),
        ({"num_layers": 0}, "num_layers is 0; it must be at least 1"),
        ({"num_layers": True}, "num_layers is True, not a whole number"),
        ({"num_layers": DEPTH + 1}, r"config\.json: num_layers is 4, but the weights have 3 blocks"),
        ({"num_layers": 10**12}, "num_layers is 1000000000000, but the weights have 3 blocks"),
        ({"num_layers": DEPTH - 1}, "num_layers is 2, but the weights have 3 blocks"),
        ({"patch_size": 0}, "patch_size is 0; it must be at least 1"),
        ({"patch_size": -2}, "patch_size is -2; it must be at least 1"),
        ({"patch_size": 4}, "patch_size is 4, but the weights are for patches of 2"),
        ({"sample_size": 1}, "sample_size is 1, less than patch_size, 2"),
        ({"norm_eps": "small"}, "norm_eps is 'small', not a number"),
    ],
)
@pytest.mark.parametrize("shared", [True, False])
def test_another_configuration_is_refused_with_what_a_dit_has(
    tmp_path: Path, changes: dict[str, Any], message: str, shared: bool
) -> None:
    made_by_diffusers(shared=shared).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(CheckpointError, match=message):
        tailprune.load(tmp_path)


def test_a_folder_without_weights_says_which_files_it_lacks(tmp_path: Path) -> None:
    made_by_diffusers(shared=True).save_pretrained(tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no weights: add diffusion_pytorch_model\.safetensors"):
        tailprune.load(tmp_path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{}", "has no weight_map"),
        ("[]", "has no weight_map"),
        ("7", "has no weight_map"),
        ("{", "not JSON"),
        ('{"weight_map": {}}', "has no weight_map"),
        ('{"weight_map": ["a.safetensors"]}', "has no weight_map"),
        ('{"weight_map": {"pos_embed": 3, "proj": "a.safetensors"}}', "has 3 for pos_embed, which is not the name"),
        ('{"weight_map": {"pos_embed": ["a.safetensors"]}}', r"has \['a.safetensors'\] for pos_embed"),
        ('{"weight_map": {"pos_embed": ""}}', "has '' for pos_embed"),
    ],
)
def test_an_index_that_names_no_files_is_refused(tmp_path: Path, index: str, message: str) -> None:
    made_by_diffusers(shared=True).save_pretrained(tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors.index.json").write_text(index)
    with pytest.raises(CheckpointError, match=rf"safetensors\.index\.json: .*{message}"):
        tailprune.load(tmp_path)


def test_a_folder_of_something_else_says_what_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"neither model\.safetensors nor .* nor a diffusers DiT"):
        tailprune.load(tmp_path)
