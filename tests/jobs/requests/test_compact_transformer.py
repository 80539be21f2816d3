"""The request of `compact-transformer`: what is filled in, what is the same job, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jobs.problems import InvalidRequest
from jobs.registry.transformers import TransformerEntry
from jobs.requests.compact_transformer import CompactTransformerRequest
from jobs.storage.condition_info import ConditionInfo
from tailprune.spec.safetensors import encode_header, write_file
from tailprune.spec.transformers import CLASSES

FLUX, QWEN, COGVIEW, DIT, MOCHI = (
    f"{name}Model"
    for name in (
        "FluxTransformer2D", "QwenImageTransformer2D", "CogView4Transformer2D", "DiTTransformer2D",
        "MochiTransformer3D",
    )
)  # fmt: skip
HUNYUAN = "HunyuanVideo15Transformer3DModel"
MINIMAX = "MiniMaxH3Transformer3DModel"


def model(folder: Path, name: str, *, without: str = "", scheduler: Any = None, **config: Any) -> TransformerEntry:
    """A registered model of a class, of which the files have all that is read of them and no more."""
    cls = next(each for each in CLASSES if each.name == name)
    layers = [part.layers[0].replace("*", "0") for part in cls.parts if part.what != without]
    layers.append(cls.time.layers[1].replace("*", "0"))
    tensors = dict.fromkeys([cls.anchor, *(f"{layer}.weight" for layer in layers)], ("F32", (11, 1), 44))
    (folder / "flux" / "transformer").mkdir(parents=True)
    (folder / "flux" / "transformer" / "config.json").write_text(json.dumps({"_class_name": name} | config))
    weights = folder / "flux" / "transformer" / "diffusion_pytorch_model.safetensors"
    write_file(weights, encode_header(tensors), [bytes(44)] * len(tensors))
    if scheduler is not None:
        (folder / "flux" / "scheduler").mkdir()
        (folder / "flux" / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    return TransformerEntry(name="flux", title="FLUX", checkpoint="flux", folder=folder)


POPULATION = "5" * 64


def request(**fields: Any) -> CompactTransformerRequest:
    return CompactTransformerRequest(model="flux", **fields)


def texts(count: int = 3, width: int = 1) -> ConditionInfo:
    """The description of pooled texts as they are uploaded."""
    shapes = {"pooled": [width]}
    return ConditionInfo(id=POPULATION, count=count, inputs=shapes, family="transformer", bytes=4 * count * width)


def faults(entry: TransformerEntry, upload: ConditionInfo | None = None, **fields: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as error:
        request(**fields).resolve(entry, upload)
    return {fault.location.removeprefix("body."): fault.message for fault in error.value.faults}


def test_one_number_and_a_list_of_one_are_the_same_request(tmp_path: Path) -> None:
    entry = model(tmp_path, FLUX, scheduler={})
    one = request(steps=4, guidance=3.5, pooled="zero").resolve(entry)
    several = request(steps=[4], guidance=[3.5], pooled="zero", scheduler="own").resolve(entry)
    assert one == several
    assert one.model_dump() == {
        "model": "flux", "steps": [4], "scheduler": "own", "resolutions": None, "times": None, "rank": None,
        "error": None, "guidance": [3.5], "pooled": "zero", "population": None, "classes": None,
        "qkv": None,
    }  # fmt: skip


def test_the_models_own_scheduler_makes_the_times_and_is_a_part_of_the_key(tmp_path: Path) -> None:
    entry = model(tmp_path, FLUX, scheduler={})
    resolved = request(steps=4, pooled="zero").resolve(entry)
    assert resolved.scheduler == "own"
    before = resolved.reading(entry)
    (tmp_path / "flux" / "scheduler" / "scheduler_config.json").write_text('{"shift": 3.0}')
    assert before != resolved.reading(entry) != {}
    assert request(steps=4, pooled="zero", scheduler="plain").resolve(entry).reading(entry) == {}
    assert request(rank=4, pooled="zero").resolve(entry).scheduler is None


def test_the_scheduler_of_a_transformer_that_is_named_itself_lies_beside_it(tmp_path: Path) -> None:
    model(tmp_path, FLUX, scheduler={})
    entry = TransformerEntry(name="flux", title="FLUX", checkpoint="flux/transformer", folder=tmp_path)
    assert entry.scheduler == tmp_path / "flux" / "scheduler"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "give one of steps, times, rank and error, not none"),
        ({"steps": 4, "rank": 3}, "give one of steps, times, rank and error, not steps and rank"),
        ({"rank": 3, "scheduler": "own"}, "leave scheduler out, or rank"),
        ({"steps": 0}, "greater than or equal to 1"),
        ({"rank": 10**400}, "less than or equal to 1048576"),
        ({"rank": 3, "classes": [10**400]}, "less than or equal to 1048576"),
        ({"error": 0.0}, "greater than 0"),
        ({"steps": 4, "pooled": "median"}, "'zero' or 'mean'"),
        ({"steps": 4, "population": "texts.safetensors"}, "should match pattern"),
        ({"steps": 4, "qkv": "rows"}, "'stacked' or 'interleaved'"),
        ({"steps": 4, "resolutions": [[1024]]}, "at least 2 items"),
        ({"rank": 3, "classes": [1, 1]}, "1 is given more than once"),
    ],
)
def test_what_no_model_takes_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        request(**fields)


@pytest.mark.parametrize(
    ("name", "fields", "field", "message"),
    [
        (FLUX, {"steps": 4, "scheduler": "plain"}, "pooled", "flux takes a pooled text: give 'zero'"),
        (FLUX, {"rank": 4, "pooled": "mean"}, "population", "the mean of pooled texts needs texts: upload them with"),
        (FLUX, {"rank": 4, "pooled": "zero", "qkv": "stacked"}, "qkv", "MiniMax-H3 under its original names; leave"),
        (MINIMAX, {"rank": 4, "qkv": "stacked"}, "qkv", "MiniMax-H3 under its original names; leave qkv out"),
        (QWEN, {"rank": 4, "pooled": "zero"}, "pooled", "takes no pooled text; leave pooled out"),
        (QWEN, {"rank": 4, "pooled": "mean"}, "pooled", "takes no pooled text; leave pooled out"),
        (QWEN, {"rank": 4, "guidance": 3.5}, "guidance", "takes no guidance scale"),
        (QWEN, {"rank": 4, "resolutions": [[64, 64]]}, "resolutions", "is the same at every resolution"),
        (QWEN, {"steps": 4, "scheduler": "own"}, "scheduler", "no scheduler/scheduler_config.json lies beside flux"),
        (QWEN, {"steps": 4}, "scheduler", "put it there, or give 'plain', sigmas from 1 to 1/N"),
        (QWEN, {"rank": 4, "classes": [1]}, "classes", "takes no class"),
        (COGVIEW, {"rank": 4}, "resolutions", "takes the size of the picture"),
        (DIT, {"rank": 4}, "classes", "give classes, of 0 to 9"),
        (DIT, {"rank": 4, "classes": [3, 10]}, "classes", "class 10 is outside 0 to 9"),
        (DIT, {"steps": 4, "classes": [3]}, "scheduler", "put it there, or give times"),
        (DIT, {"steps": 4, "classes": [3], "scheduler": "plain"}, "scheduler", "DiT has no plain schedule"),
        (MOCHI, {"steps": 4, "pooled": "zero", "scheduler": "plain"}, "scheduler", "Mochi 1 has no plain schedule"),
        (QWEN, {"rank": 12}, "rank", "c of flux has 11 components"),
        (COGVIEW, {"rank": 4, "resolutions": [[64, 64], [64, 40]]}, "resolutions.1", "are multiples of 16 pixels"),
        (COGVIEW, {"rank": 4, "resolutions": [[8192, 64]]}, "resolutions.0", "at most 4096; give such sides"),
        (QWEN, {"steps": [4096, 1], "scheduler": "plain"}, "steps", "4,097 times are 4,097 vectors, and at most 4,096"),
        (
            FLUX,
            {"times": [i / 4096 for i in range(1025)], "guidance": [1.0, 2.0, 3.0, 4.0], "pooled": "zero"},
            "times",
            "1,025 times x 4 guidance scales are 4,100 vectors",
        ),
        (COGVIEW, {"steps": 2049, "resolutions": [[64, 64], [64, 32]]}, "steps", "2,049 times x 2 resolutions"),
        (DIT, {"times": [i / 8192 for i in range(2049)], "classes": [3]}, "times", "2,049 times x 2 classes"),
        (QWEN, {"times": [1000.0, 500.0]}, "times", "the pipeline of Qwen-Image passes times of 0 to 1; give such"),
        (HUNYUAN, {"times": [-1.0]}, "times", "passes times of 0 to 1000; give such"),
        (HUNYUAN, {"rank": 4}, "rank", "takes the time of the next step too"),
        (HUNYUAN, {"error": 0.1}, "error", "takes the time of the next step too"),
    ],
)
def test_what_this_model_does_not_take_is_refused(
    tmp_path: Path, name: str, fields: dict[str, Any], field: str, message: str
) -> None:
    found = faults(model(tmp_path, name), **fields)
    assert list(found) == [field]
    assert message in found[field]


@pytest.mark.parametrize("pooled", [None, "zero", "mean"])
@pytest.mark.parametrize(("name", "width"), [(FLUX, 1), (MOCHI, 11)])  # Mochi pools its tokens itself, into c
def test_a_population_is_of_the_models_width(tmp_path: Path, name: str, width: int, pooled: Any) -> None:
    entry = model(tmp_path, name)
    resolved = request(rank=4, pooled=pooled, population=POPULATION).resolve(entry, texts(width=width))
    assert (resolved.population, resolved.pooled) == (POPULATION, pooled)
    found = faults(entry, texts(width=width + 1), rank=4, pooled=pooled, population=POPULATION)
    assert list(found) == ["population"]
    assert f"these pooled texts are {width + 1} wide, and those of flux are {width}: give" in found["population"]


def test_an_upload_that_is_no_population_is_refused(tmp_path: Path) -> None:
    video = ConditionInfo(id=POPULATION, count=1, inputs={"video": [32, 512]}, family="mdsgen", bytes=65_536)
    found = faults(model(tmp_path, FLUX), video, rank=4, population=POPULATION)
    message = "these are conditions of video, for mdsgen; flux takes an array 'pooled' of K pooled texts, K x 1"
    assert found == {"population": message}


def test_a_model_without_pooled_texts_takes_no_population(tmp_path: Path) -> None:
    found = faults(model(tmp_path, QWEN), texts(), rank=4, population=POPULATION)
    assert found == {"population": "flux takes no pooled text; leave population out"}


def test_texts_that_are_told_apart_count_as_often_as_the_times(tmp_path: Path) -> None:
    entry = model(tmp_path, FLUX)
    fields = {"steps": 4, "scheduler": "plain", "population": POPULATION}
    assert "4 times x 1,025 pooled texts are 4,100 vectors" in faults(entry, texts(1025), **fields)["steps"]
    assert request(**fields, pooled="mean").resolve(entry, texts(4096)).pooled == "mean"
    found = faults(entry, texts(4097), **fields, pooled="mean")
    assert found == {"population": "4,097 pooled texts are more than 4,096; give fewer"}


def test_a_flux_without_guidance_is_told_from_one_with_it_by_its_tensors(tmp_path: Path) -> None:
    assert list(faults(model(tmp_path, FLUX, without="guidance"), rank=4, pooled="zero", guidance=3.5)) == ["guidance"]


def test_resolutions_go_with_a_scheduler_that_shifts_by_them(tmp_path: Path) -> None:
    shifting = model(tmp_path, QWEN, scheduler={"use_dynamic_shifting": True})
    assert "shifts times by the resolution" in faults(shifting, steps=4)["resolutions"]
    assert request(steps=4, resolutions=[[64, 32]]).resolve(shifting).scheduler == "own"
    (tmp_path / "flux" / "scheduler" / "scheduler_config.json").write_text("{}")
    assert "same at every resolution" in faults(shifting, steps=4, resolutions=[[64, 32]])["resolutions"]


def test_what_a_scheduler_shifts_counts_at_each_resolution(tmp_path: Path) -> None:
    shifting = model(tmp_path, QWEN, scheduler={"use_dynamic_shifting": True})
    found = faults(shifting, steps=2049, resolutions=[[64, 32], [32, 64]])
    assert "2,049 times x 2 resolutions are 4,098 vectors" in found["steps"]


def test_mochi_takes_at_least_two_steps(tmp_path: Path) -> None:
    mochi = model(tmp_path, MOCHI, scheduler={})
    assert "takes at least 2 steps" in faults(mochi, steps=[4, 1], pooled="zero")["steps"]
    assert request(steps=[4, 2], pooled="zero").resolve(mochi).steps == [4, 2]


def test_minimax_h3_runs_a_second_scheduler(tmp_path: Path) -> None:
    entry = model(tmp_path, MINIMAX, scheduler={})
    second = tmp_path / "flux" / "audio_scheduler" / "scheduler_config.json"
    second.parent.mkdir()
    resolved = request(steps=4).resolve(entry)
    alone = resolved.reading(entry)
    second.write_text('{"shift": 3.0}')
    before = resolved.reading(entry)
    assert before != alone
    second.write_text('{"shift": 4.0}')
    assert before != resolved.reading(entry)


def test_a_scheduler_that_cannot_be_read_matters_to_those_that_use_it(tmp_path: Path) -> None:
    entry = model(tmp_path, QWEN, scheduler=[])
    found = faults(entry, steps=4)["scheduler"]
    assert found.startswith("flux/scheduler/scheduler_config.json is no JSON object")
    for fields in ({"rank": 4}, {"times": [0.5]}, {"steps": 4, "scheduler": "plain"}):
        request(**fields).resolve(entry)


def test_a_pipeline_that_makes_its_times_uses_no_scheduler(tmp_path: Path) -> None:
    entry = model(tmp_path, COGVIEW, scheduler={})
    assert request(steps=4, resolutions=[[64, 64]]).resolve(entry).scheduler == "plain"
    assert "makes the times itself" in faults(entry, steps=4, resolutions=[[64, 64]], scheduler="own")["scheduler"]


def original(folder: Path, name: str, *, without: str = "", prefix: str = "") -> TransformerEntry:
    """A registered file of a model under its original names, with all that is read of it and no configuration."""
    cls = next(each for each in CLASSES if each.name == name and each.naming != "diffusers")
    layers = [layer for part in cls.parts if part.what != without for layer in part.layers]
    names = [prefix + each for each in (cls.anchor, *(f"{layer}.weight" for layer in layers))]
    tensors = dict.fromkeys(names, ("F32", (11, 1), 44))
    write_file(folder / "model.safetensors", encode_header(tensors), [bytes(44)] * len(tensors))
    return TransformerEntry(name="flux", title="FLUX", checkpoint="model.safetensors", folder=folder)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_a_file_of_flux_under_its_original_names_needs_no_configuration(prefix: str, tmp_path: Path) -> None:
    entry = original(tmp_path, FLUX, prefix=prefix)
    resolved = request(steps=4, scheduler="plain", pooled="zero", guidance=3.5).resolve(entry)
    assert resolved.guidance == [3.5]
    assert (entry.facts.width, entry.facts.cls.token_pixels) == (11, 16)
    assert "takes a pooled text" in faults(entry, rank=4)["pooled"]
    assert "give a rank of at most as many" in faults(entry, rank=12, pooled="zero")["rank"]
    entry = original(tmp_path, FLUX, without="guidance", prefix=prefix)
    assert "takes no guidance scale" in faults(entry, rank=4, pooled="zero", guidance=3.5)["guidance"]
    (tmp_path / "config.json").write_text('{"_class_name": "SD3Transformer2DModel"}')
    assert "a SD3Transformer2DModel has pos_embed.proj.weight" in faults(entry, rank=4)["model"]


def test_of_minimax_h3_under_its_original_names_the_order_of_rows_has_to_be_given(tmp_path: Path) -> None:
    entry = original(tmp_path, MINIMAX)
    (message,) = faults(entry, rank=4).values()
    assert message.startswith("flux has the original names of MiniMax-H3, under which no tensor tells the order")
    assert "give 'stacked' for a single file as published for ComfyUI, or 'interleaved'" in message
    assert list(faults(entry, rank=4)) == ["qkv"]
    resolved = [request(rank=4, qkv=qkv).resolve(entry) for qkv in ("stacked", "interleaved")]
    assert [each.model_dump()["qkv"] for each in resolved] == ["stacked", "interleaved"]


def test_a_model_that_cannot_be_compacted_is_refused_by_its_name_in_the_registry(tmp_path: Path) -> None:
    entry = model(tmp_path, FLUX)
    config = tmp_path / "flux" / "transformer" / "config.json"
    for text, reason in [
        ('{"_class_name": "UNet2DConditionModel"}', "its class is 'UNet2DConditionModel'; known are SD3"),
        ('{"_class_name": "FluxTransformer2DModel", "quantization_config": {}}', "the weights are quantised"),
        ('{"_class_name": "SD3Transformer2DModel"}', "a SD3Transformer2DModel has pos_embed.proj.weight"),
        ("[]", "is no JSON object"),
    ]:
        config.write_text(text)
        message = faults(entry, steps=4)["model"]
        assert message.startswith("flux/transformer/config.json")
        assert reason in message
    config.write_text('{"_class_name": "FluxTransformer2DModel"}')
    weights = config.parent / "diffusion_pytorch_model.safetensors"
    for content, reason in [
        (b"\x08" + bytes(7) + b"{not json", "download it again"),
        (b"\x02" + bytes(7) + b"\xff\xff", "download it again"),
        (b"\x02" + bytes(7) + b"{", "the file ends after 1 of the 2 bytes"),
        (encode_header({"x_embedder.weight": ("F32", (1,), 4)}) + bytes(4), "linear_2.weight with two dimensions"),
    ]:
        weights.write_bytes(content)
        assert reason in faults(entry, steps=4)["model"]
        assert entry.files_digest
    config.unlink()
    assert "config.json is missing" in faults(entry, steps=4)["model"]
