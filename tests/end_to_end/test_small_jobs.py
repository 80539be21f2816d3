"""Small jobs of many clients: a worker that finds several of a kind does them together, each still a job of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from safetensors.torch import load

from tests.end_to_end.stack import Stack, eventually
from tests.end_to_end.test_main_job import LONG, SAMPLES_MADE

LABELS, SEEDS = range(4), (51, 52)
PASSED_OVER = "job is not claimable"


def latents(stack: Stack, job: dict[str, Any]) -> list[torch.Tensor]:
    """The latents of each variant of a finished job."""
    return [load(stack.artifact(job, variant["latents"]))["latents"] for variant in job["result"]["variants"]]


def test_small_jobs_of_many_clients_share_a_batch(stack: Stack) -> None:
    (worker,) = stack.workers
    passed_over = worker.text.count(PASSED_OVER)
    busy = stack.post(seed=50, **LONG).json()["id"]
    stack.await_progress(busy)
    asked = [(seed, label) for seed in SEEDS for label in LABELS]
    with ThreadPoolExecutor(len(asked)) as clients:
        answers = list(clients.map(lambda own: stack.post(seed=own[0], labels=[own[1]]), asked))
    ids = [answer.json()["id"] for answer in answers]
    before = stack.series().get(SAMPLES_MADE, 0)
    stack.http.delete(f"/jobs/{busy}")
    jobs = [stack.finished(job_id) for job_id in ids]
    assert [job["status"] for job in jobs] == ["succeeded"] * 8
    assert [job["result"]["timing"]["batch_jobs"] for job in jobs] == [8] * 8
    done = {"done": 4, "total": 4, "unit": "steps", "phase": None, "eta_seconds": None}
    assert [job["progress"] for job in jobs] == [done] * 8
    assert stack.series()[SAMPLES_MADE] - before == 8 * 2
    lines = worker.text.splitlines()
    assert [sum(f"job_id={job_id}" in line and "job ends" in line for line in lines) for job_id in ids] == [1] * 8
    eventually(lambda: worker.text.count(PASSED_OVER) == passed_over + 7, "the other messages are passed over")

    for place, seed in enumerate(SEEDS):
        whole = latents(stack, stack.post(wait=30, seed=seed, labels=[*LABELS]).json())
        apart = [latents(stack, job) for job in jobs[4 * place : 4 * place + 4]]
        for variant, expected in enumerate(whole):
            made = torch.cat([each[variant] for each in apart])
            torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)  # float32 sums in another order
