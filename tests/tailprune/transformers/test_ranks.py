"""The curve of the time, and the directions that it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailprune.transformers import Ranks, anatomy, ranks
from tailprune.transformers.recognise import recognise
from tailprune.transformers.source import open_source
from tests.tailprune.transformers.tiny_models import TINY, inputs_of_linears, share_embedders

NEUTRAL: dict[str, dict[str, Any]] = {
    "sd3": {"pooled_projections": torch.zeros(1, 24)},
    "flux": {"pooled_projections": torch.zeros(1, 24)},
    "flux-schnell": {"pooled_projections": torch.zeros(1, 24)},
    "hunyuan-image": {"timestep_r": torch.zeros(1)},
    "hunyuan-video": {"pooled_projections": torch.zeros(1, 8)},
    "hunyuan-video-15": {"timestep_r": torch.zeros(1)},
    "hidream": {"pooled_embeds": torch.zeros(1, 24)},
    "dit": {"class_labels": torch.tensor([10])},
    "mochi": {"encoder_hidden_states": torch.zeros(1, 3, 16)},
}
"""What `condition` holds fixed, where it is not what the tiny model's inputs have."""


def measured(folder: Path) -> Ranks:
    found = anatomy(folder).ranks
    assert found is not None
    return found


def needed_by_svd(read: Tensor, weights: Tensor) -> dict[float, int]:
    """The ranks by the singular values of all modulations."""
    modulations = read.double() @ weights.double().T
    values = torch.linalg.svdvals(modulations - modulations.mean(0))
    lost = torch.cat([values.square().flip(0).cumsum(0).flip(0), torch.zeros(1)]).sqrt() / modulations.norm()
    return {error: int((lost > error).sum()) for error in ranks.ERRORS}


@pytest.mark.parametrize("name", [name for name in TINY if name != "cogview4"])
def test_the_condition_is_that_of_diffusers(name: str, tmp_path: Path) -> None:
    model = TINY[name].build()
    share_embedders(model)
    model.save_pretrained(tmp_path)
    inputs = TINY[name].inputs() | NEUTRAL.get(name, {})
    found = recognise(open_source(tmp_path))
    read = inputs_of_linears(model, inputs)[found.cls.linears[-1].name]
    times = inputs["timesteps" if name == "hidream" else "timestep"].float()
    torch.testing.assert_close(F.silu(ranks.condition(found, times)).float(), read, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["qwen", "minimax-h3", "auraflow"])
def test_ranks_are_those_of_the_singular_values_of_all_modulations(name: str, tmp_path: Path) -> None:
    model = TINY[name].save(tmp_path)
    found = anatomy(tmp_path)
    assert found.ranks is not None
    times = torch.linspace(0, found.time_range[1], 1001)
    read = F.silu(ranks.condition(recognise(open_source(tmp_path)), times))
    patterns = [group.name.split("*") for group in found.linears]
    layers = [
        module.weight
        for layer, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and any(layer.startswith(before) and layer.endswith(after[0] if after else "") for before, *after in patterns)
        and (
            ("transformer_blocks" in layer and ("norm1" in layer or "_mod" in layer or "adaln" in layer))
            or "norm_out" in layer
        )
    ]
    assert sum(map(len, layers)) == found.ranks.of_rows == found.ranks.rows
    assert found.ranks.needed == needed_by_svd(read, torch.cat(layers))
    modulations = read.double() @ torch.cat(layers).double().T
    size, around = modulations.norm(), modulations - modulations.mean(0)
    left, _, _ = torch.linalg.svd(around, full_matrices=False)
    for rank, error in enumerate(found.ranks.errors):
        kept = left[:, :rank]
        assert error == pytest.approx(((around - kept @ (kept.T @ around)).norm() / size).item(), abs=1e-6)
    assert len(found.ranks.errors) == found.ranks.needed[0.0001] + 1


def wide(name: str, folder: Path, **changes: Any) -> Path:
    """A model whose embedders and AdaLN are drawn as PyTorch initialises layers, at a width where ranks differ."""
    import diffusers

    torch.manual_seed(0)
    model = getattr(diffusers, TINY[name].name)(**(TINY[name].config | changes))
    model.save_pretrained(folder)
    return folder


def test_times_of_a_thousand_need_many_more_directions_than_times_of_one(tmp_path: Path) -> None:
    h3 = wide("minimax-h3", tmp_path / "h3", time_embed_hidden_dim=256, time_embed_dim=256, freq_dim=256)
    qwen = wide("qwen", tmp_path / "qwen", num_attention_heads=16)
    assert measured(h3).needed[0.0001] <= 8
    assert measured(qwen).needed[0.01] > 60
    assert anatomy(h3).recommendation.startswith("rank ")
    assert anatomy(qwen).recommendation.startswith("an exact table for a fixed schedule: 50 steps")


def test_ranks_from_some_of_the_rows_are_near_those_from_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = wide("qwen", tmp_path, num_attention_heads=8, num_layers=4)
    whole = measured(folder)
    monkeypatch.setattr(ranks, "SAMPLED", 2048)
    some = measured(folder)
    assert some.rows < 2200 < whole.rows == whole.of_rows == some.of_rows
    for error, rank in whole.needed.items():
        assert abs(some.needed[error] - rank) <= 2 + 0.05 * rank, error


def damaged(folder: Path, change: Any) -> str | None:
    """Why no ranks are said of a model after a change of its tensors."""
    model = TINY["qwen"].build()
    change(model)
    model.save_pretrained(folder)
    found = anatomy(folder)
    assert found.ranks is None
    assert {each.error for each in found.replacements} == {None}
    return found.unmeasured


def test_weights_that_are_zero_or_not_finite_have_no_ranks(tmp_path: Path) -> None:
    still = damaged(tmp_path / "1", lambda model: model.time_text_embed.apply(_zero))
    assert str(still).startswith("the condition does not depend on the time")
    zeroed = damaged(tmp_path / "2", lambda model: [model.transformer_blocks.apply(_zero), model.norm_out.apply(_zero)])
    assert zeroed == "the weights that read the condition are zero"
    broken = damaged(tmp_path / "3", lambda model: model.norm_out.linear.weight[0].fill_(float("nan")))
    assert broken == "its weights hold NaN or infinity"


def _zero(module: nn.Module) -> None:
    for parameter in module.parameters(recurse=False):
        parameter.zero_()


def test_blocks_with_embedders_of_their_own_have_no_ranks(tmp_path: Path) -> None:
    TINY["dit"].save(tmp_path)
    assert anatomy(tmp_path).unmeasured == "each block embeds the time in its own way"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_half_precision_and_fp8_are_read(dtype: torch.dtype, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = TINY["qwen"].build()
    tensors = {name: tensor.to(dtype) for name, tensor in model.state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    exact = TINY["qwen"].save(tmp_path / "whole")
    assert exact is not None
    found, whole = measured(tmp_path / "model.safetensors"), measured(tmp_path / "whole")
    assert abs(found.needed[0.1] - whole.needed[0.1]) <= 2


def test_scaled_fp8_has_no_ranks(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    tensors = dict(TINY["qwen"].build().state_dict())
    layer = "transformer_blocks.0.img_mod.1"
    tensors[f"{layer}.weight"] = tensors[f"{layer}.weight"].to(torch.float8_e4m3fn)
    tensors[f"{layer}.weight_scale"] = torch.tensor(2.0)
    save_file(tensors, tmp_path / "model.safetensors")
    assert anatomy(tmp_path / "model.safetensors").unmeasured == f"{layer}.weight is stored with a weight_scale"
