"""Large transformers of the registry over HTTP: described and compacted by a worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from jobs.anatomy_results import Ranks
from jobs.compact_transformer_results import CompactTransformerResult
from service.cli import app
from tailprune.figures.rank import draw_rank
from tailprune.figures.style import render
from tailprune.statistics import describe
from tailprune.transformers import anatomy, compact, condition_vectors, load_transformer, verify
from tailprune_client import Client, InvalidRequest, JobFailed, UnknownModel
from tests.condition_files import TEXT, arrays, safetensors
from tests.end_to_end.stack import Stack
from tests.registry import extend
from tests.tailprune.transformers.tiny_models import TINY
from tests.tiny_model import NAME

WAIT = {"Prefer": "wait=60"}
ANATOMY = "/models/tiny-flux/anatomy"
RANK = "/metrics/tiny-flux/figures/rank"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service with one worker, and a registry that names a small FLUX besides."""
    stack = Stack(tmp_path_factory.mktemp("transformers"))
    extend(stack.registry, {"models": {"tiny-flux": {"kind": "transformer", "checkpoint": "flux", "title": "FLUX"}}})
    TINY["flux"].save(flux(stack) / "transformer", max_shard_size="60KB")
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.url, progress=False) as client:
        yield client


def flux(stack: Stack) -> Path:
    return stack.registry.parent / "flux"


def test_the_anatomy_is_a_job_and_then_an_answer_that_is_not_sent_again(stack: Stack) -> None:
    first = stack.http.get(ANATOMY, headers={"Prefer": "wait=0"})
    assert first.status_code == httpx.codes.ACCEPTED
    job = stack.finished(first.json()["id"])
    assert (job["kind"], job["status"], job["request"]) == ("anatomy", "succeeded", {"model": "tiny-flux"})
    answer = stack.http.get(ANATOMY)
    assert (answer.status_code, answer.json()) == (httpx.codes.OK, job["result"])
    again = stack.http.get(ANATOMY, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (httpx.codes.NOT_MODIFIED, b"")
    assert str(stack.folder) not in first.text + answer.text


def test_the_client_reads_what_the_library_says_of_the_same_files(stack: Stack, client: Client) -> None:
    told, found = client.anatomy("tiny-flux"), anatomy(flux(stack))
    assert (told.name, told.parameters, told.adaln_parameters) == (found.name, found.parameters, found.adaln_parameters)
    assert found.ranks is not None
    assert told.ranks is not None
    assert {each.error: each.rank for each in told.ranks.needed} == found.ranks.needed
    assert told.recommendation == found.recommendation


def test_files_that_are_written_to_are_described_anew(stack: Stack) -> None:
    before = stack.http.get(ANATOMY, headers=WAIT)
    config = flux(stack) / "transformer" / "config.json"
    config.write_bytes(config.read_bytes())
    after = stack.http.get(ANATOMY, headers=WAIT | {"If-None-Match": before.headers["ETag"]})
    assert after.status_code == httpx.codes.OK
    assert after.json()["model"]["files_digest"] != before.json()["model"]["files_digest"]


def test_large_transformers_are_listed_apart_and_systems_have_no_anatomy(client: Client) -> None:
    (listed,) = client.transformers()
    assert (listed.name, listed.title, listed.ready) == ("tiny-flux", "FLUX", True)
    assert listed.links == {"anatomy": ANATOMY, "metrics": "/metrics/tiny-flux", "rank": RANK}
    assert "tiny-flux" not in [model.name for model in client.models()]
    with pytest.raises(UnknownModel, match=f"'{NAME}' is a system"):
        client.anatomy(NAME)
    with pytest.raises(UnknownModel, match="known large transformers: tiny-flux"):
        client.anatomy("nothing")
    with pytest.raises(UnknownModel, match="'tiny-flux' is a large transformer"):
        client.model("tiny-flux")


def test_the_figure_of_ranks_is_drawn_once_and_is_the_library_s(stack: Stack, client: Client) -> None:
    found = anatomy(flux(stack))
    drawn = render(draw_rank(found, "tiny-flux"))
    assert client.figure("tiny-flux", "rank") == drawn.png
    assert client.figure("tiny-flux", "rank", format="svg") == drawn.svg
    numbers = client.figure_data("tiny-flux", "rank")
    assert isinstance(numbers.data, Ranks)
    assert found.ranks is not None
    assert numbers.data.errors == list(found.ranks.errors)
    (job,) = client.jobs(kind="figure-transformer")
    assert job.title == "rank figure of tiny-flux"
    with pytest.raises(InvalidRequest, match="'rank' is a figure of large transformers"):
        client.figure(NAME, "rank")


def test_the_statistics_are_those_of_the_library_at_once_and_over_time(stack: Stack, client: Client) -> None:
    found = client.transformer_metrics("tiny-flux", steps=8, guidance=[1, 3.5])
    vectors = condition_vectors(flux(stack), steps=8, guidance=[1, 3.5])
    described = describe(vectors.c)
    assert (found.count, found.dim, found.npr) == (16, 32, pytest.approx(described.npr))
    assert found.cosine is not None
    assert found.cosine.mean == pytest.approx(described.cosine.mean)
    assert [part.what for part in found.parts] == ["time", "guidance", "pooled text"]
    over_time = client.transformer_over_time("tiny-flux", points=3)
    assert (over_time.timesteps, over_time.fraction, over_time.count) == ([1, 0.5, 0], [0, 0.5, 1], 1)
    assert over_time.cosine is None
    answer = stack.http.get("/metrics/tiny-flux?steps=8&guidance=1&guidance=3.5")
    assert (answer.status_code, answer.json()["npr"]) == (httpx.codes.OK, found.npr)
    with pytest.raises(InvalidRequest, match="timestep is an option of systems, and 'tiny-flux' is a large"):
        client.metrics("tiny-flux", timestep=0.5)
    with pytest.raises(InvalidRequest, match=f"steps is an option of large transformers, and '{NAME}' is none"):
        client.transformer_metrics(NAME)


def test_a_compacted_transformer_is_downloaded_and_is_what_the_library_makes(
    stack: Stack, client: Client, tmp_path: Path
) -> None:
    job = client.compact("tiny-flux", steps=4, scheduler="plain", guidance=3.5, pooled="zero").wait()
    assert isinstance(job.result, CompactTransformerResult)
    small = tmp_path / "small"
    small.mkdir()
    for name, artifact in job.artifacts.items():
        artifact.save(small / name)
    written = compact(flux(stack), tmp_path / "own", steps=4, pooled="zero")
    assert (job.result.rank, job.result.error, job.result.covers) == (written.rank, written.error, written.covers)
    assert {each.name: each.read_bytes() for each in small.iterdir()} == {
        each.name: each.read_bytes() for each in (tmp_path / "own").iterdir()
    }
    checked = verify(small, flux(stack))
    assert checked.error == pytest.approx(job.result.error, rel=1e-6, abs=1e-12)

    whole, inputs = TINY["flux"].build(), TINY["flux"].inputs()
    inputs |= {"timestep": torch.ones(1), "pooled_projections": torch.zeros(1, 24)}
    with torch.no_grad():
        smaller, larger = (model(**inputs, return_dict=False)[0] for model in (load_transformer(small), whole))
    torch.testing.assert_close(smaller, larger, rtol=1e-5, atol=1e-5)  # an exact table, in float32

    again = client.compact("tiny-flux", steps=[4], guidance=[3.5], pooled="zero", scheduler="plain")
    assert again.id == job.id
    assert str(stack.folder) not in json.dumps(stack.job(job.id)) + (small / "compaction.json").read_text()


def test_a_population_is_uploaded_and_named_and_the_command_writes_the_folder(
    stack: Stack, client: Client, tmp_path: Path
) -> None:
    texts = tmp_path / "texts.safetensors"
    texts.write_bytes(safetensors(arrays(TEXT, 3)))
    runner = CliRunner()
    said = runner.invoke(app, ["upload", str(texts), "--url", stack.url])
    population = said.stdout.strip()
    assert population == client.upload(arrays(TEXT, 3)).id
    assert "3 conditions of pooled 24, for models of transformer" in said.stderr

    wanted = ["--rank", "5", "--population", population, "--pooled", "mean"]
    said = runner.invoke(app, ["compact", "tiny-flux", *wanted, "--save", str(tmp_path / "small"), "--url", stack.url])
    assert said.exit_code == 0, said.output
    written = compact(flux(stack), tmp_path / "own", rank=5, population=texts, pooled="mean")
    shown = " ".join(said.stdout.split())
    assert f"tiny-flux: AdaLN reads {written.rank} directions" in shown
    assert f"that all pooled texts count as one changes another {written.text_error:.2g}" in shown
    assert {each.name: each.read_bytes() for each in (tmp_path / "small").iterdir()} == {
        each.name: each.read_bytes() for each in (tmp_path / "own").iterdir()
    }

    job = client.compact("tiny-flux", rank=5, population=population, pooled="mean").wait()
    assert isinstance(job.result, CompactTransformerResult)
    assert job.result.text_error == written.text_error
    (listed,) = client.jobs(kind="compact-transformer", limit=1)
    assert listed.id == job.id
    with pytest.raises(InvalidRequest, match="these pooled texts are 7 wide, and those of tiny-flux are 24"):
        client.compact("tiny-flux", rank=5, population=client.upload({"pooled": np.ones((2, 7))}).id)
    said = runner.invoke(app, ["compact", "tiny-flux", "--rank", "5", "--pooled", "mean", "--url", stack.url])
    assert said.exit_code == 1
    assert "--population: the mean of pooled texts needs texts: upload them with `tailprune upload`" in " ".join(
        said.stderr.split()
    )


def test_what_a_transformer_does_not_take_is_refused_before_there_is_a_job(client: Client) -> None:
    with pytest.raises(InvalidRequest) as error:
        client.compact("tiny-flux", rank=4, pooled="zero", classes=[1])
    (fault,) = error.value.errors
    assert (fault.location, fault.message) == ("body.classes", "tiny-flux takes no class; leave classes out")
    with pytest.raises(InvalidRequest, match="for systems, and this is a large transformer"):
        client.compact("tiny-flux", rank=4, pooled="zero", by="directions")


def test_what_only_the_weights_show_fails_the_job(client: Client) -> None:
    job = client.compact("tiny-flux", steps=60, scheduler="plain", pooled="zero")
    with pytest.raises(JobFailed, match="it would be no smaller: cover fewer times"):
        job.wait()
