from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import torch
from safetensors.torch import load_file, save_file

from jobs.problems import TYPES
from jobs.results import Drift, MetricsResult, PruneSampleResult
from jobs.settings import Settings
from jobs.storage.files import LocalFiles, translated_errors
from jobs.store.jobs import JobStore, UnknownJob
from tailprune.systems import System
from tests.tiny_model import CONDITION_ONLY, TINY_DIT
from tests.workers.conftest import Submit
from workers.lease import Run
from workers.model_pool import Source
from workers.worker import Worker

BODIES: dict[str, dict[str, Any]] = {
    "compact": {"keep": 8},
    "study": {"prunes": [{"threshold": 0.5}], "measures": ["drift"]},
}
"""The rest of a request, by the kind of job."""


@pytest.fixture
def worker(settings: Settings, redis_client: redis.Redis) -> Worker:
    return Worker(settings, "worker")


def test_a_job_of_either_kind_is_done(worker: Worker, submit: Submit, store: JobStore) -> None:
    for job in (submit(), submit("metrics")):
        worker.run(job.id)
        done = store.get(job.id)
        assert done.status == "succeeded"
        assert done.result is not None
        assert done.result["model"]["name"] == "tiny"


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_dit_is_sampled_with_its_latents_as_pictures(
    worker: Worker, submit: Submit, store: JobStore, sampler: str
) -> None:
    job = submit(model=TINY_DIT, sampler=sampler, schedule={"when": "last", "count": 2})
    worker.run(job.id)
    done = store.get(job.id)
    assert done.status == "succeeded", done.problem
    result = PruneSampleResult.model_validate(done.result)
    assert [variant.name for variant in result.variants] == ["baseline", "tail 0.5, last 2 steps"]
    assert result.variants[1].removed is not None
    assert [step > 0 for step in result.variants[1].removed.by_step] == [False, False, True, True]
    assert {done.artifacts[image.artifact].media_type for image in result.variants[1].images} == {"image/png"}


def test_a_dit_is_measured_at_its_first_timestep(worker: Worker, submit: Submit, store: JobStore) -> None:
    job = submit("metrics", model=TINY_DIT)
    worker.run(job.id)
    measured = MetricsResult.model_validate(store.get(job.id).result)
    assert (measured.timestep, measured.count, measured.dim) == (999, 4, 32)


def test_a_message_that_comes_twice_does_the_job_once(
    worker: Worker, submit: Submit, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit()
    worker.run(job.id)
    first = store.get(job.id)
    monkeypatch.setattr("workers.handlers.prune_sample.PruneSampleHandler.handle_batch", _break)
    worker.run(job.id)
    assert store.get(job.id) == first


def test_a_job_that_is_not_there_is_passed_over(worker: Worker, store: JobStore) -> None:
    worker.run("0" * 26)
    with pytest.raises(UnknownJob):
        store.get("0" * 26)


def test_a_checkpoint_that_does_not_fit_fails_the_job_with_the_reason(
    worker: Worker, submit: Submit, store: JobStore
) -> None:
    job = submit(model=CONDITION_ONLY)
    worker.run(job.id)
    failed = store.get(job.id)
    assert failed.status == "failed"
    assert failed.problem is not None
    assert failed.problem.type.endswith(":failed")
    assert "no tensor named" in failed.problem.detail


def test_samples_that_diverge_fail_the_job_with_the_way_out(
    worker: Worker, submit: Submit, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverged(*_: Any, prunes: list[list[Any]], **__: Any) -> list[list[torch.Tensor]]:
        return [[torch.full((3, 8, 8), torch.nan) for _ in some] for some in prunes]

    monkeypatch.setattr("tailprune.sample_each", diverged, raising=False)
    job = submit()
    worker.run(job.id)
    failed = store.get(job.id)
    assert failed.status == "failed"
    assert failed.problem is not None
    assert "lower guidance_scale" in failed.problem.detail


def test_a_result_with_nan_fails_the_job_with_the_reason(
    worker: Worker, submit: Submit, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    undefined = Drift(latent=torch.nan, psnr=None, ssim=None)
    monkeypatch.setattr("workers.outputs.drift.DriftMeasure.drift", lambda _: undefined)
    job = submit()
    worker.run(job.id)
    failed = store.get(job.id)
    assert failed.status == "failed"
    assert failed.problem is not None
    assert failed.problem.type.endswith(":failed")
    assert "NaN or infinity" in failed.problem.detail


def test_a_job_made_for_other_weights_is_not_answered_with_these(
    worker: Worker, submit: Submit, store: JobStore, settings: Settings
) -> None:
    job = submit()
    checkpoint = settings.registry.parent / "tiny.safetensors"
    tensors = load_file(checkpoint)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, checkpoint)
    worker.run(job.id)
    failed = store.get(job.id)
    assert failed.status == "failed"
    assert failed.problem is not None
    assert "is not the model of the request" in failed.problem.detail


def test_a_job_taken_up_again_goes_on_from_its_last_shard(
    settings: Settings, submit: Submit, store: JobStore, stopped_at_the_second: list[int]
) -> None:
    worker = Worker(settings.model_copy(update={"batch_size": 2}), "worker")  # one sample, pruned and not
    job = submit(labels=[0, 1, 2], seed=5)
    worker.run(job.id)
    assert store.get(job.id).status == "queued"
    worker.run(job.id)
    done = store.get(job.id)
    assert done.status == "succeeded"
    assert stopped_at_the_second == [0, -1, 1, 2]
    assert done.progress is not None
    assert done.progress.done == done.progress.total


@pytest.mark.parametrize("bug", ["zip", "pydantic", "json"])
def test_a_value_error_of_a_bug_is_not_the_requests_fault(
    worker: Worker, submit: Submit, store: JobStore, monkeypatch: pytest.MonkeyPatch, bug: str
) -> None:
    def broken(*_: Any) -> None:
        if bug == "zip":
            list(zip([1], [], strict=True))
        elif bug == "pydantic":
            PruneSampleResult.model_validate({})
        else:
            json.loads("{")

    monkeypatch.setattr("workers.handlers.prune_sample.PruneSampleHandler.handle_batch", broken)
    job = submit()
    worker.run(job.id)
    problem = store.get(job.id).problem
    assert problem is not None
    assert problem.type.endswith(":internal")
    assert "log" in problem.detail


def test_a_job_of_another_version_of_the_service_is_refused_with_the_reason(
    worker: Worker, submit: Submit, store: JobStore, redis_client: redis.Redis
) -> None:
    job = submit()
    newer = job.request | {"unknown": 1}
    redis_client.hset(f"tailprune:job:{job.id}", "request", json.dumps(newer))
    worker.run(job.id)
    problem = store.get(job.id).problem
    assert problem is not None
    assert problem.type.endswith(":failed")
    assert "another version of the service" in problem.detail


def test_an_error_of_the_workers_own_is_told_without_its_details(
    worker: Worker, submit: Submit, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.handlers.prune_sample.PruneSampleHandler.handle_batch", _break)
    job = submit()
    worker.run(job.id)
    failed = store.get(job.id)
    assert failed.status == "failed"
    assert failed.problem is not None
    assert failed.problem.type.endswith(":internal")
    assert "secret" not in failed.problem.detail


def test_a_worker_takes_the_next_job_after_a_failed_one(worker: Worker, submit: Submit, store: JobStore) -> None:
    worker.run(submit(model=CONDITION_ONLY).id)
    job = submit()
    worker.run(job.id)
    assert store.get(job.id).status == "succeeded"


def test_samples_and_seconds_are_counted(worker: Worker, submit: Submit, store: JobStore) -> None:
    worker.run(submit(labels=[0, 1, 2]).id)
    reading = store.telemetry.read()
    assert reading[("tailprune_samples", "tiny")] == 2 * 3
    assert reading[("tailprune_sampling_seconds", "tiny", "sum")] > 0


def test_a_worker_that_stops_hands_its_job_back(settings: Settings, submit: Submit, store: JobStore) -> None:
    worker = Worker(settings.model_copy(update={"handover_seconds": 0.0}), "worker")
    worker.shutdown.begin()
    job = submit(steps=1000, samples_per_label=60)
    worker.run(job.id)
    assert store.get(job.id).status == "queued"


@pytest.mark.parametrize(
    ("number", "slug", "says"),
    [
        (errno.ENOSPC, "storage-full", "the disk of the artifacts is full"),
        (errno.EIO, "unavailable", "the store of artifacts did not answer"),
    ],
)
@pytest.mark.parametrize("kind", ["prune-sample", "extract", "compact", "study"])
def test_a_job_that_cannot_store_its_files_waits_and_then_fails_with_the_reason(
    settings: Settings, submit: Submit, store: JobStore, monkeypatch: pytest.MonkeyPatch, number: int, slug: str,
    says: str, kind: str,
) -> None:  # fmt: skip
    worker = Worker(settings.model_copy(update={"write_retry_seconds": 0.3}), "worker")
    tried = _refuse_writes(monkeypatch, number)
    job = submit(kind, **BODIES.get(kind, {}))
    worker.run(job.id)
    failed = store.get(job.id)
    assert failed.status == "failed"
    assert failed.problem is not None
    assert (failed.problem.type.rpartition(":")[2], failed.problem.status) == (slug, TYPES[slug][0])
    assert says in failed.problem.detail
    assert len(tried) > 1


def test_a_job_goes_on_once_its_files_can_be_stored_again(
    worker: Worker, submit: Submit, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = _refuse_writes(monkeypatch, errno.ENOSPC, times=3)
    job = submit()
    worker.run(job.id)
    assert store.get(job.id).status == "succeeded"
    assert len(tried) == 3


def test_a_cancelled_job_does_not_wait_for_the_store(
    worker: Worker, submit: Submit, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit()
    _refuse_writes(monkeypatch, errno.EIO, on_refusal=lambda: store.cancel(job.id))
    worker.run(job.id)
    assert store.get(job.id).status == "cancelled"


def _refuse_writes(
    monkeypatch: pytest.MonkeyPatch, number: int, times: float = math.inf, on_refusal: Callable[[], object] = int
) -> list[str]:
    """Have files be refused by the disk, this often; the list grows by each refusal."""
    write, refused = LocalFiles.write, []

    def refuse(files: LocalFiles, name: str, content: bytes | Path) -> Any:
        if len(refused) < times:
            refused.append(name)
            on_refusal()
            with translated_errors("here"):
                raise OSError(number, os.strerror(number))
        return write(files, name, content)

    monkeypatch.setattr(LocalFiles, "write", refuse)
    return refused


def _break(*_: Any) -> None:
    raise ZeroDivisionError("secret")


def test_a_running_job_keeps_what_it_loaded_however_little_memory_there_is(
    settings: Settings, redis_client: redis.Redis, submit: Submit, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    tight = Worker(settings.model_copy(update={"model_memory_bytes": 1}), "worker")
    loaded: list[str] = []
    load = tight.context.models.systems._load

    def counted(source: Source) -> System:
        loaded.append(str(source.dtype))
        return load(source)

    monkeypatch.setattr(tight.context.models.systems, "_load", counted)
    job = submit(precision="bfloat16")
    tight.run(job.id)
    assert store.get(job.id).status == "succeeded"
    assert sorted(loaded) == ["torch.bfloat16", "torch.float32"], "each is loaded once"


def test_a_job_that_runs_for_too_long_fails_with_the_limit(settings: Settings, submit: Submit, store: JobStore) -> None:
    worker = Worker(settings.model_copy(update={"max_job_seconds": 0.3}), "worker")
    job = submit(steps=1000, samples_per_label=60)
    worker.run(job.id)
    failed = store.get(job.id)
    assert failed.status == "failed"
    assert failed.problem is not None
    assert failed.problem.type.endswith(":time-limit")
    assert "0.3 seconds" in failed.problem.detail


def phases(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a job says that it does, in turn."""
    found: list[str] = []

    def note(run: Run, phase: str | None) -> None:
        if phase is not None and found[-1:] != [phase]:
            found.append(phase)

    monkeypatch.setattr(Run, "phase", property(lambda _: None, note), raising=False)
    return found


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("prune-sample", {}, ["loading", "sampling", "decoding", "measuring", "drawing"]),
        (
            "study",
            {"prunes": [{"threshold": 0.5}], "measures": ["drift"]},
            ["loading", "sampling", "scoring", "drawing"],
        ),
        ("compact", {"keep": 8}, ["loading", "compacting", "storing", "sampling", "decoding"]),
        ("extract", {}, ["loading", "extracting"]),
        ("removal", {"threshold": [0.5]}, ["loading", "measuring"]),
        ("figure", {"figure": "removal"}, ["loading", "measuring", "sampling", "decoding", "drawing"]),
        ("figure", {"figure": "histogram"}, ["drawing"]),
    ],
)
def test_a_job_says_what_it_does(
    settings: Settings,
    submit: Submit,
    store: JobStore,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    body: dict[str, Any],
    expected: list[str],
) -> None:
    found = phases(monkeypatch)
    job = submit(kind, **body)
    Worker(settings, "worker").run(job.id)
    assert store.get(job.id).status == "succeeded"
    assert found == expected
