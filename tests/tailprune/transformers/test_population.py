"""Compaction for a population of pooled texts, against diffusers' outputs of the whole models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tailprune import load_transformer
from tailprune.__main__ import main
from tailprune.checkpoints import CheckpointError
from tailprune.spec import InputError
from tailprune.transformers import compact, verify
from tailprune.transformers.plans import covered_by, plan_of
from tailprune.transformers.population import read_population
from tailprune.transformers.recognise import recognise
from tailprune.transformers.source import open_source
from tests.tailprune.transformers.test_compact import WEIGHTS, difference, outputs, times_of
from tests.tailprune.transformers.tiny_models import TINY

TEXT = {"sd3": "pooled_projections", "flux": "pooled_projections", "hunyuan-video": "pooled_projections"}
TEXT |= {"hidream": "pooled_embeds"}
WIDTHS = {"sd3": 24, "flux": 24, "hunyuan-video": 8, "hidream": 24}


def texts_of(name: str, count: int, folder: Path) -> Tensor:
    """Some pooled texts, and the file `texts.safetensors` with them."""
    texts = torch.randn(count, WIDTHS[name], generator=torch.Generator().manual_seed(5))
    save_file({"texts": texts}, folder / "texts.safetensors")
    return texts


@pytest.mark.parametrize("name", TEXT)
def test_a_model_is_the_same_for_the_texts_that_it_covers(name: str, tmp_path: Path) -> None:
    whole = TINY[name].save(tmp_path / "whole")
    texts = texts_of(name, 3, tmp_path)
    times = times_of(name, tmp_path / "whole")[:2]
    how: dict[str, Any] = {"times": times, "population": tmp_path / "texts.safetensors"}
    written = compact(tmp_path / "whole", tmp_path / "small", **how)
    assert written.rank == 5  # of six vectors
    assert written.covers.endswith(", 3 pooled texts")
    assert written.text_error is None
    small, inputs = load_transformer(tmp_path / "small"), TINY[name].inputs()
    for text in texts:
        given = inputs | {TEXT[name]: text[None]}
        assert difference(outputs(small, name, given, times), outputs(whole, name, given, times)) < 1e-5
    assert verify(tmp_path / "small", tmp_path / "whole").error == pytest.approx(written.error, abs=1e-6)


@pytest.mark.parametrize("name", TEXT)
def test_every_text_counts_as_the_mean(name: str, tmp_path: Path) -> None:
    whole = TINY[name].save(tmp_path / "whole")
    text = texts_of(name, 1, tmp_path)
    times = times_of(name, tmp_path / "whole")
    written = compact(
        tmp_path / "whole", tmp_path / "small", times=times, pooled="mean", population=tmp_path / "texts.safetensors"
    )
    assert written.text_error == pytest.approx(0, abs=1e-6)  # the mean of one text is its own
    small, inputs = load_transformer(tmp_path / "small"), TINY[name].inputs()
    exact = outputs(whole, name, inputs | {TEXT[name]: text}, times)
    for given in (text, -3 * text):
        assert difference(outputs(small, name, inputs | {TEXT[name]: given}, times), exact) < 1e-5


def test_what_one_text_for_all_changes_is_measured(tmp_path: Path) -> None:
    whole = TINY["sd3"].save(tmp_path / "whole")
    texts = texts_of("sd3", 4, tmp_path)
    times = times_of("sd3", tmp_path / "whole")
    stated = {}
    for pooled in ("zero", "mean"):
        how: dict[str, Any] = {"pooled": pooled, "population": tmp_path / "texts.safetensors"}
        stated[pooled] = compact(tmp_path / "whole", tmp_path / pooled, times=times, **how).text_error
    modulations: list[Tensor] = []

    def read(_module: Any, _given: Any, found: Tensor) -> None:
        modulations.append(found)

    names = ("norm1.linear", "norm1_context.linear", "norm_out.linear")
    linears = {name: module for name, module in whole.named_modules() if name.endswith(names)}
    biases = torch.cat([linears[name].bias for name in linears])
    for module in linears.values():
        module.register_forward_hook(read)

    def modulated(text: Tensor) -> Tensor:
        modulations.clear()
        outputs(whole, "sd3", TINY["sd3"].inputs() | {"pooled_projections": text[None]}, times)
        of_a_step = len(linears)
        steps = [modulations[at : at + of_a_step] for at in range(0, len(modulations), of_a_step)]
        return torch.stack([torch.cat([each[0] for each in step]) for step in steps]).double()

    own = torch.stack([modulated(text) for text in texts])
    bias = _in_order_of_calls(linears, whole, modulations, biases)
    wrong = own - modulated(torch.zeros(24))
    expected = float((wrong.square().sum() / (own - bias).square().sum()).sqrt())
    assert stated["zero"] == pytest.approx(expected, rel=0.01)
    assert 0 < (stated["mean"] or 0.0) < expected


def _in_order_of_calls(linears: dict[str, Any], whole: Any, modulations: list[Tensor], biases: Tensor) -> Tensor:
    """The biases of the layers, in the order in which the model calls them."""
    called: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_given, name=name: called.append(name)) for name, module in linears.items()
    ]
    whole(**TINY["sd3"].inputs())
    for hook in hooks:
        hook.remove()
    assert len(biases) == sum(len(linears[name].bias) for name in called)
    return torch.cat([linears[name].bias for name in called]).double()


def test_half_precision_and_shards_hold_the_mean(tmp_path: Path) -> None:
    model = TINY["flux"].build().to(torch.bfloat16)
    model.save_pretrained(tmp_path / "whole", max_shard_size="60KB")
    texts_of("flux", 3, tmp_path)
    how: dict[str, Any] = {"pooled": "mean", "population": tmp_path / "texts.safetensors"}
    written = compact(tmp_path / "whole", tmp_path / "small", rank=8, **how)
    assert written.text_error is not None
    assert "by another" in (tmp_path / "small" / "README.md").read_text()
    verify(tmp_path / "small", tmp_path / "whole")


def test_all_times_of_many_texts_are_covered_within_the_error(tmp_path: Path) -> None:
    TINY["hidream"].save(tmp_path / "whole")
    texts_of("hidream", 300, tmp_path)
    written = compact(tmp_path / "whole", tmp_path / "small", error=0.2, population=tmp_path / "texts.safetensors")
    assert written.error <= 0.2
    assert written.covers == "all times, 300 pooled texts"
    assert verify(tmp_path / "small", tmp_path / "whole").worst_error == pytest.approx(written.worst_error, rel=0.01)


def test_the_worst_error_is_that_of_the_worst_of_many_texts(tmp_path: Path) -> None:
    TINY["hidream"].save(tmp_path / "whole")
    texts = texts_of("hidream", 300, tmp_path)
    texts[123] *= 5
    save_file({"texts": texts}, tmp_path / "texts.safetensors")
    written = compact(tmp_path / "whole", tmp_path / "small", rank=8, population=tmp_path / "texts.safetensors")
    model = recognise(open_source(tmp_path / "whole"))
    population = read_population(tmp_path / "texts.safetensors", model)
    plan = plan_of(model, None, None, (), None, 8, None, None, None, population, None)
    read = covered_by(model, plan, population)[0].read
    small = {name: values.double() for name, values in load_file(tmp_path / "small" / WEIGHTS).items()}
    directions = (read - small["adaln_basis.mean"]) @ small["adaln_basis.weight"].T
    wrong = whole = torch.zeros(len(read), dtype=torch.float64)
    for name in model.names:
        weight, bias = (model.source.read(f"{name}.{kind}").double() for kind in ("weight", "bias"))
        exact = read @ weight.T
        ours = directions @ small[f"{name}.weight"].T + small[f"{name}.bias"] - bias
        wrong, whole = wrong + (ours - exact).square().sum(1), whole + exact.square().sum(1)
    assert len(read) > 1000
    assert written.worst_error == pytest.approx(float((wrong / whole).max().sqrt()), rel=1e-4)
    assert written.error == pytest.approx(float((wrong.sum() / whole.sum()).sqrt()), rel=1e-4)


def test_another_population_than_was_covered_is_found(tmp_path: Path) -> None:
    TINY["sd3"].save(tmp_path / "whole")
    texts_of("sd3", 3, tmp_path)
    how: dict[str, Any] = {"pooled": "mean", "population": tmp_path / "texts.safetensors"}
    compact(tmp_path / "whole", tmp_path / "small", steps=3, **how)
    kept = load_file(tmp_path / "small" / "population.safetensors")["pooled"]
    save_file({"pooled": kept + 1}, tmp_path / "small" / "population.safetensors")
    with pytest.raises(CheckpointError, match="is not the population that was covered"):
        verify(tmp_path / "small", tmp_path / "whole")


@pytest.mark.parametrize(
    ("name", "tensors", "pooled", "said"),
    [
        ("qwen", {"pooled": torch.zeros(2, 24)}, None, "takes no pooled text: leave the population out"),
        ("flux", {"pooled": torch.zeros(2, 23)}, None, r"have the shape \(1 to 4,096, 24\), not \(2, 23\)"),
        ("flux", {"pooled": torch.zeros(24)}, None, r"not \(24,\)"),
        ("flux", {"pooled": torch.zeros(0, 24)}, None, r"not \(0, 24\)"),
        ("flux", {"pooled": torch.full((2, 24), torch.nan)}, None, "are not finite numbers"),
        ("flux", {"pooled": torch.zeros(2, 24, dtype=torch.int64)}, None, "are not finite numbers"),
        ("flux", {"pooled": torch.full((2, 24), 1e300, dtype=torch.float64)}, None, "or too large for float32"),
        ("flux", {"pooled": torch.zeros(2, 25).to(torch.float8_e4m3fn)}, None, r"have the shape .*, not \(2, 25\)"),
        ("flux", {"pooled": torch.full((2, 24), 3e38)}, "mean", "the mean of the pooled texts is too large"),
        ("flux", {"a": torch.zeros(2, 24), "b": torch.zeros(2, 24)}, None, "has 2 tensors, and none is called"),
        ("flux", None, "mean", "needs texts: give a population"),
        ("flux", {"pooled": torch.zeros(2, 24)}, "median", "pooled must be 'zero' or 'mean'"),
        ("mochi", {"pooled": torch.zeros(2, 24)}, None, r"\(1 to 4,096, 32\), not \(2, 24\)"),
        ("cogview4", {"pooled": torch.zeros(2, 24)}, None, "takes no pooled text"),
        ("dit", {"pooled": torch.zeros(2, 24)}, None, "takes no pooled text"),
    ],
)
def test_a_population_that_does_not_fit_is_refused(
    name: str, tensors: dict[str, Tensor] | None, pooled: Any, said: str, tmp_path: Path
) -> None:
    TINY[name].save(tmp_path / "whole")
    file = None if tensors is None else tmp_path / "texts.safetensors"
    if tensors is not None:
        save_file(tensors, tmp_path / "texts.safetensors")
    with pytest.raises(InputError, match=said):
        compact(tmp_path / "whole", tmp_path / "small", steps=3, pooled=pooled, population=file)
    assert not (tmp_path / "small").exists()


def test_a_population_that_is_no_file_of_tensors_is_refused(tmp_path: Path) -> None:
    TINY["flux"].save(tmp_path / "whole")
    with pytest.raises(FileNotFoundError, match="does not exist: give a safetensors file"):
        compact(tmp_path / "whole", tmp_path / "small", steps=3, population=tmp_path / "none")
    (tmp_path / "text.safetensors").write_text("a red circle")
    with pytest.raises(InputError, match="is not a safetensors file"):
        compact(tmp_path / "whole", tmp_path / "small", steps=3, population=tmp_path / "text.safetensors")


def test_the_command_takes_a_population(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    TINY["flux"].save(tmp_path / "whole")
    texts_of("flux", 2, tmp_path)
    arguments = ["tailprune", "compact", str(tmp_path / "whole"), str(tmp_path / "small"), "--steps", "3"]
    monkeypatch.setattr("sys.argv", [*arguments, "--pooled", "mean", "--json"])
    assert main() == 1
    assert "give a population" in capsys.readouterr().err
    population = ["--population", str(tmp_path / "texts.safetensors"), "--pooled", "mean", "--json"]
    monkeypatch.setattr("sys.argv", [*arguments, *population])
    assert main() == 0
    said = json.loads(capsys.readouterr().out)
    assert said["covers"].endswith("every pooled text as the mean of 2 pooled texts")
    assert said["text_error"] > 0
