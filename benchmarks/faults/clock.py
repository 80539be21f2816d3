"""Clocks that jump: Redis' goes 10 minutes back, an hour back, an hour forward, each time with a worker killed.

Needs libfaketime, which `apt install faketime` brings. Only Redis sees the other time, and only its wall clock jumps.
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.faults.report import end
from benchmarks.processes import Processes, processes
from jobs.store.scripts import PREFIX, record_key

LIBRARY = "libfaketimeMT.so.1"
PLACES = ("/usr/lib", "/usr/local/lib", "/opt/homebrew/lib")
NO_LIBRARY = f"{LIBRARY} is not installed: apt install faketime"
JUMPS = {"none": 0, "10 minutes back": -600, "an hour back": -3600, "an hour forward": 3600}
LATEST_SECONDS = 25.0
"""From the kill: the lease of 10 s, and 15 s until the job runs again."""
PATIENCE_SECONDS = 60.0


def main() -> None:
    library = next((found for place in PLACES for found in Path(place).rglob(LIBRARY)), None)
    if library is None:
        raise SystemExit(NO_LIBRARY)
    facts, wrong = dict[str, object](), list[str]()
    for number, (jump, seconds) in enumerate(JUMPS.items()):
        for order in ("then the kill", "after the kill") if seconds else ("no jump",):
            name = jump if order == "no jump" else f"{jump}, {order}"
            with processes() as stack:
                facts[name] = _taken_over(stack, library, seconds, order == "after the kill", number, wrong, name)
    end("Clocks that jump", facts, wrong)


def _taken_over(stack: Processes, library: Path, jump: int, after: bool, seed: int, wrong: list[str], name: str) -> str:
    """Kill the worker of a running job before or after the jump; what became of the job, in words."""
    offset = stack.folder / "offset"
    offset.write_text("+0")
    stack.start_redis(
        {
            "LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1",
        }
    )  # fmt: skip
    for _ in range(2):
        stack.start_worker()
    stack.start_service()
    stack.await_workers(2)
    time.sleep(12.0)  # longer than a lease, for which no worker is taken for lost after Redis has started
    job_id = stack.post(seed, steps=200, samples_per_label=8).raise_for_status().json()["id"]
    while not stack.store.zrange(f"{PREFIX}leases", 0, -1):
        time.sleep(0.1)
    worker = str(stack.store.hget(record_key(job_id), "worker"))
    (victim,) = [child for child in stack.workers if f"-{child.process.pid}@" in worker]
    if not after:
        _jump(offset, jump)
    victim.kill()
    killed = time.monotonic()
    if after:
        _jump(offset, jump)
    while (
        int(stack.store.hget(record_key(job_id), "attempts") or 0) < 2 and time.monotonic() < killed + PATIENCE_SECONDS
    ):
        time.sleep(0.1)
    taken = time.monotonic() - killed
    attempts = int(stack.store.hget(record_key(job_id), "attempts") or 0)
    if attempts < 2 or taken > LATEST_SECONDS:
        wrong.append(f"{name}: " + ("never taken over" if attempts < 2 else f"taken over after {taken:.1f} s"))
    if attempts < 2:
        return f"not taken over within {PATIENCE_SECONDS:g} s"
    status = stack.await_finished([job_id], 120)[job_id]
    if status != "succeeded":
        wrong.append(f"{name}: the job is {status}")
    next_one = stack.post(seed + 100, wait=30)
    if not next_one.is_success or next_one.json()["status"] != "succeeded":
        wrong.append(f"{name}: a job after it is answered {next_one.status_code}")
    return f"taken over {taken:.1f} s after the kill; {status}"


def _jump(offset: Path, seconds: int) -> None:
    """Set Redis' clock off by so many seconds."""
    other = offset.with_suffix(".new")
    other.write_text(f"{seconds:+d}")
    other.replace(offset)


if __name__ == "__main__":
    main()
