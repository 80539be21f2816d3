"""Compaction of models that pool tokens, or take sizes or a class, against diffusers' outputs of the whole ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tailprune import load_transformer
from tailprune.__main__ import main
from tailprune.checkpoints import CheckpointError
from tailprune.spec import InputError
from tailprune.spec.transformers import CLASSES
from tailprune.transformers import compact, project_lora, verify
from tailprune.transformers.recognise import recognise
from tailprune.transformers.schedule import plain_times, quadratic_sigmas, scheduled_times
from tailprune.transformers.source import open_source
from tests.tailprune.transformers.test_compact import STEPS, difference, outputs, times_of
from tests.tailprune.transformers.test_lora import add_lora, load, lora_of_all
from tests.tailprune.transformers.tiny_models import TINY, share_embedders


def save_dit(folder: Path) -> nn.Module:
    """A DiT whose blocks embed time and class in the same way, as published ones do."""
    model = TINY["dit"].build()
    share_embedders(model)
    model.save_pretrained(folder)
    return model


def tokens_of(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(1, 3, 16, generator=generator) for _ in range(count)]


def pooled_of(model: nn.Module, tokens: list[Tensor], folder: Path) -> Path:
    """The file with what a Mochi makes of tokens."""
    mask = torch.ones(1, 3, dtype=torch.bool)
    pooled = torch.cat([model.time_embed.pooler(each, mask) for each in tokens])
    save_file({"pooled": pooled}, folder / "texts.safetensors")
    return folder / "texts.safetensors"


@torch.no_grad()
def pooled_texts_replaced(model: nn.Module, pooled: Tensor) -> nn.Module:
    """The whole model, whose pooled text is always this one."""
    model.time_embed.pooler.to_out.weight.zero_()
    model.time_embed.pooler.to_out.bias.copy_(pooled)
    return model


def test_mochi_is_the_same_for_the_texts_that_it_covers(tmp_path: Path) -> None:
    whole = TINY["mochi"].save(tmp_path / "whole")
    tokens = tokens_of(3)
    times = times_of("mochi", tmp_path)[:3]
    written = compact(
        tmp_path / "whole", tmp_path / "small", times=times, population=pooled_of(whole, tokens, tmp_path)
    )
    assert written.covers == "3 given times, 3 pooled texts"
    assert written.rank == 8  # of nine vectors
    small, inputs = load_transformer(tmp_path / "small"), TINY["mochi"].inputs()
    for each in tokens:
        given = inputs | {"encoder_hidden_states": each}
        assert difference(outputs(small, "mochi", given, times), outputs(whole, "mochi", given, times)) < 1e-5
    assert verify(tmp_path / "small", tmp_path / "whole").error == pytest.approx(written.error, abs=1e-6)


def test_mochi_takes_every_token_for_zeros_where_texts_are_pooled(tmp_path: Path) -> None:
    whole = TINY["mochi"].save(tmp_path / "whole")
    times = times_of("mochi", tmp_path)
    written = compact(tmp_path / "whole", tmp_path / "small", times=times, pooled="zero")
    assert written.rank == STEPS - 1
    mask = torch.zeros(1, 3, dtype=torch.bool)
    empty = whole.time_embed.pooler(torch.zeros(1, 3, 16), mask)[0]
    exact = outputs(pooled_texts_replaced(whole, empty), "mochi", TINY["mochi"].inputs(), times)
    assert (
        difference(outputs(load_transformer(tmp_path / "small"), "mochi", TINY["mochi"].inputs(), times), exact) < 1e-5
    )
    verify(tmp_path / "small", tmp_path / "whole")


def test_mochi_takes_every_pooled_text_for_the_mean(tmp_path: Path) -> None:
    whole = TINY["mochi"].save(tmp_path / "whole")
    tokens, times = tokens_of(2), times_of("mochi", tmp_path)
    how: dict[str, Any] = {"pooled": "mean", "population": pooled_of(whole, tokens, tmp_path)}
    written = compact(tmp_path / "whole", tmp_path / "small", times=times, **how)
    assert written.text_error is not None
    assert written.text_error > 0
    mask = torch.ones(1, 3, dtype=torch.bool)
    mean = torch.cat([whole.time_embed.pooler(each, mask) for each in tokens]).mean(0)
    exact = outputs(pooled_texts_replaced(whole, mean), "mochi", TINY["mochi"].inputs(), times)
    assert (
        difference(outputs(load_transformer(tmp_path / "small"), "mochi", TINY["mochi"].inputs(), times), exact) < 1e-5
    )
    verify(tmp_path / "small", tmp_path / "whole")


@pytest.mark.parametrize("steps", [2, 3, 28, 64])
def test_the_sigmas_of_mochi_are_those_of_its_pipeline(steps: int) -> None:
    from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule

    np.testing.assert_allclose(quadratic_sigmas(steps), linear_quadratic_schedule(steps, 0.025), atol=1e-12)


def test_the_times_of_mochis_scheduler_run_upwards(tmp_path: Path) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule

    TINY["mochi"].save(tmp_path / "whole")
    scheduler = FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    scheduler.save_pretrained(tmp_path / "scheduler")
    found = scheduled_times(recognise(open_source(tmp_path / "whole")), 6, tmp_path / "scheduler")
    scheduler.set_timesteps(sigmas=np.array(linear_quadratic_schedule(6, 0.025)))
    torch.testing.assert_close(found[0], scheduler.timesteps, rtol=0, atol=1e-3)
    assert found[0][0] < found[0][-1]
    with pytest.raises(InputError, match="steps must be a whole number of at least 2"):
        scheduled_times(recognise(open_source(tmp_path / "whole")), 1, tmp_path / "scheduler")


def test_the_times_of_minimax_h3_rise_as_those_of_its_scheduler(tmp_path: Path) -> None:
    from diffusers import MiniMaxH3Scheduler

    TINY["minimax-h3"].save(tmp_path / "whole")
    model = recognise(open_source(tmp_path / "whole"))
    scheduler = MiniMaxH3Scheduler(shift=12.0)
    scheduler.save_pretrained(tmp_path / "scheduler")
    (found,) = scheduled_times(model, 6, tmp_path / "scheduler")
    scheduler.set_timesteps(6)
    assert found.equal(scheduler.timesteps)
    assert found[0] == 0
    with pytest.raises(InputError, match="steps must be a whole number of at least 2"):
        scheduled_times(model, 1, tmp_path / "scheduler")
    plain = MiniMaxH3Scheduler(shift=1.0)
    plain.set_timesteps(5)
    torch.testing.assert_close(plain_times(model, 4), plain.timesteps)


def sized(height: int, width: int) -> dict[str, Tensor]:
    """The inputs of a CogView4 as its pipeline makes them for a picture of this size."""
    size = torch.tensor([[float(height), float(width)]])
    return TINY["cogview4"].inputs() | {"original_size": size, "target_size": size}


def test_cogview4_is_the_same_at_the_steps_and_sizes_that_it_covers(tmp_path: Path) -> None:
    whole = TINY["cogview4"].save(tmp_path / "whole")
    sizes = [(1024, 768), (512, 2048)]
    written = compact(tmp_path / "whole", tmp_path / "small", steps=3, resolutions=sizes)
    assert written.covers == "the plain schedules of 3 steps, pictures of 1024x768 and 512x2048, not cropped"
    assert written.rank == 5  # of six vectors
    times = torch.tensor([1000.0, 500.0, 1.0])  # whole numbers: np.linspace(1000, 1, 3) has 500.5
    assert plain_times(recognise(open_source(tmp_path / "whole")), 3).equal(times)
    small = load_transformer(tmp_path / "small")
    for width, height in sizes:
        inputs = sized(height, width)
        assert difference(outputs(small, "cogview4", inputs, times), outputs(whole, "cogview4", inputs, times)) < 1e-5
    other = sized(1024, 768)
    assert difference(outputs(small, "cogview4", other, times), outputs(whole, "cogview4", other, times)) > 1e-3
    assert verify(tmp_path / "small", tmp_path / "whole").error == pytest.approx(written.error, abs=1e-6)


def test_the_plain_times_of_cogview4_are_those_of_its_pipeline(tmp_path: Path) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    TINY["cogview4"].save(tmp_path)
    for steps in (1, 20, 50):
        times = np.linspace(1000, 1.0, steps).astype(np.int64).astype(np.float32)
        scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.25, max_shift=0.75)
        scheduler.set_timesteps(timesteps=times.tolist(), sigmas=(times / 1000).tolist(), mu=1.7)
        assert plain_times(recognise(open_source(tmp_path)), steps).equal(scheduler.timesteps)


def test_dit_is_the_same_for_the_classes_that_it_covers_and_none(tmp_path: Path) -> None:
    whole = save_dit(tmp_path / "whole")
    times = times_of("dit", tmp_path)[:3]
    written = compact(tmp_path / "whole", tmp_path / "small", times=times, classes=[7, 3])
    assert written.covers == "3 given times, classes 3, 7 and none"
    assert written.rank == 8  # of nine vectors
    small = load_transformer(tmp_path / "small")
    for label in (3, 7, 10):
        inputs = TINY["dit"].inputs() | {"class_labels": torch.tensor([label])}
        assert difference(outputs(small, "dit", inputs, times), outputs(whole, "dit", inputs, times)) < 1e-5
    other = TINY["dit"].inputs() | {"class_labels": torch.tensor([5])}
    assert difference(outputs(small, "dit", other, times), outputs(whole, "dit", other, times)) > 1e-3
    assert verify(tmp_path / "small", tmp_path / "whole").error == pytest.approx(written.error, abs=1e-6)


def test_the_times_of_dits_scheduler_are_those_of_its_pipeline(tmp_path: Path) -> None:
    from diffusers import DDIMScheduler

    save_dit(tmp_path / "whole")
    scheduler = DDIMScheduler()
    scheduler.save_pretrained(tmp_path / "scheduler")
    scheduler.set_timesteps(4)
    found = scheduled_times(recognise(open_source(tmp_path / "whole")), 4, tmp_path / "scheduler")
    assert found[0].equal(scheduler.timesteps.float())
    written = compact(tmp_path / "whole", tmp_path / "small", steps=4, scheduler=tmp_path / "scheduler", classes=[1])
    assert written.covers == "the scheduler's times of 4 steps, class 1 and none"


def test_all_times_of_all_classes_are_covered_within_the_error(tmp_path: Path) -> None:
    save_dit(tmp_path / "whole")
    written = compact(tmp_path / "whole", tmp_path / "small", error=0.3, classes=range(10))
    assert written.error <= 0.3
    assert written.covers == "all times, classes 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and none"


def test_a_dit_whose_blocks_differ_in_their_embedders_is_refused(tmp_path: Path) -> None:
    TINY["dit"].save(tmp_path / "whole")
    with pytest.raises(CheckpointError, match="each block embeds the time in its own way"):
        compact(tmp_path / "whole", tmp_path / "small", times=torch.tensor([5.0]), classes=[1])


@pytest.mark.parametrize("name", ["mochi", "cogview4", "dit"])
def test_a_projected_lora_is_the_lora_on_the_whole_model(name: str, tmp_path: Path) -> None:
    whole = save_dit(tmp_path / "whole") if name == "dit" else TINY[name].save(tmp_path / "whole")
    inputs = sized(512, 1024) if name == "cogview4" else TINY[name].inputs()
    times = torch.tensor([1000.0, 500.0, 1.0]) if name == "cogview4" else times_of(name, tmp_path)[:3]
    how: dict[str, Any] = {"steps": 3, "resolutions": [(1024, 512)]} if name == "cogview4" else {"times": times}
    if name == "mochi":
        how["population"] = pooled_of(whole, [inputs["encoder_hidden_states"]], tmp_path)
    if name == "dit":
        how["classes"] = inputs["class_labels"].tolist()
    compact(tmp_path / "whole", tmp_path / "small", **how)
    small = load_transformer(tmp_path / "small")
    tensors = {key: values for key, values in lora_of_all(whole).items() if ".emb." not in key}
    save_file(tensors, tmp_path / "lora.safetensors")
    project_lora(tmp_path / "lora.safetensors", tmp_path / "small", tmp_path / "out.safetensors")
    without = outputs(small, name, inputs, times)
    load(small, tmp_path / "out.safetensors")
    add_lora(whole, tensors)
    exact = outputs(whole, name, inputs, times)
    assert difference(outputs(small, name, inputs, times), exact) < 1e-5
    assert difference(without, exact) > 1e-3


def test_every_input_of_a_class_is_one_that_can_be_covered() -> None:
    for cls in CLASSES:
        given = [part.what for part in cls.parts if part.number is None]
        assert len(given) <= 1, cls.name
        assert not {*given} - {"pooled text", "sizes", "class", "layered or not"}, cls.name


def test_the_command_takes_classes_and_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_dit(tmp_path / "dit")
    TINY["cogview4"].save(tmp_path / "cogview4")
    for name, more, covers in [
        ("dit", ["--times", "500", "--classes", "2", "4"], "1 given time, classes 2, 4 and none"),
        ("cogview4", ["--rank", "4", "--resolution", "1024x512"], "all times, pictures of 1024x512, not cropped"),
    ]:
        folders = [str(tmp_path / name), str(tmp_path / f"small-{name}")]
        monkeypatch.setattr("sys.argv", ["tailprune", "compact", *folders, *more, "--json"])
        assert main() == 0
        assert json.loads(capsys.readouterr().out)["covers"] == covers
