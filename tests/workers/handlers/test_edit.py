"""Edits: a row for each strength from the same noise, with the verdicts of the model's classifier."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import redis
import torch
from PIL import Image
from safetensors.torch import load

import tailprune
from jobs.attribution_results import AttributionResult
from jobs.edit_results import EditResult
from jobs.records import Job
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from tests.tiny_model import TINY_DIT
from tests.workers.conftest import Submit
from workers.worker import Worker

ENDS: dict[str, Any] = {"source": [0], "target": [3]}


@pytest.fixture
def worker(settings: Settings, redis_client: redis.Redis) -> Worker:
    return Worker(settings, "worker")


def edited(worker: Worker, store: JobStore, submit: Submit, **body: Any) -> tuple[Job, EditResult]:
    job = submit("edit", **(ENDS | body))
    worker.run(job.id)
    done = store.get(job.id)
    assert done.status == "succeeded", done.problem
    return done, EditResult.model_validate(done.result)


def latents(store: JobStore, job: Job, result: EditResult) -> list[torch.Tensor]:
    return [load(store.artifacts.read(job.artifacts[each.latents]))["latents"] for each in result.variants]


def test_each_strength_is_a_row_from_the_same_noise(worker: Worker, submit: Submit, store: JobStore) -> None:
    job, result = edited(worker, store, submit, strength=[0, 0.5, 1], samples_per_label=2)
    assert [each.name for each in result.variants] == ["strength 0", "strength 0.5", "strength 1"]
    assert result.moved == 1
    unedited, some, whole = latents(store, job, result)
    system = worker.context.models.system(worker.context.models.source("tiny", "model"), "float32")
    shift = tailprune.shift_between(system, {"labels": [0]}, {"labels": [3]})
    edits = [None, tailprune.Edit(shift, 0.5), tailprune.Edit(shift)]
    seeds = [(0, (0 << 32) + number) for number in range(2)]
    inputs = {"labels": torch.tensor([0, 0])}
    expected = tailprune.sample(system, inputs, prune=edits, steps=4, guidance=2.0, seeds=seeds)
    for found, wanted in zip((unedited, some, whole), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    drifts = [each.drift for each in result.variants]
    assert drifts[0] is None
    assert 0 < drifts[1].latent < drifts[2].latent  # type: ignore[union-attr]
    grid = Image.open(io.BytesIO(store.artifacts.read(job.artifacts[result.grid])))
    assert grid.height > 3 * 4 * 8


def test_every_image_has_a_verdict(worker: Worker, submit: Submit, store: JobStore) -> None:
    job, result = edited(worker, store, submit, strength=[1, 0], source=[0, 1])
    assert result.classifier == "shapes-classifier"
    for variant in result.variants:
        verdicts = [image.verdict for image in variant.images]
        assert [image.label for image in variant.images] == [0, 1]
        for verdict in verdicts:
            assert verdict is not None
            assert 0 <= verdict.source + verdict.target <= 1.0001
            assert verdict.probability >= max(verdict.source / 2, verdict.target) - 1e-6
        mean = sum(each.target for each in verdicts if each) / len(verdicts)
        assert variant.target == pytest.approx(mean)
    identity = worker.context.models.source("tiny", "model", classifier(worker)).identity
    classify = worker.context.evaluators.extractor("shapes-classifier", identity.reading["instruments"])
    picture = result.variants[0].images[0].artifact
    image = Image.open(io.BytesIO(store.artifacts.read(job.artifacts[picture]))).resize((8, 8), Image.Resampling.BOX)
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).unsqueeze(0)
    probabilities = classify(pixels).probabilities
    assert probabilities is not None
    found = result.variants[0].images[0].verdict
    assert found is not None
    assert found.label == int(probabilities.argmax())
    assert found.target == pytest.approx(probabilities[0, 3].item(), abs=1e-5)


def classifier(worker: Worker) -> dict[str, Any]:
    path = worker.context.evaluators.registered.extractor("shapes-classifier")
    return {"extractor shapes-classifier": path}


def test_without_a_classifier_there_are_no_verdicts(worker: Worker, submit: Submit, store: JobStore) -> None:
    _, result = edited(worker, store, submit, model=TINY_DIT, strength=1)
    assert result.classifier is None
    (variant,) = result.variants
    assert (variant.source, variant.target, variant.drift) == (None, None, None)
    assert all(image.verdict is None for image in variant.images)


def test_some_components_or_directions_move_less(worker: Worker, submit: Submit, store: JobStore) -> None:
    for moved in ({"components": 4}, {"directions": 1}):
        _, result = edited(worker, store, submit, strength=[0, 1], **moved)
        assert 0 < result.moved < 1


def test_a_job_of_several_chunks_makes_the_same_samples(
    submit: Submit, store: JobStore, settings: Settings, redis_client: redis.Redis, worker: Worker
) -> None:
    small = Worker(settings.model_copy(update={"batch_size": 2}), "small")
    late = {"when": "last", "count": 2}
    job, result = edited(small, store, submit, source=[0, 1, 2], strength=[0, 1], schedule=late)
    system = worker.context.models.system(worker.context.models.source("tiny", "model"), "float32")
    shift = tailprune.shift_between(system, {"labels": [0, 1, 2]}, {"labels": [3]})
    edits = [None, tailprune.Edit(shift, 1.0, tailprune.Schedule("last", 2))]
    seeds = [(0, label << 32) for label in range(3)]
    inputs = {"labels": torch.arange(3)}
    expected = tailprune.sample(system, inputs, prune=edits, steps=4, guidance=2.0, seeds=seeds)
    for found, wanted in zip(latents(store, job, result), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_edits_that_are_sampled_alike_share_a_batch(worker: Worker, submit: Submit, store: JobStore) -> None:
    jobs = [submit("edit", source=[0], target=[target], seed=target, strength=[0, 1]) for target in (1, 2, 3)]
    worker.run(jobs[0].id)
    done = [store.get(job.id) for job in jobs]
    assert [job.status for job in done] == ["succeeded"] * 3
    results = [EditResult.model_validate(job.result) for job in done]
    assert [result.timing.batch_jobs for result in results] == [3] * 3
    alone = submit("edit", source=[0], target=[2], seed=2, strength=[0, 1], labels=[0], samples_per_label=1)
    assert alone.id == jobs[1].id


def test_modulation_guidance_moves_samples_and_the_vectors_that_are_measured(
    worker: Worker, submit: Submit, store: JobStore
) -> None:
    found = []
    for modulation in (None, {"weight": 0.0}, {"weight": 1.0}):
        job = submit(threshold=0.3, labels=[1], modulation=modulation)
        worker.run(job.id)
        result = store.get(job.id).result
        assert result is not None
        name = store.get(job.id).artifacts[result["variants"][0]["latents"]]
        found.append((load(store.artifacts.read(name))["latents"], result["variants"][1]["embedding"]))
    (plain, before), (off, before_off), (on, before_on) = found
    assert torch.equal(plain, off)
    assert before == before_off
    assert not torch.allclose(plain, on)
    assert before_on["npr_before"] != before["npr_before"], "the vectors are measured as they are moved"


def test_attribution_divides_the_variance_among_attributes(worker: Worker, submit: Submit, store: JobStore) -> None:
    job = submit("attribution", attributes=["round=yes,no,no,yes", "sharp=yes,yes,no,no"])
    worker.run(job.id)
    done = store.get(job.id)
    assert done.status == "succeeded", done.problem
    result = AttributionResult.model_validate(done.result)
    assert [share.part for share in result.shares] == ["round", "sharp", "interaction"]
    assert sum(share.weighted for share in result.shares) == pytest.approx(1)
    assert (result.count, result.dim, len(result.components)) == (4, 32, 32)
    assert sum(each.share for each in result.components) == pytest.approx(1)
    assert all(sum(each.parts) == pytest.approx(1) for each in result.components)
    shares = [each.share for each in result.directions]
    assert shares == sorted(shares, reverse=True)
    assert [attribute.values for attribute in result.attributes] == [["yes", "no"]] * 2
