"""Statistics of large transformers, against those of the library of the same vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis

import tailprune
from jobs.requests.base import TransformerRequest
from jobs.requests.metrics_transformer import MetricsTransformerRequest, OverTimeTransformerRequest
from jobs.settings import Settings
from jobs.storage.upload_parsing import parse
from jobs.storage.uploads import ConditionStore
from jobs.store.jobs import JobStore
from jobs.transformer_results import MetricsTransformerResult, OverTimeTransformerResult
from tailprune.statistics_over_time import describe_over_time
from tailprune.transformers import condition_vectors
from tests.condition_files import TEXT, arrays, npz
from tests.tailprune.transformers.tiny_models import TINY, share_embedders
from tests.workers.handlers.conftest import TRANSFORMER, Does, Submits


@pytest.mark.parametrize(("part", "count"), [("c", 12), ("t", 6), ("y", 2)])
def test_the_statistics_are_those_of_the_library_and_of_each_part(
    part: Any, count: int, folder: Path, submitted: Submits, done: Does, tmp_path: Path
) -> None:
    TINY["flux"].save(folder / "transformer")
    request = MetricsTransformerRequest(
        model=TRANSFORMER, part=part, steps=6, guidance=[1.0, 3.5], thresholds=[0.1, 0.5]
    )
    job = done(submitted(request))
    result = MetricsTransformerResult.model_validate(job.result)
    vectors = condition_vectors(folder, steps=6, guidance=[1.0, 3.5])
    described = tailprune.describe({"c": vectors.c, "t": vectors.t, "y": vectors.y}[part])
    assert (result.part, result.count, result.dim, result.timestep) == (part, count, 32, None)
    assert (result.pr, result.npr, result.norm) == (described.pr, described.npr, described.norm)
    assert result.cosine is not None
    assert result.cosine.mean == described.cosine.mean
    assert [each.fraction for each in result.sparsity] == [described.sparsity(0.1), described.sparsity(0.5)]
    assert result.histogram.counts == described.histogram.counts
    assert result.variance.components == described.variance.tolist()
    assert (result.times, result.scheduler) == (vectors.times.tolist(), "plain")
    for told, found in zip(result.parts, vectors.parts, strict=True):
        alone = tailprune.describe(found.vectors.float())
        assert (told.what, told.covers, told.count) == (found.what, found.covers, alone.count)
        assert (told.pr, told.npr, told.norm) == (alone.pr, alone.npr, alone.norm)
        assert (told.cosine is None) == (alone.count == 1)
    assert str(tmp_path) not in json.dumps(job.public())


def test_the_times_of_its_own_scheduler_are_measured_and_another_one_is_another_job(
    folder: Path, submitted: Submits, done: Does
) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    TINY["sd3"].save(folder / "transformer")
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(folder / "scheduler")
    request = MetricsTransformerRequest(model=TRANSFORMER, steps=4, scheduler="own")
    job = done(submitted(request))
    result = MetricsTransformerResult.model_validate(job.result)
    assert result.times == condition_vectors(folder, steps=4, scheduler=folder).times.tolist()
    FlowMatchEulerDiscreteScheduler(shift=1.0).save_pretrained(folder / "scheduler")
    assert submitted(request).id != job.id


def test_pooled_texts_that_were_uploaded_are_measured(
    folder: Path,
    submitted: Submits,
    done: Does,
    store: JobStore,
    redis_client: redis.Redis,
    settings: Settings,
    tmp_path: Path,
) -> None:
    TINY["flux"].save(folder)
    content = parse(npz(arrays(TEXT, 3)), settings)
    texts = ConditionStore(store.artifacts, redis_client).put(content)
    (tmp_path / "texts.safetensors").write_bytes(content.content)
    given: dict[str, Any] = {"model": TRANSFORMER, "population": texts.id}
    for request in (MetricsTransformerRequest(**given, steps=5), OverTimeTransformerRequest(**given, points=5)):
        result: Any = request.result.model_validate(done(submitted(request, texts)).result)
        by = {"steps": 5} if isinstance(request, MetricsTransformerRequest) else {"points": 5}
        vectors = condition_vectors(folder, **by, population=tmp_path / "texts.safetensors")
        assert result.parts[2].covers == "3 pooled texts"
        assert vectors.y is not None
        assert result.norm == pytest.approx(
            tailprune.describe(vectors.c).norm
            if isinstance(request, MetricsTransformerRequest)
            else describe_over_time(vectors.y, vectors.t, request.thresholds).norm
        )
    assert not list((settings.data_dir / "incoming").glob("*"))


def test_classes_are_measured(folder: Path, submitted: Submits, done: Does) -> None:
    model: Any = TINY["dit"].build()
    share_embedders(model)
    model.save_pretrained(folder)
    job = done(submitted(OverTimeTransformerRequest(model=TRANSFORMER, points=3, classes=[3, 1])))
    result = OverTimeTransformerResult.model_validate(job.result)
    vectors = condition_vectors(folder, points=3, classes=[1, 3])
    assert vectors.y is not None
    assert result.norm == pytest.approx(describe_over_time(vectors.y, vectors.t, [0.1]).norm)
    assert (result.count, result.parts[1].covers) == (2, "classes 1, 3")


def test_statistics_over_time_are_those_of_the_library(folder: Path, submitted: Submits, done: Does) -> None:
    TINY["flux"].save(folder)
    job = done(
        submitted(OverTimeTransformerRequest(model=TRANSFORMER, points=5, guidance=[1.0, 3.5], thresholds=[0.2]))
    )
    result = OverTimeTransformerResult.model_validate(job.result)
    vectors = condition_vectors(folder, points=5, guidance=[1.0, 3.5])
    assert vectors.y is not None
    found = describe_over_time(vectors.y, vectors.t, [0.2])
    assert (result.count, result.timesteps, result.fraction) == (2, [1, 0.75, 0.5, 0.25, 0], [0, 0.25, 0.5, 0.75, 1])
    assert (result.npr, result.norm) == (found.npr.tolist(), found.norm.tolist())
    assert result.cosine is not None
    assert result.cosine.mean == found.cosine_mean.tolist()
    assert result.removed[0].fraction == found.sparsity[:, 0].tolist()
    assert [part.covers for part in result.parts] == ["5 times from 1 to 0", "scales 1, 3.5", "none, as zeros"]


def test_a_model_of_the_time_alone_has_one_vector_at_each_time(folder: Path, submitted: Submits, done: Does) -> None:
    TINY["qwen"].save(folder)
    job = done(submitted(OverTimeTransformerRequest(model=TRANSFORMER, points=3)))
    result = OverTimeTransformerResult.model_validate(job.result)
    vectors = condition_vectors(folder, points=3)
    assert (result.count, result.cosine) == (1, None)
    assert result.norm == pytest.approx(vectors.c.norm(dim=1).tolist())


@pytest.mark.parametrize(
    "request_", [MetricsTransformerRequest(model=TRANSFORMER), OverTimeTransformerRequest(model=TRANSFORMER)]
)
def test_a_condition_that_cannot_be_computed_fails_the_job_with_the_reason(
    request_: TransformerRequest, folder: Path, submitted: Submits, done: Does, tmp_path: Path
) -> None:
    model = TINY["qwen"].build()
    model.time_text_embed.timestep_embedder.linear_1.weight[0, 0] = float("nan")
    model.save_pretrained(folder)
    problem = done(submitted(request_)).problem
    assert problem is not None
    assert problem.detail == "flux: the weights that make the condition hold NaN or infinity"
