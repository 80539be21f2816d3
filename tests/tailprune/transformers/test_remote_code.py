"""diffusers loads a compacted folder by the code that the folder carries."""

from __future__ import annotations

import ast
import copy
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import diffusers.utils.dynamic_modules_utils as dynamic_modules
import pytest
import torch
from diffusers import AutoModel

from tailprune import load_transformer
from tailprune.transformers import compact, convert, modeling
from tests.tailprune.transformers.test_compact import STEPS, difference, outputs, pooled, times_of
from tests.tailprune.transformers.tiny_models import TINY


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamic_modules, "HF_MODULES_CACHE", str(tmp_path / "modules"))


@pytest.mark.parametrize("name", ["qwen", "flux", "sd3", "cogvideox"])
def test_automodel_loads_what_load_transformer_loads(name: str, tmp_path: Path) -> None:
    whole = TINY[name].save(tmp_path / "whole", max_shard_size="60KB")
    times = times_of(name, tmp_path / "whole")
    how: dict[str, Any] = {"times": times} if name == "cogvideox" else {"steps": STEPS}
    compact(tmp_path / "whole", tmp_path / "small", **how, **pooled(name))
    loaded = AutoModel.from_pretrained(str(tmp_path / "small"), trust_remote_code=True)
    ours = load_transformer(tmp_path / "small")
    assert isinstance(loaded, type(whole))
    assert loaded.config.adaln_rank == STEPS - 1
    assert loaded.state_dict().keys() == ours.state_dict().keys()
    inputs = TINY[name].inputs()
    with torch.no_grad():
        theirs = outputs(loaded, name, inputs, times)
    assert difference(theirs, outputs(ours, name, inputs, times)) < 1e-6


def test_a_loaded_model_is_saved_and_loaded_again(tmp_path: Path) -> None:
    TINY["qwen"].save(tmp_path / "whole")
    compact(tmp_path / "whole", tmp_path / "small", steps=STEPS)
    loaded = AutoModel.from_pretrained(str(tmp_path / "small"), trust_remote_code=True)
    loaded.save_pretrained(tmp_path / "again")
    stated = json.loads((tmp_path / "again" / "config.json").read_text())
    assert stated["_class_name"] == "QwenImageTransformer2DModel"
    again = modeling.CompactedTransformer.from_pretrained(tmp_path / "again")
    for key, value in loaded.state_dict().items():
        assert again.state_dict()[key].equal(value), key


@pytest.mark.parametrize("name", ["qwen", "minimax-h3"])
def test_what_load_transformer_gave_is_saved_and_loaded_again(name: str, tmp_path: Path) -> None:
    whole = TINY[name].save(tmp_path / "whole")
    compact(tmp_path / "whole", tmp_path / "small", steps=STEPS)
    if name == "minimax-h3":
        convert(tmp_path / "small", tmp_path / "h3.safetensors", layout="comfyui")
        (tmp_path / "small").rename(tmp_path / "before")
        convert(tmp_path / "h3.safetensors", tmp_path / "small", layout="diffusers")
    loaded = load_transformer(tmp_path / "small")
    assert type(loaded) is type(whole)
    copy.deepcopy(loaded).save_pretrained(tmp_path / "again")
    inputs, times = TINY[name].inputs(), times_of(name, tmp_path / "whole")
    exact = outputs(loaded, name, inputs, times)
    assert difference(outputs(load_transformer(tmp_path / "again"), name, inputs, times), exact) < 1e-6
    if name == "qwen":  # diffusers' reader of MiniMax-H3 needs accelerate
        again = AutoModel.from_pretrained(str(tmp_path / "again"), trust_remote_code=True)
        with torch.no_grad():
            assert difference(outputs(again, name, inputs, times), exact) < 1e-6
        with pytest.raises(RuntimeError, match="size mismatch"):
            type(whole).from_pretrained(tmp_path / "again")


def test_a_copy_saves_itself(tmp_path: Path) -> None:
    TINY["qwen"].save(tmp_path / "whole")
    compact(tmp_path / "whole", tmp_path / "small", steps=STEPS)
    loaded = load_transformer(tmp_path / "small")
    for number, copied in enumerate((copy.deepcopy(loaded), pickle.loads(pickle.dumps(loaded)))):
        copied.proj_out.bias.fill_(number)
        copied.save_pretrained(tmp_path / f"{number}")
        assert (load_transformer(tmp_path / f"{number}").proj_out.bias == number).all()


def test_without_trust_nothing_of_the_folder_is_run(tmp_path: Path) -> None:
    TINY["qwen"].save(tmp_path / "whole")
    compact(tmp_path / "whole", tmp_path / "small", steps=STEPS)
    (tmp_path / "small" / "modeling_tailprune.py").write_text("raise SystemExit('it was run')")
    with pytest.raises(ValueError, match="trust_remote_code"):
        AutoModel.from_pretrained(str(tmp_path / "small"), trust_remote_code=False)
    assert load_transformer(tmp_path / "small").adaln_basis.weight.shape == (STEPS - 1, 32)


def test_the_code_needs_torch_and_diffusers_alone() -> None:
    code = Path(modeling.__file__).read_text()
    imported = {node.module for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Import) for name in node.names}
    own = {name for name in imported if name is not None and name.partition(".")[0] not in sys.stdlib_module_names}
    assert own == {"diffusers", "torch", "torch.nn.functional"}


def test_a_type_without_accelerate_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(modeling, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match="accelerate"):
        modeling.CompactedTransformer.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
