"""Workers that are killed: 100 small jobs on two workers, of which one is killed every few seconds, 20 times.

A few of the jobs arrive before each kill, or all of them before the first (`--at-once`). Then they share batches, so
that each kill takes many jobs, and there are as many kills as the jobs are there for.

A worker is killed only while it holds a job, and none over a job that has lost two workers already: after three lost
workers a job fails, as it may be the reason. A killed worker is started again at once, and the next is killed some
seconds after it is up: else there would soon be no worker.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.faults.report import distribution, end
from benchmarks.processes import Child, Processes, processes
from jobs.records import FINISHED
from jobs.store.scripts import PREFIX, record_key

LATEST_SECONDS = 15.0
MOST_LOSSES = 2
SAMPLES, VARIANTS = 2, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--at-once", action="store_true", help="post all jobs before the first kill")
    options = parser.parse_args()
    with processes() as stack:
        stack.start(workers=2)
        arrivals = _arrivals(options.jobs, options.jobs if options.at_once else math.ceil(options.jobs / options.kills))
        ids: list[str] = []
        losses = Losses(stack)
        generator, kills, latest = random.Random(0), 0, time.monotonic() + 30.0 * options.kills
        while kills < options.kills and time.monotonic() < latest:
            if len(ids) == options.jobs and not _unfinished(stack, ids):
                break
            ids += [stack.post(seed, steps=100).raise_for_status().json()["id"] for seed in next(arrivals, [])]
            while (victim := _victim(stack, generator)) is None and _unfinished(stack, ids):
                losses.rest(0.1)
                if time.monotonic() > latest:
                    break
            if victim is None:
                continue
            child, held = victim
            leases = {job_id: stack.store.zscore(f"{PREFIX}leases", job_id) for job_id in held}
            losses.look()  # or a job that runs again, and is lost again, would count once
            child.kill()
            losses.add({job_id: lease for job_id, lease in leases.items() if lease is not None})
            kills += 1
            another = stack.start_worker()
            while not _is_up(stack, another) and time.monotonic() < latest:
                losses.rest(0.1)
            losses.rest(generator.uniform(2.0, 6.0))
        while losses.open and time.monotonic() < latest + 120:
            losses.rest(0.2)
        statuses = stack.await_finished(ids, seconds=600)
        attempts = [int(stack.store.hget(record_key(job_id), "attempts") or 0) for job_id in ids]
        samples = stack.samples_made()
    wrong = [f"job {job_id} is {status}" for job_id, status in statuses.items() if status != "succeeded"]
    made = options.jobs * SAMPLES * VARIANTS
    if samples != made:
        wrong.append(f"{samples:g} samples are counted, and {made} were asked for")
    for did, delays in {"was queued": losses.queued, "ran": losses.running}.items():
        if late := sum(delay > LATEST_SECONDS for delay in delays.values()):
            wrong.append(f"{late} times a job {did} again later than {LATEST_SECONDS:g} s after its lease's end")
    if losses.open:
        wrong.append(f"{len(losses.open)} jobs were not seen running again")
    if kills < options.kills and not options.at_once:
        wrong.append(f"only {kills} of {options.kills} workers were killed in time")
    facts = {
        "jobs, kills": f"{options.jobs}, {kills}",
        "succeeded": sum(status == "succeeded" for status in statuses.values()),
        "attempts a job": ", ".join(f"{attempts.count(each)} x {each}" for each in sorted(set(attempts))),
        "samples counted, asked for": f"{samples:g}, {made}",
        "from the lease's end to queued again": distribution(list(losses.queued.values())),
        "from the lease's end to running again": distribution(list(losses.running.values())),
    }
    end("Killed workers", facts, wrong)


def _running(stack: Processes) -> dict[str, tuple[str, int]]:
    """The jobs that run, each with its worker's name and its attempts."""
    ids = [str(job_id) for job_id in stack.store.zrange(f"{PREFIX}leases", 0, -1)]
    found = {job_id: stack.store.hmget(record_key(job_id), "worker", "attempts") for job_id in ids}
    return {job_id: (str(worker or ""), int(attempts or 0)) for job_id, (worker, attempts) in found.items()}


def _victim(stack: Processes, generator: random.Random) -> tuple[Child, list[str]] | None:
    """A worker that holds jobs, and these; None if there is none that may be killed."""
    running = _running(stack)
    victims = []
    for child in stack.workers:
        held = {job_id: tries for job_id, (name, tries) in running.items() if f"-{child.process.pid}@" in name}
        if held and child.runs and max(held.values()) <= MOST_LOSSES:
            victims.append((child, list(held)))
    return generator.choice(victims) if victims else None


def _arrivals(count: int, at_once: int) -> Iterator[range]:
    """The seeds of the jobs, some at a time."""
    return (range(first, min(first + at_once, count)) for first in range(0, count, at_once))


def _is_up(stack: Processes, worker: Child) -> bool:
    alive = stack.store.zrange(f"{PREFIX}workers", 0, -1)
    return any(f"-{worker.process.pid}@" in str(each) for each in alive)


def _unfinished(stack: Processes, ids: Sequence[str]) -> bool:
    return any(stack.store.hget(record_key(job_id), "status") not in FINISHED for job_id in ids)


class Losses:
    """The jobs whose worker was killed, and how long after the end of their lease they were queued and ran again."""

    def __init__(self, stack: Processes) -> None:
        self._stack = stack
        self.open: dict[str, float] = {}
        """By job, when the lease ends that its worker left, on Redis' clock."""
        self.queued: dict[tuple[str, float], float] = {}
        self.running: dict[tuple[str, float], float] = {}

    def add(self, leases: Mapping[str, float]) -> None:
        """Note jobs that were lost."""
        self.open |= leases

    def look(self) -> None:
        """Note which of the lost jobs are queued, or run again."""
        if not self.open:
            return
        alive = [f"-{child.process.pid}@" for child in self._stack.workers if child.runs]
        store = self._stack.store
        for job_id, lease in list(self.open.items()):
            since = store.zscore(f"{PREFIX}queued:returned", job_id)
            if since is not None:
                self.queued.setdefault((job_id, lease), max(0.0, since - lease))
            status, worker, started = store.hmget(record_key(job_id), "status", "worker", "started")
            if status == "succeeded" or (status == "running" and any(each in str(worker) for each in alive)):
                self.running[job_id, lease] = max(0.0, float(started or 0) - lease)
                self.queued.setdefault((job_id, lease), self.running[job_id, lease])
                del self.open[job_id]

    def rest(self, seconds: float) -> None:
        """Look for so long."""
        ended = time.monotonic() + seconds
        while time.monotonic() < ended:
            self.look()
            time.sleep(0.1)


if __name__ == "__main__":
    main()
