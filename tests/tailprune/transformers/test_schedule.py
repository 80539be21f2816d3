"""The times that a compaction covers, against those that diffusers' pipelines pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tailprune import load_transformer
from tailprune.__main__ import main
from tailprune.checkpoints import CheckpointError
from tailprune.spec import InputError
from tailprune.transformers import compact
from tailprune.transformers.ranks import condition
from tailprune.transformers.recognise import Model, recognise
from tailprune.transformers.schedule import cover, scheduled_times
from tailprune.transformers.source import open_source
from tests.tailprune.transformers.test_compact import difference
from tests.tailprune.transformers.tiny_models import TINY, TinyModel

STEPS = 4


def opened(name: str, folder: Path, dtype: torch.dtype = torch.float32) -> Model:
    TINY[name].build().to(dtype).save_pretrained(folder / "whole")
    return recognise(open_source(folder / "whole"))


def scheduler(folder: Path, name: str = "FlowMatchEulerDiscreteScheduler", **config: Any) -> Any:
    made = getattr(diffusers, name)(**config)
    made.save_pretrained(folder)
    return made


def has_row(read: Tensor, vector: Tensor) -> bool:
    """Whether SiLU of a vector is among what is covered."""
    return bool(((read - F.silu(vector)).abs().amax(1) < 1e-12).any())


def test_auraflow_scales_its_times_before_it_rounds_them(tmp_path: Path) -> None:
    model = opened("auraflow", tmp_path, torch.bfloat16)
    times = torch.linspace(1, 0.01, 50)
    passed = times.bfloat16()
    assert not passed.equal((times * 1000).bfloat16() / 1000)
    read = cover(model, times).read
    for each in (times, passed):
        assert all(has_row(read, vector) for vector in condition(model, each))


def test_hunyuans_pipelines_round_the_guidance_before_they_scale_it(tmp_path: Path) -> None:
    model = opened("hunyuan-video", tmp_path, torch.bfloat16)
    scale = torch.tensor([6.1], dtype=torch.bfloat16) * 1000.0
    assert not scale.equal(torch.tensor([6100.0], dtype=torch.bfloat16))
    read = cover(model, torch.tensor([700.0]), [6.1]).read
    assert has_row(read, condition(model, torch.tensor([700.0]).bfloat16(), {"guidance": scale}))


def test_times_are_rounded_where_any_weight_is_in_half_precision(tmp_path: Path) -> None:
    whole = TINY["qwen"].build().to(torch.bfloat16)
    for name, module in whole.named_modules():
        if "_mod.1" in name or name == "norm_out.linear":
            module.float()
    whole.save_pretrained(tmp_path / "whole")
    model = recognise(open_source(tmp_path / "whole"))
    time = torch.tensor([0.7777])
    assert has_row(cover(model, time).read, condition(model, (time * 1000).bfloat16() / 1000))


def test_the_times_of_qwen_image_layered_are_shifted_by_the_root_of_the_tokens(tmp_path: Path) -> None:
    tiny = TINY["qwen"]
    TinyModel(tiny.name, tiny.config | {"use_additional_t_cond": True}, tiny.inputs).save(tmp_path / "layered")
    made = scheduler(tmp_path / "scheduler", use_dynamic_shifting=True, shift_terminal=0.02)
    made.set_timesteps(sigmas=np.linspace(1.0, 0, STEPS + 1)[:-1], mu=(40 * 40 / 256) ** 0.5)
    (found,) = scheduled_times(
        recognise(open_source(tmp_path / "layered")), STEPS, tmp_path / "scheduler", [(640, 640)]
    )
    torch.testing.assert_close(found * 1000, made.timesteps)
    (other,) = scheduled_times(opened("qwen", tmp_path), STEPS, tmp_path / "scheduler", [(640, 640)])
    assert (other - found).abs().max() > 0.01


def test_both_schedules_of_minimax_h3_are_covered_and_what_is_given(tmp_path: Path) -> None:
    whole = TINY["minimax-h3"].save(tmp_path / "whole")
    video = scheduler(tmp_path / "repository" / "scheduler", "MiniMaxH3Scheduler", shift=12.0)
    how: dict[str, Any] = {"steps": STEPS, "scheduler": tmp_path / "repository"}
    alone = compact(tmp_path / "whole", tmp_path / "alone", **how)
    assert alone.covers == f"the scheduler's times of {STEPS} steps, without those of its audio_scheduler"
    audio = scheduler(tmp_path / "repository" / "audio_scheduler", "MiniMaxH3Scheduler", shift=3.0)
    assert compact(tmp_path / "whole", tmp_path / "small", **how).covers == f"the scheduler's times of {STEPS} steps"
    small = load_transformer(tmp_path / "small")
    for made in (video, audio):
        made.set_timesteps(STEPS)
    inputs = TINY["minimax-h3"].inputs()
    for first, second in zip(video.timesteps, audio.timesteps, strict=True):
        for times in (torch.stack([first, second]), torch.tensor([0.999, 1.0])):
            given = inputs | {"timestep": times}
            with torch.no_grad():
                ours, theirs = (model(**given, return_dict=False) for model in (small, whole))
            assert difference(list(ours), list(theirs)) < 1e-5


def test_only_some_pipelines_leave_the_sigmas_to_a_scheduler_of_flow_sigmas(tmp_path: Path) -> None:
    how: dict[str, Any] = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
    made = scheduler(tmp_path / "scheduler", "UniPCMultistepScheduler", **how)
    for name, given in (
        ("flux", {"num_inference_steps": STEPS}),
        ("qwen", {"sigmas": np.linspace(1.0, 1 / STEPS, STEPS)}),
    ):
        made.set_timesteps(**given)
        (found,) = scheduled_times(opened(name, tmp_path / name), STEPS, tmp_path / "scheduler")
        torch.testing.assert_close(found * 1000, made.timesteps.float())


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("{", "is not JSON"),
        ("[1]", "is not a JSON object"),
        ('{"shift": "a"}', "diffusers makes no FlowMatchEulerDiscreteScheduler of it"),
        ('{"num_train_timesteps": 0}', "diffusers makes no FlowMatchEulerDiscreteScheduler of it"),
        ('{"num_train_timesteps": 5000}', "are .* to 5, and the pipeline of Qwen-Image passes 0 to 1"),
        ('{"use_dynamic_shifting": true, "base_shift": "a"}', "base_shift must be a finite number"),
        ('{"use_dynamic_shifting": true, "max_image_seq_len": 256}', "are both 256"),
        ('{"_class_name": "FlowMatchHeunDiscreteScheduler"}', "gives its scheduler sigmas, which a FlowMatchHeun"),
        ('{"_class_name": "UniPCMultistepScheduler"}', "makes no times of these steps .*use_flow_sigmas"),
    ],
)
def test_a_scheduler_that_makes_no_times_is_refused_with_the_reason(config: str, said: str, tmp_path: Path) -> None:
    model = opened("qwen", tmp_path)
    if config.endswith("}"):
        config = json.dumps({"_class_name": "FlowMatchEulerDiscreteScheduler"} | json.loads(config))
    (tmp_path / "scheduler_config.json").write_text(config)
    with pytest.raises((InputError, CheckpointError), match=said):
        scheduled_times(model, STEPS, tmp_path, [(1024, 1024)] if "dynamic" in config else [])


def test_what_no_pipeline_passes_is_refused(tmp_path: Path) -> None:
    opened("flux", tmp_path)
    scheduler(tmp_path / "scheduler", use_dynamic_shifting=True, shift_terminal=0.02)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"times": torch.tensor([1000.0, 500.0])}, "times are 500 to 1000, and the pipeline of FLUX.1 passes 0 to 1"),
        ({"times": [0.5, -0.1]}, "times are -0.1 to 0.5"),
        ({"times": torch.tensor([float("nan")])}, "times are empty or not finite"),
        ({"steps": 4.0}, "steps must be a whole number"),
        ({"steps": STEPS, "guidance": 3.5}, "guidance must be numbers in a list"),
        ({"steps": STEPS, "guidance": [1e37]}, r"guidance 1e\+37 times 1,000 is more than float32 holds"),
        (
            {"steps": STEPS, "scheduler": tmp_path / "scheduler", "resolutions": [(1024, 0)]},
            "a side must be a whole number of at least 16, not 0",
        ),
    ]
    for how, said in refused:
        with pytest.raises(InputError, match=said):
            compact(tmp_path / "whole", tmp_path / "small", pooled="zero", **how)
    assert not (tmp_path / "small").exists()
    how = {"steps": 1, "scheduler": tmp_path / "scheduler", "resolutions": [(1024, 1024)]}
    with (
        pytest.warns(RuntimeWarning, match="invalid value"),  # 0 / 0 in diffusers
        pytest.raises(InputError, match="are empty or not finite"),
    ):
        compact(tmp_path / "whole", tmp_path / "small", pooled="zero", **how)


@pytest.mark.parametrize("text", ["1024", "1024x", "-8x8", "1024x1024x2", "8.5x8"])
def test_the_command_says_what_a_resolution_is(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["tailprune", "compact", "whole", "small", "--steps", "4", f"--resolution={text}"])
    with pytest.raises(SystemExit):
        main()
    assert f"{text} is no width and height in pixels, such as 1024x768" in capsys.readouterr().err
