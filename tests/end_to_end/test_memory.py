"""Memory stays flat: what a job takes is given back when it is done."""

from __future__ import annotations

from tests.end_to_end.stack import Stack

WARM_UP = 200
JOBS = 500
MIB = 2**20
ALLOWED = 6 * MIB
"""Allocators round up and caches fill (measured: below 1 MiB); a leak of 12 KiB a job, one small picture, shows."""


def test_service_and_worker_do_not_grow_over_500_jobs(stack: Stack) -> None:
    assert stack.service is not None
    processes = {"service": stack.service, "worker": stack.workers[0]}
    _do(stack, 0, WARM_UP)
    before = {name: process.memory for name, process in processes.items()}
    _do(stack, WARM_UP, JOBS)
    growth = {name: process.memory - before[name] for name, process in processes.items()}
    for name, grown in growth.items():
        print(f"{name}: {before[name] / MIB:.1f} MiB, {grown / MIB:+.2f} MiB over {JOBS} jobs")
    assert max(growth.values()) < ALLOWED


def _do(stack: Stack, first: int, count: int) -> None:
    """Different jobs, half of them samples and half of them metrics."""
    for number in range(first, first + count, 2):
        assert stack.post(wait=30, seed=1_000_000 + number, steps=2).status_code == 200
        assert stack.http.get("/metrics/tiny", params={"timestep": number / 1_000_000}).status_code == 200
