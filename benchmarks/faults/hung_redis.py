"""Redis that hangs: stopped (SIGSTOP) for 20 seconds while jobs run and clients ask."""

from __future__ import annotations

import signal
import time

from benchmarks.faults.report import Answers, end
from benchmarks.processes import processes

JOBS, HUNG_SECONDS = 10, 20.0
LIVE, READY, METRICS, JOB_LIST, PAGE = "/health/live", "/health/ready", "/metrics", "/jobs?limit=10", "/openapi.json"
PATIENCE_SECONDS = {LIVE: 1.0, PAGE: 2.0, READY: 2.0, METRICS: 2.0, JOB_LIST: 7.0}
"""The longest that each path may take while Redis hangs: it needs no Redis, is a probe, or reads from Redis."""


def main() -> None:
    answers = Answers()
    with processes() as stack:
        stack.start(workers=2)
        ids = [stack.post(seed, steps=200).raise_for_status().json()["id"] for seed in range(JOBS)]
        with answers.probing(stack.url, list(PATIENCE_SECONDS)):
            time.sleep(1.0)
            stack.redis.send(signal.SIGSTOP)
            time.sleep(HUNG_SECONDS)
            stack.redis.send(signal.SIGCONT)
            begun = time.monotonic()
            statuses = stack.await_finished(ids, seconds=180)
            done = time.monotonic() - begun
        attempts = [int(stack.store.hget(f"tailprune:job:{job_id}", "attempts") or 0) for job_id in ids]
        samples = stack.samples_made()
    wrong = [f"job {job_id} is {status}" for job_id, status in statuses.items() if status != "succeeded"]
    for path, most in PATIENCE_SECONDS.items():
        if (longest := answers.longest(f"GET {path}")) > most:
            wrong.append(f"GET {path} took {longest:.1f} s, and may take {most:g} s")
    wrong += answers.broken
    if twice := sum(each > 1 for each in attempts):
        wrong.append(f"{twice} jobs were taken from workers that were alive")
    facts = {
        "Redis hung for": f"{HUNG_SECONDS:g} s",
        "succeeded": f"{sum(status == 'succeeded' for status in statuses.values())} of {JOBS}",
        "all done after": f"{done:.1f} s",
        "samples counted": f"{samples:g} of {4 * JOBS}",
    }
    end("Hung Redis", facts, wrong, answers)


if __name__ == "__main__":
    main()
