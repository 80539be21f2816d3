"""Redis that is killed: five times, behind the answer to the last of ten jobs, and started again a second later."""

from __future__ import annotations

import time

from benchmarks.faults.report import Answers, distribution, end
from benchmarks.processes import processes, until

ROUNDS, JOBS, AWAY_SECONDS = 5, 10, 1.0
PATHS = ("/health/live", "/health/ready", "/jobs?limit=10")


def main() -> None:
    answers, wrong, back, ids = Answers(), list[str](), list[float](), list[str]()
    with processes() as stack:
        stack.start(workers=2)
        with answers.probing(stack.url, PATHS):
            for round_number in range(ROUNDS):
                for number in range(JOBS):
                    ids.append(stack.post(round_number * JOBS + number).raise_for_status().json()["id"])
                stack.redis.kill()
                time.sleep(AWAY_SECONDS)
                stack.start_redis()
                back.append(until(stack.is_ready, "the service is ready again", 60))
                statuses = stack.await_finished(ids[-JOBS:], seconds=120)
                wrong += [f"job {job_id} is {status}" for job_id, status in statuses.items() if status != "succeeded"]
        samples = stack.samples_made()
    if set(said := answers.counts("GET /health/live")) != {"200"}:
        wrong.append(f"/health/live was answered {dict(said)}")
    wrong += answers.broken
    facts = {
        "jobs accepted right before a kill": len(ids),
        "not succeeded": len([each for each in wrong if each.startswith("job ")]),
        "samples counted (a count of the last second may be lost)": f"{samples:g} of {len(ids) * 4}",
        "from Redis' start to ready": distribution(back),
    }
    end("Killed Redis", facts, wrong, answers)


if __name__ == "__main__":
    main()
