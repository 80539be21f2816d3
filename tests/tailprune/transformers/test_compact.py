"""Compacted transformers, against diffusers' outputs of the whole ones."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tailprune import load_transformer
from tailprune.__main__ import main
from tailprune.checkpoints import CheckpointError
from tailprune.spec import InputError
from tailprune.spec.layouts import DIFFUSERS_WEIGHTS
from tailprune.transformers import anatomy, compact, rewriting
from tailprune.transformers.recognise import recognise
from tailprune.transformers.schedule import plain_times, quadratic_sigmas, scheduled_times
from tailprune.transformers.source import TORCH, open_source
from tests.tailprune.transformers.tiny_models import TINY, TinyModel

STEPS = 5
WEIGHTS = DIFFUSERS_WEIGHTS[0]
NO_TEXT: dict[str, dict[str, Any]] = {
    "sd3": {"pooled_projections": torch.zeros(1, 24)},
    "flux": {"pooled_projections": torch.zeros(1, 24)},
    "flux-schnell": {"pooled_projections": torch.zeros(1, 24)},
    "hunyuan-video": {"pooled_projections": torch.zeros(1, 8)},
    "hidream": {"pooled_embeds": torch.zeros(1, 24)},
}
WHOLE = torch.tensor([999.0, 799.0, 599.0, 399.0, 199.0])
NOT_PLAIN = {"cogvideox": WHOLE, "dit": WHOLE, "mochi": 1000 * (1 - torch.from_numpy(quadratic_sigmas(STEPS)).float())}
APART = ("mochi", "cogview4", "dit")
"""They take tokens, sizes or a class, and have tests of their own."""
COVERED = [name for name in TINY if name not in APART]


def pooled(name: str) -> dict[str, Any]:
    return {"pooled": "zero"} if name in NO_TEXT else {}


def times_of(name: str, folder: Path) -> Tensor:
    return NOT_PLAIN[name] if name in NOT_PLAIN else plain_times(recognise(open_source(folder)), STEPS)


def outputs(model: Any, name: str, inputs: dict[str, Any], times: Tensor) -> list[Tensor]:
    """What a model predicts at each time, with the time of the next step where it takes that."""
    found = []
    key = "timesteps" if name == "hidream" else "timestep"
    for place, time in enumerate(times):
        step = dict(inputs)
        step[key] = torch.full_like(inputs[key], float(time), dtype=inputs[key].dtype)
        if "timestep_r" in inputs:
            step["timestep_r"] = times[place + 1 : place + 2] if place + 1 < len(times) else torch.zeros(1)
        said = model(**step, return_dict=False)[0]
        found.append(said if isinstance(said, Tensor) else said[0])
    return found


def difference(ours: list[Tensor], theirs: list[Tensor]) -> float:
    return max(float((a - b).norm() / b.norm()) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("name", COVERED)
def test_a_model_is_the_same_at_the_steps_that_it_covers(name: str, tmp_path: Path) -> None:
    whole = TINY[name].save(tmp_path / "whole")
    times = times_of(name, tmp_path / "whole")
    how: dict[str, Any] = {"times": times} if name in NOT_PLAIN else {"steps": STEPS}
    written = compact(tmp_path / "whole", tmp_path / "small", **how, **pooled(name))
    small = load_transformer(tmp_path / "small")
    assert type(small) is type(whole)
    inputs = TINY[name].inputs()
    exact = outputs(whole, name, inputs | NO_TEXT.get(name, {}), times)
    assert difference(outputs(small, name, inputs, times), exact) < 1e-5
    assert written.rank == STEPS - 1
    assert written.error <= written.worst_error < 1e-5
    assert sum(each.numel() for each in small.parameters()) == written.parameters[1] < written.parameters[0]


@pytest.mark.parametrize("name", ["qwen", "auraflow", "minimax-h3"])
def test_a_rank_has_the_error_that_is_stated(name: str, tmp_path: Path) -> None:
    TINY[name].save(tmp_path / "whole")
    found = anatomy(tmp_path / "whole")
    assert found.ranks is not None
    written = compact(tmp_path / "whole", tmp_path / "small", rank=found.ranks.needed[0.1])
    assert written.rank == found.ranks.needed[0.1]
    assert 0 < written.error <= 0.101
    assert written.covers == "all times"


def test_more_directions_are_never_worse_however_small_they_are(tmp_path: Path) -> None:
    TINY["minimax-h3"].save(tmp_path / "whole")
    errors = [compact(tmp_path / "whole", tmp_path / f"{rank}", rank=rank).error for rank in (2, 4, 6, 8, 12)]
    for fewer, more in itertools.pairwise(errors):
        assert more < max(fewer, 1e-7)
    assert errors[-1] < 1e-7


def test_an_error_needs_the_rank_that_anatomy_says(tmp_path: Path) -> None:
    TINY["minimax-h3"].save(tmp_path / "whole")
    written = compact(tmp_path / "whole", tmp_path / "small", error=0.01)
    assert written.error <= 0.01
    assert written.error_between is not None
    whole = anatomy(tmp_path / "whole").ranks
    assert whole is not None
    assert 0 <= written.rank - whole.needed[0.01] <= 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_and_its_rounding_is_in_the_error(dtype: torch.dtype, tmp_path: Path) -> None:
    whole = TINY["qwen"].build().to(dtype)
    whole.save_pretrained(tmp_path / "whole")
    written = compact(tmp_path / "whole", tmp_path / "small", steps=4)
    small = load_transformer(tmp_path / "small")
    assert written.dtype == {torch.bfloat16: "BF16", torch.float16: "F16"}[dtype]
    assert 1e-5 < written.worst_error < 1e-2
    assert small.transformer_blocks[0].img_mod[1].narrow.weight.dtype == dtype
    assert small.adaln_basis.weight.dtype == torch.float32
    inputs = {
        key: value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
        for key, value in TINY["qwen"].inputs().items()
    }
    times = plain_times(recognise(open_source(tmp_path / "whole")), 4)
    passed = (times * 1000).to(dtype) / 1000
    assert difference(outputs(small, "qwen", inputs, passed), outputs(whole, "qwen", inputs, passed)) < 0.05


def test_the_guidance_that_is_given_is_covered(tmp_path: Path) -> None:
    whole = TINY["flux"].save(tmp_path / "whole")
    compact(tmp_path / "whole", tmp_path / "small", steps=STEPS, guidance=[2.0, 5.0], pooled="zero")
    small = load_transformer(tmp_path / "small")
    times = times_of("flux", tmp_path / "whole")
    for scale in (2.0, 5.0):
        inputs = TINY["flux"].inputs() | NO_TEXT["flux"] | {"guidance": torch.tensor([scale])}
        assert difference(outputs(small, "flux", inputs, times), outputs(whole, "flux", inputs, times)) < 1e-5


def test_several_schedules_are_covered(tmp_path: Path) -> None:
    whole = TINY["qwen"].save(tmp_path / "whole")
    compact(tmp_path / "whole", tmp_path / "small", steps=[3, 7])
    small = load_transformer(tmp_path / "small")
    model = recognise(open_source(tmp_path / "whole"))
    for steps in (3, 7):
        times = plain_times(model, steps)
        inputs = TINY["qwen"].inputs()
        assert difference(outputs(small, "qwen", inputs, times), outputs(whole, "qwen", inputs, times)) < 1e-5


def flow_scheduler(folder: Path, **config: Any) -> Path:
    from diffusers import FlowMatchEulerDiscreteScheduler

    FlowMatchEulerDiscreteScheduler(**config).save_pretrained(folder)
    return folder


def test_the_times_of_a_shifting_scheduler_are_those_of_the_pipeline(tmp_path: Path) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift, retrieve_timesteps

    whole = TINY["flux"].save(tmp_path / "whole")
    flow_scheduler(tmp_path / "scheduler", use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15)
    sizes = [(1024, 1024), (640, 1536)]
    written = compact(
        tmp_path / "whole", tmp_path / "small", steps=4, scheduler=tmp_path, resolutions=sizes, pooled="zero"
    )
    assert written.covers == "the scheduler's times of 4 steps at 1024x1024 and 640x1536, guidance 3.5, no pooled text"
    small, inputs = load_transformer(tmp_path / "small"), TINY["flux"].inputs() | NO_TEXT["flux"]
    for width, height in sizes:
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(tmp_path / "scheduler")
        mu = calculate_shift(width // 16 * (height // 16), 256, 4096, 0.5, 1.15)
        passed = retrieve_timesteps(scheduler, 4, "cpu", sigmas=np.linspace(1.0, 1 / 4, 4), mu=mu)[0] / 1000
        assert difference(outputs(small, "flux", inputs, passed), outputs(whole, "flux", inputs, passed)) < 1e-5


def test_the_times_of_a_scheduler_that_takes_the_number_of_steps_are_covered(tmp_path: Path) -> None:
    from diffusers import CogVideoXDDIMScheduler

    whole = TINY["sd3"].save(tmp_path / "sd3")
    scheduler = flow_scheduler(tmp_path / "shift", shift=3.0)
    compact(tmp_path / "sd3", tmp_path / "small", steps=STEPS, scheduler=scheduler, pooled="zero")
    times = scheduled_times(recognise(open_source(tmp_path / "sd3")), STEPS, scheduler)[0]
    assert times[1] > 900, "shifted towards noise"
    inputs = TINY["sd3"].inputs() | NO_TEXT["sd3"]
    small = load_transformer(tmp_path / "small")
    assert difference(outputs(small, "sd3", inputs, times), outputs(whole, "sd3", inputs, times)) < 1e-5
    TINY["cogvideox"].save(tmp_path / "cogvideox")
    CogVideoXDDIMScheduler().save_pretrained(tmp_path / "discrete")
    discrete = scheduled_times(recognise(open_source(tmp_path / "cogvideox")), 4, tmp_path / "discrete")[0]
    assert discrete.tolist() == [float(round(time)) for time in discrete.tolist()]
    assert len(compact(tmp_path / "cogvideox", tmp_path / "c", steps=4, scheduler=tmp_path / "discrete").sources) == 1


def test_a_scheduler_that_is_not_one_and_resolutions_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    TINY["qwen"].save(tmp_path / "whole")
    shifting = flow_scheduler(tmp_path / "shifting", use_dynamic_shifting=True)
    plain = flow_scheduler(tmp_path / "plain")
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "scheduler_config.json").write_text('{"_class_name": "FluxPipeline"}')
    for how, said in [
        ({"steps": 4, "scheduler": tmp_path / "nothing"}, "has no scheduler_config"),
        ({"steps": 4, "scheduler": tmp_path / "wrong"}, "diffusers has no scheduler 'FluxPipeline'"),
        ({"steps": 4, "scheduler": shifting}, "shifts the times by the resolution"),
        ({"steps": 4, "scheduler": plain, "resolutions": [(64, 64)]}, "has the same times for every resolution"),
        ({"steps": 4, "resolutions": [(64, 64)]}, "resolutions belong to a scheduler"),
        ({"rank": 4, "scheduler": plain}, "belong to steps"),
    ]:
        with pytest.raises(InputError, match=said):
            compact(tmp_path / "whole", tmp_path / "small", **how)


def test_a_model_that_also_reads_time_zero_is_the_same(tmp_path: Path) -> None:
    tiny = dataclasses.replace(TINY["qwen"], config=TINY["qwen"].config | {"zero_cond_t": True})
    whole = tiny.save(tmp_path / "whole")
    compact(tmp_path / "whole", tmp_path / "small", steps=STEPS)
    small = load_transformer(tmp_path / "small")
    times, inputs = times_of("qwen", tmp_path / "whole"), tiny.inputs() | {"img_shapes": [[(1, 1, 2), (1, 1, 2)]]}
    assert difference(outputs(small, "qwen", inputs, times), outputs(whole, "qwen", inputs, times)) < 1e-5


def test_shards_stay_shards_and_all_else_stays_as_it_was(tmp_path: Path) -> None:
    whole = TINY["flux"].save(tmp_path / "whole", max_shard_size="60KB")
    written = compact(tmp_path / "whole", tmp_path / "small", steps=STEPS, pooled="zero")
    assert len(written.sources) == len(list((tmp_path / "whole").glob("*.safetensors"))) > 3
    source = open_source(tmp_path / "small")
    changed = {
        f"{name}.{kind}" for name in recognise(open_source(tmp_path / "whole")).names for kind in ("weight", "bias")
    }
    changed.add("time_text_embed.text_embedder.linear_1.weight")
    for name, tensor in whole.state_dict().items():
        if name not in changed:
            assert source.read(name).equal(tensor), name
    assert sorted(file.name for file in (tmp_path / "small").iterdir() if file.suffix != ".safetensors") == [
        "README.md",
        "compaction.json",
        "config.json",
        "diffusion_pytorch_model.safetensors.index.json",
        "modeling_tailprune.py",
    ]
    assert not list(tmp_path.glob(".*")), "nothing unfinished is left"


def test_a_single_file_gets_the_name_that_diffusers_looks_for(tmp_path: Path) -> None:
    TINY["qwen"].save(tmp_path / "whole")
    file = (tmp_path / "whole" / "diffusion_pytorch_model.safetensors").rename(tmp_path / "whole" / "mine.safetensors")
    written = compact(file, tmp_path / "small", steps=STEPS)
    assert written.sources.keys() == {"mine.safetensors"}
    assert written.files.keys() == {"diffusion_pytorch_model.safetensors", "directions.safetensors"}
    assert load_transformer(tmp_path / "small").adaln_basis.weight.shape == (STEPS - 1, 32)


def test_a_quantised_model_is_refused(tmp_path: Path) -> None:
    TINY["qwen"].save(tmp_path / "whole")
    config = tmp_path / "whole" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": {"quant_method": "fp8"}}))
    with pytest.raises(InputError, match="is quantised: give the weights before they were"):
        compact(tmp_path / "whole", tmp_path / "small", steps=STEPS)


def test_digests_are_those_of_the_files(tmp_path: Path) -> None:
    TINY["qwen"].save(tmp_path / "whole", max_shard_size="60KB")
    written = compact(tmp_path / "whole", tmp_path / "small", steps=STEPS)
    for folder, digests in (("whole", written.sources), ("small", written.files)):
        for name, digest in digests.items():
            assert hashlib.sha256((tmp_path / folder / name).read_bytes()).hexdigest() == digest
    assert json.loads((tmp_path / "small" / "compaction.json").read_text())["files"] == written.files
    assert f"{written.rank} directions" in (tmp_path / "small" / "README.md").read_text()


def test_a_compaction_that_was_stopped_goes_on_with_the_shards_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TINY["qwen"].save(tmp_path / "whole", max_shard_size="60KB")

    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compact(tmp_path / "whole", tmp_path / "small", steps=STEPS, on_bytes=stop)
    assert not (tmp_path / "small").exists()
    with pytest.raises(InputError, match="unfinished run of another kind"):
        compact(tmp_path / "whole", tmp_path / "small", steps=STEPS + 1)
    written_anew = []
    values = rewriting._Writer._values
    monkeypatch.setattr(
        rewriting._Writer,
        "_values",
        lambda self, path, *rest: written_anew.append(path.name) or values(self, path, *rest),
    )
    resumed = compact(tmp_path / "whole", tmp_path / "small", steps=STEPS)
    assert 0 < len(written_anew) < len(resumed.files)
    at_once = compact(tmp_path / "whole", tmp_path / "other", steps=STEPS)
    assert (resumed.files, resumed.error, resumed.worst_error) == (at_once.files, at_once.error, at_once.worst_error)


def test_files_that_change_meanwhile_are_refused(tmp_path: Path) -> None:
    TINY["qwen"].save(tmp_path / "whole")
    file = tmp_path / "whole" / "diffusion_pytorch_model.safetensors"

    def change(done: int, total: int) -> None:
        if done == total:
            file.touch()

    with pytest.raises(CheckpointError, match="changed while they were read"):
        compact(tmp_path / "whole", tmp_path / "small", steps=STEPS, on_bytes=change)
    assert not (tmp_path / "small").exists()


def test_too_little_room_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    TINY["qwen"].save(tmp_path / "whole")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 90, 10))  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="GB of room"):
        compact(tmp_path / "whole", tmp_path / "small", steps=STEPS)


@pytest.mark.parametrize(
    ("name", "how", "said"),
    [
        ("qwen", {}, "give one of steps, times, rank and error"),
        ("qwen", {"steps": 4, "rank": 4}, "give one of steps, times, rank and error"),
        ("qwen", {"steps": 0}, "steps must be a whole number"),
        ("qwen", {"rank": 33}, "rank must be a whole number from 1 to 32"),
        ("qwen", {"steps": 200}, "it would be no smaller"),
        ("qwen", {"steps": [4096, 1]}, "the times are 4,097 vectors, and at most 4,096 are covered: give fewer"),
        ("flux", {"steps": 65, "guidance": range(64), "pooled": "zero"}, "with 64 guidance scales are 4,160 vectors"),
        ("flux", {"rank": 4, "guidance": range(4097), "pooled": "zero"}, "are 4,097 vectors"),
        ("qwen", {"steps": 4, "guidance": [1.0]}, "takes no guidance"),
        ("qwen", {"steps": 4, "pooled": "zero"}, "takes no pooled text"),
        ("flux", {"steps": 4}, "depends on a pooled text"),
        ("hunyuan-image", {"rank": 4}, "depends on the next step's time too"),
        ("cogvideox", {"steps": 4}, "has no plain schedule of sigmas"),
        ("qwen", {"steps": 4, "classes": [1]}, "takes no class"),
        ("mochi", {"rank": 4}, "depends on a pooled text"),
        ("mochi", {"steps": 4, "pooled": "zero"}, "has no plain schedule of sigmas: give its scheduler"),
        ("cogview4", {"steps": 4}, "depends on the size of the picture: give one or more resolutions"),
        ("cogview4", {"steps": 4, "resolutions": [(64, 72)]}, "multiples of 16 pixels, not 72"),
        ("cogview4", {"steps": 4, "resolutions": [(64, 8192)]}, "a side must be a whole number from 16 to 4096"),
        ("cogview4", {"steps": 4, "resolutions": [(64, 64)], "scheduler": "s"}, "leave the scheduler out"),
        ("cogview4", {"steps": 4, "resolutions": [(64, 64)], "pooled": "zero"}, "takes no pooled text"),
        ("dit", {"times": torch.tensor([5.0])}, "depends on a class: give classes, of 0 to 9"),
        ("dit", {"times": torch.tensor([5.0]), "classes": [10]}, "a class must be a whole number from 0 to 9"),
        ("dit", {"steps": 4, "classes": [1]}, "has no plain schedule of sigmas"),
        ("minimax-h3", {"error": 1e-9}, "the error is"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(
    name: str, how: dict[str, Any], said: str, tmp_path: Path
) -> None:
    TINY[name].save(tmp_path / "whole")
    with pytest.raises(InputError, match=said):
        compact(tmp_path / "whole", tmp_path / "small", **how)
    assert not (tmp_path / "small").exists()


def test_the_command_prints_the_card_and_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    TINY["flux"].save(tmp_path / "whole")
    arguments = ["tailprune", "compact", str(tmp_path / "whole"), str(tmp_path / "small"), "--pooled", "zero"]
    monkeypatch.setattr("sys.argv", [*arguments, "--steps", "3", "4", "--guidance", "2"])
    assert main() == 0
    assert "the plain schedules of 3 and 4 steps, guidance 2, no pooled text" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", [*arguments, "--rank", "8"])
    assert main() == 1
    assert "exists: give another name" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "small")
    monkeypatch.setattr("sys.argv", [*arguments, "--times", "1", "0.5", "--json"])
    assert main() == 0
    assert json.loads(capsys.readouterr().out)["rank"] == 1


def test_a_folder_that_exists_is_refused(tmp_path: Path) -> None:
    TINY["qwen"].save(tmp_path / "whole")
    with pytest.raises(InputError, match="exists: give another name"):
        compact(tmp_path / "whole", tmp_path / "whole", steps=STEPS)


def test_a_compacted_model_has_the_tensors_of_its_files_and_is_not_compacted_again(tmp_path: Path) -> None:
    TINY["qwen"].save(tmp_path / "whole")
    compact(tmp_path / "whole", tmp_path / "small", steps=STEPS)
    small = load_transformer(tmp_path / "small")
    assert {name.replace(".narrow.", ".") for name in small.state_dict()} == set(
        open_source(tmp_path / "small").tensors
    )
    with pytest.raises(CheckpointError, match="reads 4 columns"):
        anatomy(tmp_path / "small")


@pytest.mark.parametrize(
    ("change", "tensors", "said"),
    [
        ({"axes_dims_rope": [1, 2, 3]}, {}, "diffusers makes no QwenImageTransformer2DModel of its configuration"),
        ({"attention_head_dim": 16.0}, {}, "diffusers makes no QwenImageTransformer2DModel of its configuration"),
        ({"in_channels": 17}, {}, r"img_in\.weight has the shape \(32, 16\), and a Qwen.* one of \(32, 17\)"),
        ({}, {"ema.x": torch.ones(2)}, r"has a tensor too many, ema\.x"),
        ({"use_additional_t_cond": True}, {}, r"lacks time_text_embed\.addition_t_embedding\.weight"),
        ({}, {"proj_out.weight": torch.ones(16, 32, dtype=torch.int8)}, r"is of the type torch\.int8"),
    ],
)
def test_what_diffusers_class_cannot_be_is_refused_when_it_is_loaded(
    change: dict[str, Any], tensors: dict[str, Tensor], said: str, tmp_path: Path
) -> None:
    TINY["qwen"].save(tmp_path / "whole")
    weights, config = (tmp_path / "whole" / name for name in ("diffusion_pytorch_model.safetensors", "config.json"))
    save_file(load_file(weights) | tensors, weights)
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    compact(tmp_path / "whole", tmp_path / "small", steps=STEPS)
    with pytest.raises(CheckpointError, match=said):
        load_transformer(tmp_path / "small")


@pytest.mark.parametrize("change", [{"flip_sin_to_cos": False}, {"freq_shift": 1}, {"timestep_activation_fn": "gelu"}])
def test_a_cogvideox_that_embeds_the_time_otherwise_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    tiny = TINY["cogvideox"]
    TinyModel(tiny.name, tiny.config | change, tiny.inputs).save(tmp_path / "whole")
    with pytest.raises(CheckpointError, match=f"{next(iter(change))} is .* in its configuration, and c is known of"):
        compact(tmp_path / "whole", tmp_path / "small", times=torch.tensor([700.0]))


def test_a_type_that_is_none_of_weights_is_refused(tmp_path: Path) -> None:
    for dtype in ("bfloat16", torch.int8, torch.complex64):
        with pytest.raises(InputError, match="dtype must be a type of floating point"):
            load_transformer(tmp_path, dtype=dtype)  # type: ignore[arg-type]


def test_a_folder_that_is_not_compacted_is_not_loaded(tmp_path: Path) -> None:
    TINY["qwen"].save(tmp_path / "whole")
    with pytest.raises(FileNotFoundError, match=r"has no compaction\.json"):
        load_transformer(tmp_path / "whole")


@pytest.mark.parametrize(
    ("first", "others", "written"),
    [
        (torch.float64, torch.float64, "F32"),
        (torch.float32, torch.bfloat16, "F32"),
        (torch.float16, torch.bfloat16, "F32"),  # neither holds the other
        (torch.float8_e4m3fn, torch.bfloat16, "BF16"),
    ],
)
def test_adaln_is_written_in_the_widest_of_its_types(
    first: torch.dtype, others: torch.dtype, written: str, tmp_path: Path
) -> None:
    TINY["qwen"].save(tmp_path / "whole")
    path = tmp_path / "whole" / WEIGHTS
    layers = recognise(open_source(tmp_path / "whole")).names
    stored = load_file(path)
    for name, values in stored.items():
        if (layer := name.rpartition(".")[0]) in layers:
            stored[name] = values.to(first if layer == layers[0] else others)
    save_file(stored, path)
    made = compact(tmp_path / "whole", tmp_path / "small", steps=STEPS)
    assert made.dtype == written
    assert made.worst_error < {"F32": 1e-5, "BF16": 1e-2}[written]
    types = " and ".join(made.read_dtypes)
    note = f"AdaLN's weights were {types}, and are written in {written}; all others are as they were."
    assert made.notes[0] == note
    assert f"- {note}\n" in (tmp_path / "small" / "README.md").read_text()
    small = load_file(tmp_path / "small" / WEIGHTS)
    assert {small[f"{layer}.weight"].dtype for layer in layers} == {TORCH[written]}
