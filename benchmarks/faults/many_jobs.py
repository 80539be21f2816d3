"""Ten thousand finished jobs at the limits of a request: 256 samples under 16 prunes and the baseline.

One job is done; its request, result and list of files are enlarged to those of a job at the limits, and written as many
times by the code of service and workers, each with as many events as the history keeps. Their results are documents on
disk that records in Redis name: the jobs share a hundred of them, as ten thousand would be 14 GB.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from typing import Any

import numpy as np

from benchmarks.faults.report import end
from benchmarks.processes import Processes, processes
from jobs.keys import digest
from jobs.queue import JobQueue
from jobs.requests.base import Queue
from jobs.requests.prune_sample import PruneSampleRequest
from jobs.settings import Settings
from jobs.storage.artifacts import Artifact
from jobs.store.connection import connect
from jobs.store.jobs import JobStore
from jobs.store.leases import LeaseStore
from jobs.store.scripts import EVENTS_LEFT, PREFIX

SAMPLES, VARIANTS = 256, 17
EVENTS, DOCUMENTS = EVENTS_LEFT, 100
MOST_REDIS_BYTES = 256e6
"""Half of what Redis is given by default."""
WRITING_SECONDS = 300.0
"""The writing ends early after so long; what is found is then extrapolated."""
MOST_SECONDS = 0.05
"""How long a page of the list may take, as long as it is by default."""
ASKED, ASKED_SECONDS = 100, 20.0
"""How often each path is asked for, and for how long at most."""
LIST = "/jobs"
PATHS = (LIST, "/jobs?status=failed", "/jobs?limit=200", "/jobs/{id}")


class _Nowhere(JobQueue):
    """A queue for jobs that no worker is to do."""

    def __init__(self) -> None:
        pass

    def put(self, job_id: str, queue: Queue) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=10_000)
    count = parser.parse_args().jobs
    facts, wrong = dict[str, object](), list[str]()
    with processes() as stack:
        stack.start(workers=1)
        before = _redis_bytes(stack)
        written, seconds, last, result_bytes = _write(stack, count)
        hot = _hot_bytes(stack)
        grown = _redis_bytes(stack) - before - hot
        whole = grown / written * count
        facts |= {
            "jobs written, asked for": f"{written}, {count}",
            "bytes of jobs in Redis": f"{grown / 1e6:.0f} MB, {grown / written:.0f} a job",
            "of all jobs": f"{whole / 1e6:.0f} MB" if written == count else f"{whole / 1e6:.0f} MB, extrapolated",
            "hot copies, which Redis may evict": f"{hot / 1e6:.1f} MB",
            "memory of the process of Redis": f"{stack.redis.memory / 1e6:.0f} MB",
            "a result on disk": f"{result_bytes / 1e6:.1f} MB",
            "written in": f"{seconds:.1f} s",
            "load average of the machine": f"{os.getloadavg()[0]:.1f}, {os.cpu_count()} cores",
        }
        if whole > MOST_REDIS_BYTES:
            wrong.append(f"{count} jobs take {whole / 1e6:.0f} MB of Redis, more than {MOST_REDIS_BYTES / 1e6:.0f} MB")
        for path in PATHS:
            taken: list[float] = []
            while len(taken) < ASKED and sum(taken) < ASKED_SECONDS:
                begun = time.perf_counter()
                stack.http.get(path.format(id=last)).raise_for_status()
                taken.append(time.perf_counter() - begun)
            p50, p99 = np.percentile(taken, [50, 99])
            facts[f"GET {path}"] = f"p50 {1000 * p50:.0f} ms, p99 {1000 * p99:.0f} ms"
            if path == LIST and p99 > MOST_SECONDS:
                wrong.append(f"GET {path} takes {1000 * p99:.0f} ms (p99), more than {1000 * MOST_SECONDS:.0f}")
        if len(stack.job(last)["links"]["artifacts"]) < SAMPLES * VARIANTS:
            wrong.append("the last job has lost files of its list")
        facts["memory of the service"] = f"{stack.service.memory / 1e6:.0f} MB"
    end("Ten thousand jobs at the limits", facts, wrong)


def _write(stack: Processes, count: int) -> tuple[int, float, str, int]:
    """Write so many finished jobs.

    Returns how many were written, in how many seconds, the id of the last, and the bytes of its result.
    """
    settings = Settings(redis_url=stack.redis_url, data_dir=stack.data_dir)
    thresholds = [number / 1000 for number in range(1, settings.max_variants + 1)]
    job = stack.post(0, wait=60, labels=[0, 1], threshold=thresholds).raise_for_status().json()
    asked = job["request"] | {"labels": list(range(SAMPLES)), "samples_per_label": 1}
    result, artifacts = _at_the_limits(job["result"])
    client = connect(settings)
    queue = _Nowhere()
    store, leases = JobStore(client, settings, queue), LeaseStore(client, settings, queue)
    timings = [result["timing"] | {"sample": number + 0.5} for number in range(DOCUMENTS)]
    documents = [leases.store_outcome(result | {"timing": timing}, artifacts) for timing in timings]
    begun, last, written = time.monotonic(), "", 0
    for number in range(count):
        request = PruneSampleRequest.model_validate(asked | {"seed": number + 1})
        made, _ = store.submit(request, digest({"job": number}))
        claim = leases.claim(made.id, "none")
        assert claim is not None, "nobody else claims it"
        for step in range(EVENTS):
            claim.reported = -1.0  # as if some time had passed
            leases.report(claim, step + 1, EVENTS, "steps")
        assert leases.succeed_with(claim, documents[number % DOCUMENTS]), "nobody else finishes it"
        last, written = made.id, number + 1
        if time.monotonic() - begun > WRITING_SECONDS:
            break
    return written, time.monotonic() - begun, last, documents[0].size


def _at_the_limits(result: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Artifact]]:
    """A result with as many variants and samples as a request may ask for, and its files."""
    result, variants = copy.deepcopy(result), result["variants"]
    files: dict[str, Artifact] = {}
    result["variants"] = []
    for variant in range(VARIANTS):
        made = copy.deepcopy(variants[min(variant, 1)])
        slug = "baseline" if variant == 0 else f"tail-{variant / 1000:g}"
        made["latents"] = f"{slug}.safetensors"
        image = made["images"][0]
        made["images"] = [image | {"sample": n, "artifact": f"{slug}-0-{n}.png"} for n in range(SAMPLES)]
        for name in (made["latents"], *(each["artifact"] for each in made["images"])):
            files[name] = Artifact(digest=digest({"file": name}), media_type="image/png", size=3000)
        result["variants"].append(made)
    files["grid.png"] = Artifact(digest=digest({"file": "grid"}), media_type="image/png", size=100_000)
    return result, files


def _hot_bytes(stack: Processes) -> int:
    """What copies of small artifacts take in Redis."""
    keys = list(stack.store.scan_iter(f"{PREFIX}hot:*", count=1000))
    return sum(int(stack.store.memory_usage(key) or 0) for key in keys)


def _redis_bytes(stack: Processes) -> int:
    return int(stack.store.info("memory")["used_memory"])


if __name__ == "__main__":
    main()
