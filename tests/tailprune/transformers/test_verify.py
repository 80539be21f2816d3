"""A compacted transformer is checked against the whole one, and what is not as it says is found."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tailprune.__main__ import main
from tailprune.checkpoints import CheckpointError
from tailprune.transformers import compact, verify
from tests.tailprune.transformers.tiny_models import TINY

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    TINY["flux"].save(folder / "whole")
    compact(folder / "whole", folder / "small", steps=4, pooled="zero")
    return folder


@pytest.fixture
def small(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "small", tmp_path / "small"))


def change(folder: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change the weights of a compacted model, and its account of their digest, as someone who deceives would."""
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS)
    said = json.loads((folder / "compaction.json").read_text())
    said["files"][WEIGHTS] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    (folder / "compaction.json").write_text(json.dumps(said))


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("flux", {"steps": 4, "pooled": "zero"}),
        ("auraflow", {"steps": [3, 5]}),
        ("hunyuan-video-15", {"steps": 4}),
        ("minimax-h3", {"error": 0.01}),
        ("qwen", {"rank": 12}),
    ],
)
def test_what_compact_writes_is_as_it_says(name: str, how: dict[str, Any], tmp_path: Path) -> None:
    TINY[name].save(tmp_path / "whole", max_shard_size="60KB")
    written = compact(tmp_path / "whole", tmp_path / "small", **how)
    found = verify(tmp_path / "small", tmp_path / "whole")
    assert (found.error, found.worst_error) == pytest.approx((written.error, written.worst_error), rel=0.01, abs=1e-9)
    assert (found.error_between is None) == (written.error_between is None) == (name == "hunyuan-video-15")
    assert found.tensors > 10


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda tensors: tensors["x_embedder.weight"].mul_(1.001), "x_embedder.weight differs"),
        (lambda tensors: tensors["norm_out.linear.weight"].mul_(1.01), "error is"),
        (lambda tensors: tensors["norm_out.linear.bias"].add_(0.1), "error is"),
        (lambda tensors: tensors["adaln_basis.mean"].add_(0.1), "error is"),
        (lambda tensors: tensors.pop("proj_out.bias"), "lacks proj_out.bias"),
        (lambda tensors: tensors.update(more=torch.ones(1)), "has a tensor too many, more"),
        (
            lambda tensors: tensors["time_text_embed.text_embedder.linear_1.weight"].add_(1),
            "text_embedder.linear_1.weight differs",
        ),
        (
            lambda tensors: tensors.update({"x_embedder.weight": tensors["x_embedder.weight"].half()}),
            "x_embedder.weight has another type",
        ),
    ],
)
def test_changed_weights_are_found_though_their_digest_was_changed_too(
    edit: Callable[[dict[str, torch.Tensor]], Any], said: str, made: Path, small: Path
) -> None:
    change(small, edit)
    with pytest.raises(CheckpointError, match=said):
        verify(small, made / "whole")


def test_a_file_that_was_changed_after_it_was_written_is_found(made: Path, small: Path) -> None:
    said = (small / "compaction.json").read_text()
    change(small, lambda tensors: tensors["x_embedder.weight"].add_(1))
    (small / "compaction.json").write_text(said)
    with pytest.raises(CheckpointError, match="is not the file that was written"):
        verify(small, made / "whole")


def test_another_whole_model_is_found(small: Path, tmp_path: Path) -> None:
    other = TINY["flux"].build()
    other.x_embedder.weight.add_(1)
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(CheckpointError, match="differs from the whole model"):
        verify(small, tmp_path / "other")


def test_an_account_that_says_nothing_is_refused(made: Path, small: Path) -> None:
    (small / "compaction.json").write_text("{}")
    with pytest.raises(CheckpointError, match="does not say what was done"):
        verify(small, made / "whole")
    with pytest.raises(FileNotFoundError, match="has no compaction"):
        verify(made / "whole", made / "whole")


def test_the_command_says_what_it_found(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["tailprune", "verify", str(made / "small"), "--against", str(made / "whole")]
    monkeypatch.setattr("sys.argv", arguments)
    assert main() == 0
    assert "7 layers of AdaLN have an error of" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", [*arguments, "--json"])
    assert main() == 0
    assert json.loads(capsys.readouterr().out)["layers"] == 7
