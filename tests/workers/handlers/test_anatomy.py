"""The anatomy of large transformers, and its figure, against what the library says of the same files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from jobs.anatomy_results import AnatomyResult
from jobs.figure_results import FigureNumbers, FigureTransformerResult
from jobs.requests.anatomy import AnatomyRequest
from jobs.requests.base import TransformerRequest
from jobs.requests.figure_transformer import FigureTransformerRequest
from jobs.store.jobs import JobStore
from tailprune.figures.rank import draw_rank
from tailprune.figures.style import render
from tailprune.transformers import anatomy
from tests.tailprune.transformers.tiny_models import TINY
from tests.workers.handlers.conftest import TRANSFORMER, Does, Submits, detail

RANK = FigureTransformerRequest(model=TRANSFORMER, figure="rank")


@pytest.mark.parametrize("name", ["flux", "mochi"])
def test_the_result_is_what_the_library_says(name: str, folder: Path, submitted: Submits, done: Does) -> None:
    TINY[name].save(folder / "transformer")
    job = done(submitted(AnatomyRequest(model=TRANSFORMER)))
    result = AnatomyResult.model_validate(job.result)
    found: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(anatomy(folder))))
    if found["ranks"] is not None:
        assert len(found["ranks"]["errors"]) > 1
        needed = found["ranks"]["needed"].items()
        found["ranks"]["needed"] = [{"error": float(error), "rank": rank} for error, rank in needed]
        assert len(needed) == 4
    del found["path"]
    told = result.model_dump()
    assert {field: told[field] for field in found} == found
    assert result.adaln_share == result.adaln_parameters / result.parameters
    assert told.keys() - found.keys() == {"model", "adaln_share"}


def test_no_path_of_this_machine_is_in_the_result(folder: Path, submitted: Submits, done: Does, tmp_path: Path) -> None:
    TINY["flux"].save(folder)
    job = done(submitted(AnatomyRequest(model=TRANSFORMER)))
    assert job.result is not None
    assert job.result["model"]["name"] == TRANSFORMER
    assert str(tmp_path) not in json.dumps(job.public())


def test_files_that_are_no_transformer_fail_the_job_and_are_named_as_in_the_registry(
    folder: Path, submitted: Submits, done: Does, tmp_path: Path
) -> None:
    TINY["flux"].save(folder)
    weights = folder / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    text = detail(done(submitted(AnatomyRequest(model=TRANSFORMER))))
    assert text.startswith("flux/diffusion_pytorch_model.safetensors: the file has")
    assert str(tmp_path) not in text


def test_files_that_changed_since_the_request_are_not_described_under_its_key(
    folder: Path, submitted: Submits, done: Does
) -> None:
    TINY["flux"].save(folder)
    job = submitted(AnatomyRequest(model=TRANSFORMER))
    TINY["flux-schnell"].save(folder)
    assert "this worker's 'flux' is not the model of the request" in detail(done(job))


@pytest.mark.parametrize("request_", [AnatomyRequest(model=TRANSFORMER), RANK])
def test_files_that_are_written_to_while_they_are_read_are_not_described(
    request_: TransformerRequest, folder: Path, submitted: Submits, done: Does, monkeypatch: pytest.MonkeyPatch
) -> None:
    TINY["flux"].save(folder)
    job = submitted(request_)

    def meanwhile(path: Path) -> Any:
        found = anatomy(path)
        (folder / "config.json").write_text("{}")
        return found

    for handler in ("anatomy", "figure_transformer"):
        monkeypatch.setattr(f"workers.handlers.{handler}.anatomy", meanwhile)
    assert "written to while they were read" in detail(done(job))


def test_a_worker_that_lacks_the_files_says_which(folder: Path, submitted: Submits, done: Does) -> None:
    TINY["flux"].save(folder)
    job = submitted(AnatomyRequest(model=TRANSFORMER))
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    assert "this worker's 'flux' lacks flux/diffusion_pytorch_model.safetensors" in detail(done(job))


def test_the_figure_of_ranks_is_that_of_the_library_with_its_numbers(
    folder: Path, submitted: Submits, done: Does, store: JobStore, tmp_path: Path
) -> None:
    TINY["flux"].save(folder / "transformer")
    job = done(submitted(RANK))
    result = FigureTransformerResult.model_validate(job.result)
    files = [job.artifacts[name] for name in (result.png, result.svg, result.data)]
    assert [file.media_type for file in files] == ["image/png", "image/svg+xml", "application/json"]
    png, svg, data = map(store.artifacts.read, files)
    found = anatomy(folder)
    drawn = render(draw_rank(found, TRANSFORMER))
    assert (png, svg) == (drawn.png, drawn.svg)
    numbers = FigureNumbers.model_validate_json(data)
    assert (numbers.figure, numbers.caption, numbers.model) == ("rank", result.caption, result.model)
    assert found.ranks is not None
    assert numbers.data.model_dump()["errors"] == list(found.ranks.errors)
    assert "flux, FluxTransformer2DModel, c of 32 components" in result.caption
    assert str(tmp_path) not in json.dumps(job.public())


def test_ranks_that_cannot_be_measured_are_not_drawn_and_the_job_says_why(
    folder: Path, submitted: Submits, done: Does
) -> None:
    TINY["dit"].save(folder)
    assert "not measured: each block embeds the time in its own way" in detail(done(submitted(RANK)))
