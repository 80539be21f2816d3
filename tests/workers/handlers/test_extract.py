from __future__ import annotations

from typing import Any

import pytest
import redis
import torch
from safetensors.torch import load, safe_open

import tailprune
from jobs.results import ExtractResult
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from tailprune.condition_table import sums_in_pieces
from tests.largest import Largest
from tests.tiny_model import CONDITION_ONLY, NAME, TINY_DIT
from tests.workers.conftest import Submit
from workers.lease import Shutdown
from workers.model_pool import ModelPool
from workers.outputs.variant import JobArtifacts
from workers.worker import Worker

Extracted = tuple[ExtractResult, bytes]


@pytest.fixture
def extracted(settings: Settings, redis_client: redis.Redis, submit: Submit, store: JobStore) -> Any:
    """Does the job of a request: its result and its file."""
    worker = Worker(settings, "worker")

    def extracted(**body: Any) -> Extracted:
        job = submit("extract", **body)
        worker.run(job.id)
        done = store.get(job.id)
        assert done.status == "succeeded", done.problem
        result = ExtractResult.model_validate(done.result)
        return result, store.artifacts.read(done.artifacts[result.artifact])

    return extracted


def test_the_tensors_are_the_vectors_of_the_network(extracted: Any, models: ModelPool) -> None:
    times, labels = [0.0, 0.25, 1.0], [2, 0]
    _, content = extracted(timesteps=times, labels=labels)
    tensors = load(content)
    system = models.systems.get(models.source(NAME, "model"))
    with torch.no_grad():
        y = system.embed_inputs({"labels": torch.tensor(labels)})
        t = system.embed_time(torch.tensor(times))
        c = [system.condition(torch.full((2,), time), {"labels": torch.tensor(labels)}) for time in times]
    # the same float32 operations, in batches of other sizes
    torch.testing.assert_close(tensors["c"], torch.stack(c))
    torch.testing.assert_close(tensors["y"], y)
    torch.testing.assert_close(tensors["t"], t)
    assert tensors["timesteps"].tolist() == times
    assert tensors["labels"].tolist() == labels


def test_the_result_says_what_is_in_the_file(extracted: Any) -> None:
    result, content = extracted(timesteps=[0.0, 1.0])
    assert result.shapes == {"c": [2, 4, 32], "y": [4, 32], "t": [2, 32], "timesteps": [2], "labels": [4]}
    assert result.shapes == {name: list(tensor.shape) for name, tensor in load(content).items()}
    assert result.counts.model_dump() == {"timesteps": 2, "inputs": 4, "dim": 32}
    assert result.bytes == len(content)


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        (["y"], {"y", "labels"}),
        (["t"], {"t", "timesteps"}),
        (["c"], {"c", "timesteps", "labels"}),
        (["y", "t"], {"y", "t", "timesteps", "labels"}),
    ],
)
def test_the_file_holds_the_parts_that_were_asked_for_and_what_they_are_of(
    extracted: Any, parts: list[str], names: set[str]
) -> None:
    assert load(extracted(parts=parts)[1]).keys() == names


def test_the_file_says_where_it_comes_from(extracted: Any, tmp_path: Any) -> None:
    result, content = extracted(parts=["c", "t"])
    (tmp_path / "vectors.safetensors").write_bytes(content)
    with safe_open(tmp_path / "vectors.safetensors", "pt") as file:
        said = file.metadata()
    assert {name: said[name] for name in ("model", "condition_digest", "family", "tailprune")} == {
        "model": NAME,
        "condition_digest": result.model.condition_digest,
        "family": "sit",
        "tailprune": tailprune.__version__,
    }
    assert said.keys() & {"c", "y", "t"} == {"c", "t"}


def test_no_tensor_but_the_conditions_is_needed(extracted: Any) -> None:
    whole, condition_only = (load(extracted(model=model)[1]) for model in (NAME, CONDITION_ONLY))
    torch.testing.assert_close(whole, condition_only, rtol=0, atol=0)


def test_the_default_time_is_where_the_models_sampling_starts(extracted: Any) -> None:
    assert load(extracted(model=TINY_DIT)[1])["timesteps"].tolist() == [999]


def test_no_vectors_but_a_piece_are_in_memory_at_once(extracted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"timesteps": [each / 4000 for each in range(4000)]}
    whole = load(extracted(**body)[1])
    for module in ("tailprune.condition_table", "workers.handlers.extract"):
        monkeypatch.setattr(f"{module}.PIECE_BYTES", 2**14)
    monkeypatch.setattr(JobArtifacts, "put", lambda *_: pytest.fail("a file of any size was put as bytes"))
    with Largest() as largest:
        result, content = extracted(**body, parts=["c", "t"])  # another job, with the same c
    assert result.bytes > 4000 * 4 * 32 * 4
    assert largest.bytes < result.bytes / 8
    for name, tensor in load(content).items():
        torch.testing.assert_close(tensor, whole[name])  # the same products of matrices in batches of other sizes


def test_an_extraction_that_is_to_stop_does_so_between_timesteps(
    settings: Settings, submit: Submit, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(settings, "worker")
    job = submit("extract", timesteps=[0.0, 0.5, 1.0])
    added = sums_in_pieces
    monkeypatch.setattr(Shutdown, "is_due", property(lambda _: True))

    def slowly(*given: Any, **options: Any) -> Any:
        import time

        time.sleep(0.3)  # longer than the pause between two looks at whether to go on
        return added(*given, **options)

    monkeypatch.setattr("workers.handlers.extract.sums_in_pieces", slowly)
    worker.run(job.id)
    assert store.get(job.id).status == "queued"
