"""Queued jobs that are sampled alike share a batch, and each of them ends by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
import torch
from safetensors.torch import load, load_file, save_file
from structlog.testing import capture_logs

import tailprune
from jobs.records import Job
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from jobs.store.leases import Claim, LeaseStore
from tailprune.spec import InputError
from tests.workers.conftest import Submit
from workers.handler import source_of
from workers.model_pool import Source
from workers.worker import Worker

OWN: list[dict[str, Any]] = [
    {"seed": 1, "labels": [0]},
    {"seed": 2, "labels": [1, 3], "threshold": [0.3, 1.0], "side": "head"},
    {"seed": 3, "labels": [2], "samples_per_label": 2, "schedule": {"when": "last", "count": 2}},
    {"seed": 4, "labels": [3], "threshold": None, "keep": 8, "compare": False},
    {"seed": 5, "labels": [2], "threshold": None, "remove_fraction": 0.4},
]
"""What may differ between the jobs of a batch."""


@pytest.fixture
def worker(settings: Settings, redis_client: redis.Redis) -> Worker:
    return Worker(settings, "worker")


Sampler = Callable[..., list[list[torch.Tensor]]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many samples each call of the network's sampling had, as they come."""
    calls: list[int] = []
    sample = tailprune.sample_each

    def watched(system: Any, inputs: Any, **options: Any) -> list[list[torch.Tensor]]:
        calls.append(len(inputs["labels"]))
        return sample(system, inputs, **options)

    monkeypatch.setattr("tailprune.sample_each", watched, raising=False)
    return calls


def patched(monkeypatch: pytest.MonkeyPatch, on_step: Callable[[int], None]) -> None:
    """Has every step of sampling tell of itself before the worker hears of it."""
    sample = tailprune.sample_each

    def watched(system: Any, inputs: Any, **options: Any) -> list[list[torch.Tensor]]:
        heard = options.pop("on_step")

        def tell(done: int, total: int) -> None:
            on_step(done)
            heard(done, total)

        return sample(system, inputs, on_step=tell, **options)

    monkeypatch.setattr("tailprune.sample_each", watched, raising=False)


def failing(monkeypatch: pytest.MonkeyPatch, worker: Worker, job: Job) -> None:
    """Has the worker find that it does not have the model of one job."""

    def found(asked: Job, *rest: Any) -> Source:
        if asked.id == job.id:
            raise InputError("its model changed")
        return source_of(asked, *rest)

    monkeypatch.setattr("workers.worker.source_of", found)


def together(submit: Submit, count: int = 3, **body: Any) -> list[Job]:
    """Queued jobs of one sample each that can share a batch, the oldest first."""
    jobs = []
    for seed in range(count):
        jobs.append(submit(seed=seed, labels=[seed], **body))
        time.sleep(0.002)  # ids sort by the millisecond
    return jobs


def ends(store: JobStore, jobs: list[Job]) -> list[str]:
    return [store.get(job.id).status for job in jobs]


def shared_by(store: JobStore, job: Job) -> int:
    """How many jobs shared the batch of a finished one."""
    result = store.get(job.id).result
    assert result is not None
    return int(result["timing"]["batch_jobs"])


def made(store: JobStore, job: Job) -> tuple[dict[str, Any], list[torch.Tensor]]:
    """What came out of a job: its result without times and drifts, and its latents."""
    done = store.get(job.id)
    assert done.result is not None, done.problem
    latents = [load(store.artifacts.read(done.artifacts[v["latents"]]))["latents"] for v in done.result["variants"]]
    variants = [{name: part for name, part in v.items() if name != "drift"} for v in done.result["variants"]]
    return done.result | {"variants": variants, "timing": None}, latents


@pytest.mark.parametrize("sampler", ["euler", "sde"])
def test_jobs_of_a_batch_make_what_each_would_alone(
    worker: Worker, submit: Submit, store: JobStore, redis_client: redis.Redis, calls: list[int], sampler: str
) -> None:
    jobs = [submit(sampler=sampler, **own) for own in OWN]
    worker.run(jobs[0].id)
    assert ends(store, jobs) == ["succeeded"] * 5
    assert calls == [7]
    assert [shared_by(store, job) for job in jobs] == [5] * 5
    shared = [made(store, job) for job in jobs]
    redis_client.flushall()
    for own, (result, latents) in zip(OWN, shared, strict=True):
        job = submit(sampler=sampler, **own)
        worker.run(job.id)
        assert shared_by(store, job) == 1
        alone, alone_latents = made(store, job)
        assert result == alone
        torch.testing.assert_close(latents, alone_latents, atol=1e-5, rtol=0)  # float32 sums in another order


def test_messages_of_jobs_that_were_done_in_a_batch_are_passed_over(
    worker: Worker, submit: Submit, store: JobStore, calls: list[int]
) -> None:
    jobs = together(submit)
    with capture_logs() as logs:
        for job in jobs:
            worker.run(job.id)
    assert calls == [3]
    (batch,) = [line for line in logs if line["event"] == "jobs share a batch"]
    assert batch["jobs"] == [job.id for job in jobs]
    assert [line["outcome"] for line in logs if line["event"] == "job ends"] == ["succeeded"] * 3


def test_a_batch_holds_as_many_jobs_as_fit_one_call(
    settings: Settings, submit: Submit, store: JobStore, calls: list[int]
) -> None:
    worker = Worker(settings.model_copy(update={"batch_size": 6}), "worker")
    jobs = [submit(seed=seed, labels=[0]) for seed in range(5)]  # two rows each
    while (left := [job.id for job in jobs if store.get(job.id).status == "queued"]) != []:
        worker.run(left[0])
    assert ends(store, jobs) == ["succeeded"] * 5
    assert calls == [3, 2]


def test_jobs_that_are_sampled_otherwise_go_by_themselves(
    worker: Worker, submit: Submit, store: JobStore, calls: list[int]
) -> None:
    jobs = [submit(labels=[0]), submit(labels=[0], steps=5), submit(labels=[0], sampler="dopri5")]
    worker.run(jobs[0].id)
    assert ends(store, jobs) == ["succeeded", "queued", "queued"]
    worker.run(jobs[2].id)
    assert store.get(jobs[2].id).status == "succeeded"
    assert calls == [1, 1]


def test_progress_is_told_of_every_job(
    worker: Worker, submit: Submit, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = together(submit, steps=20)
    seen: list[list[int]] = []

    def on_step(done: int) -> None:
        time.sleep(0.05)  # in all longer than a beat
        progress = [store.get(job.id).progress for job in jobs]
        seen.append([each.done for each in progress if each is not None])

    patched(monkeypatch, on_step)
    worker.run(jobs[0].id)
    assert any(len(each) == 3 and 0 < min(each) < 20 for each in seen)
    assert {
        (job.progress.done, job.progress.total) for job in map(store.get, [j.id for j in jobs]) if job.progress
    } == {(20, 20)}


@pytest.mark.parametrize("place", [0, 1])
def test_a_cancelled_job_of_a_batch_ends_at_a_step_and_the_others_go_on(
    worker: Worker, submit: Submit, store: JobStore, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    jobs = together(submit, steps=100)
    cancelled = jobs.pop(place)
    seen: list[str] = []

    def on_step(done: int) -> None:
        if done == 2:
            store.cancel(cancelled.id)
        seen.append(store.get(cancelled.id).status)
        if done >= 2 and seen[-1] == "running":
            time.sleep(0.02)

    patched(monkeypatch, on_step)
    worker.run(cancelled.id if place == 0 else jobs[0].id)
    assert store.get(cancelled.id).status == "cancelled"
    assert store.get(cancelled.id).result is None
    assert ends(store, jobs) == ["succeeded", "succeeded"]
    assert "cancelled" in seen
    assert len(seen) == 100


def test_a_batch_of_cancelled_jobs_stops(
    worker: Worker, submit: Submit, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = together(submit, steps=500)
    steps: list[int] = []

    def on_step(done: int) -> None:
        steps.append(done)
        if done == 2:
            for job in jobs:
                store.cancel(job.id)
        time.sleep(0.01)

    patched(monkeypatch, on_step)
    worker.run(jobs[0].id)
    assert ends(store, jobs) == ["cancelled"] * 3
    assert len(steps) < 500


def test_a_job_that_diverges_fails_alone(
    worker: Worker, submit: Submit, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = tailprune.sample_each

    def diverged(system: Any, inputs: Any, **options: Any) -> list[list[torch.Tensor]]:
        latents = sample(system, inputs, **options)
        latents[1][1][0, 0, 0] = torch.inf
        return latents

    monkeypatch.setattr("tailprune.sample_each", diverged, raising=False)
    jobs = together(submit)
    worker.run(jobs[0].id)
    assert ends(store, jobs) == ["succeeded", "failed", "succeeded"]
    reason = store.get(jobs[1].id).problem
    assert reason is not None
    assert "lower guidance_scale" in reason.detail


def test_a_block_that_the_model_does_not_have_fails_its_job_alone(
    worker: Worker, submit: Submit, store: JobStore
) -> None:
    jobs = [submit("prune-sample", threshold=[0.5], blocks=blocks, labels=[0]) for blocks in ([0], [1], ["final"])]
    for job in jobs:
        worker.run(job.id)
    assert ends(store, jobs) == ["succeeded", "failed", "succeeded"]
    reason = store.get(jobs[1].id).problem
    assert reason is not None
    assert "block 1 is outside 0 to 0, the blocks of this system" in reason.detail


def test_what_goes_wrong_with_one_jobs_own_result_fails_it_alone(
    worker: Worker, submit: Submit, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workers.handlers.prune_sample import removal_of

    def broken(system: Any, plan: Any, *rest: Any) -> Any:
        if plan.request.seed == 1:
            raise ZeroDivisionError("secret")
        return removal_of(system, plan, *rest)

    monkeypatch.setattr("workers.handlers.prune_sample.removal_of", broken)
    jobs = together(submit)
    worker.run(jobs[0].id)
    assert ends(store, jobs) == ["succeeded", "failed", "succeeded"]


def test_a_job_whose_model_is_not_available_fails_alone(
    worker: Worker, submit: Submit, store: JobStore, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = together(submit)
    failing(monkeypatch, worker, jobs[0])
    worker.run(jobs[0].id)
    assert ends(store, jobs) == ["failed", "succeeded", "succeeded"]
    assert calls == [2]
    reason = store.get(jobs[0].id).problem
    assert reason is not None
    assert reason.detail == "its model changed"


def test_jobs_whose_model_changed_meanwhile_all_fail_with_the_reason(
    worker: Worker, submit: Submit, store: JobStore, settings: Settings, calls: list[int]
) -> None:
    jobs = together(submit)
    checkpoint = settings.registry.parent / "tiny.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(checkpoint).items()}, checkpoint)
    with capture_logs() as logs:
        worker.run(jobs[0].id)
    reasons = [store.get(job.id).problem for job in jobs]
    assert all(reason is not None and "is not the model of the request" in reason.detail for reason in reasons)
    assert calls == []
    assert not [line for line in logs if "one by one" in line["event"]]


def test_an_outcome_that_cannot_be_written_leaves_the_others_theirs(
    worker: Worker,
    submit: Submit,
    store: JobStore,
    leases: LeaseStore,
    calls: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs = together(submit)
    succeed = worker.leases.succeed_with

    def refused(claim: Claim, *made: Any) -> bool:
        if claim.job.id == jobs[0].id:
            raise redis.ResponseError("refused")
        return succeed(claim, *made)

    monkeypatch.setattr(worker.leases, "succeed_with", refused)
    with capture_logs() as logs:
        worker.run(jobs[0].id)
    assert ends(store, jobs) == ["running", "succeeded", "succeeded"]
    assert calls == [3]
    (line,) = [line for line in logs if "not written" in line["event"]]
    assert line["log_level"] == "error"


def test_a_job_whose_outcome_cannot_be_written_is_held_no_longer_than_its_lease(
    worker: Worker, submit: Submit, store: JobStore, leases: LeaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = together(submit)
    failing(monkeypatch, worker, jobs[0])
    taken: list[Claim] = []

    def refused(*_: Any) -> bool:
        raise redis.ResponseError("refused")

    def on_step(done: int) -> None:
        if done != 1:
            return
        deadline = time.monotonic() + 5 * store.settings.lease_seconds
        while not taken and time.monotonic() < deadline:
            time.sleep(0.05)
            leases.sweep()
            if (claim := leases.claim(jobs[0].id, "another")) is not None:
                taken.append(claim)

    monkeypatch.setattr(worker.leases, "fail", refused)
    patched(monkeypatch, on_step)
    worker.run(jobs[0].id)
    assert [claim.token for claim in taken] == [2]
    assert ends(store, jobs[1:]) == ["succeeded", "succeeded"]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, ZeroDivisionError])
def test_a_batch_that_breaks_is_done_job_by_job(
    worker: Worker, submit: Submit, store: JobStore, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    sample = tailprune.sample_each

    def breaking(system: Any, inputs: Any, **options: Any) -> list[list[torch.Tensor]]:
        if len(inputs["labels"]) > 1 or inputs["labels"].item() == 2:
            raise error("too much")
        return sample(system, inputs, **options)

    monkeypatch.setattr("tailprune.sample_each", breaking, raising=False)
    jobs = together(submit)
    worker.run(jobs[0].id)
    assert ends(store, jobs) == ["succeeded", "succeeded", "failed"]
    assert shared_by(store, jobs[0]) == 1


def test_a_worker_that_stops_hands_back_all_jobs_of_its_batch(
    settings: Settings, submit: Submit, store: JobStore, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Worker(settings.model_copy(update={"handover_seconds": 0.0}), "first")
    jobs = together(submit, steps=300)

    def on_step(done: int) -> None:
        if done == 2:
            first.shutdown.begin()
        if first.shutdown.is_due:
            time.sleep(0.01)

    with monkeypatch.context() as patch:
        patched(patch, on_step)
        first.run(jobs[0].id)
    assert ends(store, jobs) == ["queued"] * 3
    Worker(settings, "second").run(jobs[1].id)
    assert ends(store, jobs) == ["succeeded"] * 3
    assert calls == [3, 3]
    assert [shared_by(store, job) for job in jobs] == [3] * 3


def test_a_job_that_another_worker_took_is_left_to_it(
    worker: Worker,
    submit: Submit,
    store: JobStore,
    leases: LeaseStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs = together(submit, steps=60)
    taken = jobs[1]

    def on_step(done: int) -> None:
        if done == 2:
            assert leases._recover({taken.id: leases._leases()[taken.id]}) == [taken.id]
            assert leases.claim(taken.id, "another") is not None
        time.sleep(0.02)  # in all longer than it takes to notice

    patched(monkeypatch, on_step)
    worker.run(jobs[0].id)
    assert ends(store, jobs) == ["succeeded", "running", "succeeded"]


def test_samples_of_a_batch_are_counted_job_by_job(worker: Worker, submit: Submit, store: JobStore) -> None:
    worker.run(together(submit)[0].id)
    reading = store.telemetry.read()
    assert reading[("tailprune_samples", "tiny")] == 3 * 2
    assert reading[("tailprune_jobs", "prune-sample", "succeeded")] == 3
