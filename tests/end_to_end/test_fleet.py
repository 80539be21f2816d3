"""Several workers: the same samples on all of them, and no job lost when one of them, or Redis, goes away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import torch
from safetensors.torch import load

from tests.end_to_end.stack import Child, Stack, eventually, running
from tests.end_to_end.test_main_job import LONG, SAMPLES_MADE

PROMISED_SECONDS = 30.0
"""Within so long, another worker has finished the job of a lost one."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service with three workers that make one sample at a time; their leases are as long as by default."""
    with running(
        tmp_path_factory.mktemp("fleet"), workers=3, TAILPRUNE_BATCH_SIZE="1", TAILPRUNE_HANDOVER_SECONDS="1"
    ) as fleet:
        yield fleet


def record(stack: Stack, job_id: str) -> dict[str, str]:
    """A job's record with what clients do not see."""
    with redis.Redis.from_url(stack.redis.url, decode_responses=True) as client:
        return dict(client.hgetall(f"tailprune:job:{job_id}"))


def at_work(stack: Stack, job_id: str) -> Child:
    """The worker process that has a job."""
    return stack.worker(record(stack, job_id)["worker"])


def latents(stack: Stack, job: dict[str, Any]) -> list[torch.Tensor]:
    """The latents of each variant of a finished job."""
    return [load(stack.artifact(job, variant["latents"]))["latents"] for variant in job["result"]["variants"]]


def test_samples_do_not_depend_on_batch_worker_or_the_other_labels(stack: Stack, fleet: Stack) -> None:
    body: dict[str, Any] = {"seed": 5, "sampler": "sde", "steps": 200, "samples_per_label": 3}
    together = stack.post(wait=60, labels=[0, 1, 2, 3], **body).json()
    apart = [fleet.post(labels=[label], **body).json()["id"] for label in (3, 1, 0, 2)]
    jobs = [fleet.finished(job_id) for job_id in sorted(apart, key=lambda i: fleet.job(i)["request"]["labels"])]
    assert len({record(fleet, job_id)["worker"] for job_id in apart}) > 1
    for variant, whole in enumerate(latents(stack, together)):
        parts = torch.cat([latents(fleet, job)[variant] for job in jobs])
        # float32 sums in another order, over 200 steps
        torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-5)


def test_a_job_whose_worker_is_killed_is_finished_by_another_once(fleet: Stack) -> None:
    before = fleet.series().get(SAMPLES_MADE, 0)
    job_id = fleet.post(seed=6, steps=400, labels=[0, 1], samples_per_label=2).json()["id"]
    fleet.await_progress(job_id)
    at_work(fleet, job_id).kill()
    begun = time.monotonic()
    job = fleet.finished(job_id, PROMISED_SECONDS)
    print(f"finished {time.monotonic() - begun:.1f} s after SIGKILL")
    assert job["status"] == "succeeded"
    assert record(fleet, job_id)["attempts"] == "2"
    assert fleet.series()[SAMPLES_MADE] - before == 2 * 4
    finishes = [
        line for child in fleet.workers for line in child.text.splitlines() if job_id in line and "job ends" in line
    ]
    assert len(finishes) == 1


def test_a_job_outlives_a_restart_of_redis(fleet: Stack) -> None:
    job_id = fleet.post(seed=7, steps=1000, labels=[0, 1], samples_per_label=2).json()["id"]
    fleet.await_progress(job_id)
    fleet.redis.stop()
    time.sleep(2.0)
    fleet.redis.start()
    begun = time.monotonic()
    job = fleet.finished(job_id)
    print(f"finished {time.monotonic() - begun:.1f} s after Redis came back")
    assert job["status"] == "succeeded"
    assert record(fleet, job_id)["attempts"] == "1"
    after = fleet.post(wait=60, seed=8).json()
    assert after["status"] == "succeeded"


def test_a_result_made_while_redis_was_gone_is_not_lost(fleet: Stack) -> None:
    job_id = fleet.post(seed=9, steps=1000, labels=[0]).json()["id"]
    fleet.await_progress(job_id)
    worker = at_work(fleet, job_id)
    fleet.redis.stop()
    eventually(lambda: "the result is written later" in worker.text, "the job is done without Redis")
    fleet.redis.start()
    job = fleet.finished(job_id)
    assert job["status"] == "succeeded"
    assert record(fleet, job_id)["attempts"] == "1"


def test_a_worker_that_is_stopped_hands_its_job_to_another(fleet: Stack) -> None:
    job_id = fleet.post(seed=10, **LONG).json()["id"]
    fleet.await_progress(job_id)
    first = at_work(fleet, job_id)
    first.stop()
    assert first.process.returncode == 0
    eventually(lambda: fleet.job(job_id)["status"] == "running", "another worker takes the job")
    assert record(fleet, job_id)["attempts"] == "2"
    assert at_work(fleet, job_id) is not first
    fleet.http.delete(f"/jobs/{job_id}")
    assert fleet.finished(job_id)["status"] == "cancelled"


def test_without_workers_a_job_waits_for_one(fleet: Stack) -> None:
    for worker in fleet.workers:
        worker.stop()
    answer = fleet.post(wait=1, seed=11)
    assert answer.status_code == 202
    assert answer.json()["status"] == "queued"
    fleet.start_worker()
    assert fleet.finished(answer.json()["id"])["status"] == "succeeded"
