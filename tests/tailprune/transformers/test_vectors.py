"""The condition vectors of large transformers over times, and their parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from tailprune.checkpoints.files import CheckpointError
from tailprune.spec import InputError
from tailprune.transformers import condition_vectors
from tailprune.transformers.population import PooledTexts, parts_of_texts
from tailprune.transformers.recognise import recognise
from tailprune.transformers.schedule import cover, plain_times
from tailprune.transformers.sizes_and_classes import parts_of_sizes
from tailprune.transformers.source import open_source
from tests.tailprune.transformers.original import as_minimax
from tests.tailprune.transformers.tiny_models import TINY, share_embedders

SIZES = [(64, 32), (128, 64)]


@pytest.mark.parametrize(
    ("name", "given", "parts"),
    [
        ("flux", {"guidance": [1.0, 3.5]}, ["time", "guidance", "pooled text"]),
        ("sd3", {}, ["time", "pooled text"]),
        ("qwen", {}, ["time"]),
        ("hunyuan-image", {}, ["time", "time of the next step", "guidance"]),
        ("cogview4", {"resolutions": SIZES}, ["time", "sizes"]),
        ("minimax-h3", {}, ["time"]),
    ],
)
def test_they_are_those_that_a_compaction_covers(
    name: str, given: dict[str, Any], parts: list[str], tmp_path: Path
) -> None:
    TINY[name].save(tmp_path)
    found = condition_vectors(tmp_path, steps=4, **given)
    model = recognise(open_source(tmp_path))
    times = plain_times(model, 4)
    sizes = parts_of_sizes(model, SIZES) if "resolutions" in given else None
    covered = cover(model, times, given.get("guidance"), sizes)
    assert found.times.equal(times)
    torch.testing.assert_close(F.silu(found.c), covered.read.float())
    assert [part.what for part in found.parts] == parts
    assert [part.what for part in found.parts if part.runs] == [part for part in parts if part.startswith("time")]
    assert (found.y is None) == (len(parts) == 1)


def test_c_is_y_and_t_and_each_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    TINY["flux"].save(tmp_path)
    found = condition_vectors(tmp_path, points=3, guidance=[1.0, 3.5])
    time, guidance, text = (part.vectors for part in found.parts)
    assert (time.shape, guidance.shape, text.shape) == ((3, 32), (2, 32), (1, 32))
    assert found.y is not None
    torch.testing.assert_close(found.y, (guidance + text).float())
    torch.testing.assert_close(found.c, (guidance[:, None] + text + time).flatten(0, 1).float())
    assert [part.covers for part in found.parts] == ["3 times from 1 to 0", "scales 1, 3.5", "none, as zeros"]
    default = condition_vectors(tmp_path, points=3)
    assert default.parts[1].covers == "scale 3.5"
    torch.testing.assert_close(default.c, found.c[3:])


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("flux", [1.0, 0.75, 0.5, 0.25, 0.0]),
        ("sd3", [1000.0, 750.0, 500.0, 250.0, 0.0]),
        ("cogvideox", [999.0, 749.0, 500.0, 250.0, 0.0]),
        ("mochi", [0.0, 250.0, 500.0, 750.0, 1000.0]),
        ("minimax-h3", [0.0, 0.25, 0.5, 0.75, 1.0]),
    ],
)
def test_evenly_spaced_times_are_from_noise_to_data(name: str, times: list[float], tmp_path: Path) -> None:
    TINY[name].save(tmp_path)
    found = condition_vectors(tmp_path, points=5)
    assert found.times.tolist() == times
    torch.testing.assert_close(found.fraction, torch.linspace(0, 1, 5), atol=1e-3, rtol=0)


def test_the_times_of_its_scheduler_at_all_resolutions_count(tmp_path: Path) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    TINY["flux"].save(tmp_path / "transformer")
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    scheduler.save_pretrained(tmp_path / "scheduler")
    both = condition_vectors(tmp_path, steps=4, scheduler=tmp_path, resolutions=[(512, 512), (1024, 1024)])
    alone = [
        condition_vectors(tmp_path, steps=4, scheduler=tmp_path, resolutions=[sides])
        for sides in ((512, 512), (1024, 1024))
    ]
    assert not alone[0].times.equal(alone[1].times)
    torch.testing.assert_close(both.c, torch.cat([each.c for each in alone]))


def test_a_class_counts_as_none(tmp_path: Path) -> None:
    model = TINY["dit"].build()
    share_embedders(model)
    model.save_pretrained(tmp_path)
    _, label = condition_vectors(tmp_path, points=2).parts
    assert label.covers == "none, as a row of its own"
    table = model.transformer_blocks[0].norm1.emb.class_embedder.embedding_table.weight
    torch.testing.assert_close(label.vectors.float(), table[-1:])


def test_given_classes_are_a_vector_each(tmp_path: Path) -> None:
    model = TINY["dit"].build()
    share_embedders(model)
    model.save_pretrained(tmp_path)
    found = condition_vectors(tmp_path, points=2, classes=[3, 1])
    time, label = found.parts
    assert label.covers == "classes 1, 3"
    table = model.transformer_blocks[0].norm1.emb.class_embedder.embedding_table.weight
    torch.testing.assert_close(label.vectors.float(), table[[1, 3]])
    assert found.y is not None
    torch.testing.assert_close(found.y, table[[1, 3]])
    torch.testing.assert_close(found.c[2:], table[3] + time.vectors.float())


@pytest.mark.parametrize(("name", "width"), [("flux", 24), ("mochi", 32)])
def test_given_texts_are_a_vector_each(name: str, width: int, tmp_path: Path) -> None:
    TINY[name].save(tmp_path)
    texts = torch.randn(3, width, generator=torch.Generator().manual_seed(5))
    save_file({"texts": texts}, tmp_path / "texts.safetensors")
    model = recognise(open_source(tmp_path))
    found = condition_vectors(tmp_path, points=2, population=tmp_path / "texts.safetensors")
    covered = cover(model, found.times, None, parts_of_texts(model, PooledTexts(texts)))
    torch.testing.assert_close(F.silu(found.c), covered.read.float())
    assert found.parts[-1].covers == "3 pooled texts"


@pytest.mark.parametrize("rows", ["stacked", "interleaved"])
def test_the_order_of_rows_of_a_minimax_h3_under_its_original_names_does_not_matter(rows: Any, tmp_path: Path) -> None:
    whole = TINY["minimax-h3"].save(tmp_path / "whole")
    save_file(as_minimax(whole.state_dict(), 2, rows), tmp_path / "model.safetensors")
    expected = condition_vectors(tmp_path / "whole", points=5)
    torch.testing.assert_close(condition_vectors(tmp_path / "model.safetensors", points=5).c, expected.c)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("qwen", {}, "give one of steps and points"),
        ("qwen", {"steps": 4, "points": 4}, "give one of steps and points"),
        ("qwen", {"steps": 4, "guidance": [1.0]}, "takes no guidance"),
        ("qwen", {"steps": 4, "resolutions": SIZES}, "resolutions belong to a scheduler"),
        ("qwen", {"points": 4, "scheduler": "."}, "a scheduler belongs to steps"),
        ("cogview4", {"points": 4}, "give one or more resolutions"),
        ("mochi", {"steps": 4}, "Mochi 1 has no plain schedule of sigmas: give its scheduler"),
        ("flux", {"steps": 4096, "guidance": [1.0, 2.0]}, "make 8,192 vectors, and at most 4,096"),
        ("qwen", {"points": 4, "classes": [1]}, "takes no class"),
        ("dit", {"points": 4, "classes": []}, "give classes, of 0 to 9"),
        ("dit", {"points": 4, "classes": [10]}, "a class must be"),
        ("dit", {"points": 2049, "classes": [1, 2]}, "make 4,098 vectors"),
        ("dit", {"points": 4, "population": "texts.safetensors"}, "takes no pooled text"),
    ],
)
def test_what_cannot_be_measured_is_refused(name: str, given: dict[str, Any], message: str, tmp_path: Path) -> None:
    TINY[name].save(tmp_path)
    with pytest.raises(InputError, match=message):
        condition_vectors(tmp_path, **given)


def test_weights_that_are_not_finite_have_no_condition(tmp_path: Path) -> None:
    model = TINY["qwen"].build()
    model.time_text_embed.timestep_embedder.linear_1.weight[0, 0] = float("nan")
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="the weights that make the condition hold NaN or infinity"):
        condition_vectors(tmp_path, steps=4)
