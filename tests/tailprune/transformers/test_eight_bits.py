"""Transformers whose weights are stored in eight bits, against diffusers' outputs of the same weights in bfloat16."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tailprune import load_transformer
from tailprune.__main__ import main
from tailprune.checkpoints import CheckpointError
from tailprune.spec.layouts import DIFFUSERS_WEIGHTS
from tailprune.transformers import anatomy, compact, verify
from tailprune.transformers.recognise import recognise
from tailprune.transformers.source import open_source
from tests.tailprune.transformers.test_compact import NO_TEXT, STEPS, difference, outputs, times_of
from tests.tailprune.transformers.tiny_models import TINY

WEIGHTS = DIFFUSERS_WEIGHTS[0]
EIGHT_BITS = {torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2"}
LAYER = "transformer_blocks.0.img_mod.1"


def save(name: str, folder: Path, dtype: torch.dtype) -> nn.Module:
    """A model in a folder with all of its weights in eight bits, and the same numbers in float32."""
    model = TINY[name].save(folder)
    stored = {tensor: values.to(dtype) for tensor, values in model.state_dict().items()}
    save_file(stored, folder / WEIGHTS)
    model.load_state_dict({tensor: values.float() for tensor, values in stored.items()})
    return model


@pytest.mark.parametrize("dtype", EIGHT_BITS)
@pytest.mark.parametrize("name", ["qwen", "flux"])
def test_adaln_is_written_in_bfloat16_and_all_else_stays_as_it_was(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    whole = save(name, tmp_path / "whole", dtype)
    how: dict[str, Any] = {"pooled": "zero"} if name in NO_TEXT else {}
    written = compact(tmp_path / "whole", tmp_path / "small", steps=STEPS, **how)
    assert (written.read_dtypes, written.dtype) == ((EIGHT_BITS[dtype],), "BF16")
    assert 1e-5 < written.worst_error < 1e-2
    before, after = load_file(tmp_path / "whole" / WEIGHTS), load_file(tmp_path / "small" / WEIGHTS)
    layers = set(recognise(open_source(tmp_path / "whole")).names)
    for tensor, values in after.items():
        if tensor.rpartition(".")[0] in layers:
            assert values.dtype == torch.bfloat16, tensor
        elif tensor == "time_text_embed.text_embedder.linear_1.weight":
            assert not values.float().any()
        elif tensor in before:
            assert values.view(torch.uint8).equal(before[tensor].view(torch.uint8)), tensor
    assert verify(tmp_path / "small", tmp_path / "whole").worst_error == pytest.approx(written.worst_error, rel=0.01)
    times, inputs = times_of(name, tmp_path / "whole")[:2], TINY[name].inputs() | NO_TEXT.get(name, {})
    small = load_transformer(tmp_path / "small", dtype=torch.float32)
    assert difference(outputs(small, name, inputs, times), outputs(whole, name, inputs, times)) < 0.02
    said = (tmp_path / "small" / "README.md").read_text()
    assert f"AdaLN's weights were {EIGHT_BITS[dtype]}, and are written in BF16" in said


def test_what_is_lost_is_the_rounding_to_bfloat16_alone(tmp_path: Path) -> None:
    save("minimax-h3", tmp_path / "whole", torch.float8_e4m3fn)
    TINY["minimax-h3"].save(tmp_path / "same")
    stored = load_file(tmp_path / "whole" / WEIGHTS)
    save_file({tensor: values.float() for tensor, values in stored.items()}, tmp_path / "same" / WEIGHTS)
    found, same = anatomy(tmp_path / "whole"), anatomy(tmp_path / "same")
    assert found.adaln_types == ("F8_E4M3",)
    assert found.ranks is not None
    assert same.ranks is not None
    assert found.ranks.needed == same.ranks.needed
    exact = compact(tmp_path / "same", tmp_path / "exact", rank=8).error
    assert compact(tmp_path / "whole", tmp_path / "small", rank=8).error == pytest.approx(exact, abs=4e-3)


def test_the_mean_of_texts_is_not_rounded_to_eight_bits(tmp_path: Path) -> None:
    whole = save("flux", tmp_path / "whole", torch.float8_e4m3fn)
    text = torch.randn(1, 24, generator=torch.Generator().manual_seed(5))
    save_file({"pooled": text}, tmp_path / "texts.safetensors")
    how: dict[str, Any] = {"pooled": "mean", "population": tmp_path / "texts.safetensors"}
    compact(tmp_path / "whole", tmp_path / "small", steps=STEPS, **how)
    stored = load_file(tmp_path / "small" / WEIGHTS)["time_text_embed.text_embedder.linear_2.bias"]
    assert stored.dtype == torch.bfloat16
    exact = whole.time_text_embed.text_embedder(text)[0]
    assert ((stored.float() - exact).abs() <= 2**-8 * exact.abs() + 1e-6).all()
    verify(tmp_path / "small", tmp_path / "whole")
    times, inputs = times_of("flux", tmp_path / "whole")[:2], TINY["flux"].inputs()
    small = load_transformer(tmp_path / "small", dtype=torch.float32)
    of_text = outputs(whole, "flux", inputs | {"pooled_projections": text}, times)
    assert difference(outputs(small, "flux", inputs, times), of_text) < 0.05


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({f"{LAYER}.weight_scale": torch.tensor(2.0)}, f"{LAYER}.weight is stored with a weight_scale"),
        ({f"{LAYER}.scale_weight": torch.tensor(2.0)}, f"{LAYER}.weight is stored with a scale_weight"),
        ({"scaled_fp8": torch.zeros(2)}, r"weights are stored with scales \(scaled_fp8\)"),
        (
            {"transformer_blocks.0.attn.to_q.weight_scale": torch.ones(1)},
            r"with scales \(transformer_blocks.0.attn.to_q.weight_scale\)",
        ),
        ({f"{LAYER}.weight": torch.ones(192, 32, dtype=torch.int8)}, f"{LAYER}.weight is quantised \\(I8\\)"),
    ],
)
@pytest.mark.parametrize("how", [{"steps": 3}, {"rank": 3}])
def test_weights_with_scales_are_refused(
    more: dict[str, Tensor], said: str, how: dict[str, int], tmp_path: Path
) -> None:
    save("qwen", tmp_path / "plain", torch.float8_e4m3fn)
    save("qwen", tmp_path / "whole", torch.float8_e4m3fn)
    save_file(load_file(tmp_path / "whole" / WEIGHTS) | more, tmp_path / "whole" / WEIGHTS)
    with pytest.raises(CheckpointError, match=f"{said}: give the weights before they were quantised"):
        compact(tmp_path / "whole", tmp_path / "small", **how)
    assert not (tmp_path / "small").exists()
    compact(tmp_path / "plain", tmp_path / "small", **how)
    with pytest.raises(CheckpointError, match=f"{said}: give the weights before they were quantised"):
        verify(tmp_path / "small", tmp_path / "whole")


def test_the_command_says_in_which_type_adaln_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save("qwen", tmp_path / "whole", torch.float8_e5m2)
    arguments = ["tailprune", "compact", str(tmp_path / "whole"), str(tmp_path / "small"), "--steps", "3"]
    monkeypatch.setattr("sys.argv", arguments)
    assert main() == 0
    assert "AdaLN's weights were F8_E5M2, and are written in BF16" in capsys.readouterr().out
    assert json.loads((tmp_path / "small" / "compaction.json").read_text())["read_dtypes"] == ["F8_E5M2"]
