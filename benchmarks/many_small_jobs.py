"""How much faster are many clients' small jobs when they share batches?

As many clients as jobs post one at the same moment, each with a seed of its own; the other side is one client that
waits for each job before it posts the next, so that every job is by itself. Both ask the same warm worker, in turn.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence

import httpx
import torch

from benchmarks.report import Section, at_least, ratio, shown
from benchmarks.stacks import stack
from jobs.records import JobView
from jobs.results import PruneSampleResult

ROUNDS = 3
CLIENTS = 64
MODEL, THRESHOLD, STEPS = "shapes-sit", 0.05, 20


def run() -> Section:
    """One table: samples a second of both."""
    return asyncio.run(_measured())


async def _measured() -> Section:
    rates: dict[str, list[float]] = {"at once": [], "one by one": []}
    shared: list[int] = []
    limits = httpx.Limits(max_connections=CLIENTS)
    with stack(TAILPRUNE_THREADS=str(torch.get_num_threads())) as ours:
        async with httpx.AsyncClient(base_url=ours.url, timeout=90.0, trust_env=False, limits=limits) as http:
            seeds = iter(range((2 * ROUNDS + 1) * CLIENTS))
            await _post(http, next(seeds))  # the worker loads the model
            for _ in range(ROUNDS):
                begun = time.perf_counter()
                together = await asyncio.gather(*(_post(http, next(seeds)) for _ in range(CLIENTS)))
                rates["at once"].append(_rate(together, begun))
                begun = time.perf_counter()
                alone = [await _post(http, next(seeds)) for _ in range(CLIENTS)]
                rates["one by one"].append(_rate(alone, begun))
                shared += [result.timing.batch_jobs for result in together]
    at_once, one_by_one = rates["at once"], rates["one by one"]
    text = (
        "## Small jobs of many clients at once, against one job at a time\n\n"
        f"{CLIENTS} jobs of a warm worker: {MODEL}, one label, the baseline and one prune, {STEPS} steps; posted by "
        f"{CLIENTS} clients at once, or by one that waits for each. Samples a second from the first request to the "
        f"last answer, median of {ROUNDS} rounds (least to most). Of the jobs posted at once, the median shared its "
        f"batch with {statistics.median(shared) - 1:.0f} others.\n\n"
        "| one job at a time | at once | ratio |\n|---|---|---|\n"
        f"| {shown(one_by_one, _per_second)} | {shown(at_once, _per_second)} | {ratio(at_once, one_by_one)} |\n"
    )
    question = f"{CLIENTS} small jobs at once, against one at a time"
    return Section(text, [at_least(question, at_once, one_by_one, 2 if torch.cuda.is_available() else 1)])


async def _post(http: httpx.AsyncClient, seed: int) -> PruneSampleResult:
    """Post a job of one label; return it once it is done."""
    body = {"model": MODEL, "labels": [seed % 100], "threshold": THRESHOLD, "steps": STEPS, "seed": seed}
    answer = await http.post("/prune-sample", json=body, headers={"Prefer": "wait=60"})
    job = JobView.model_validate_json(answer.raise_for_status().content)
    assert isinstance(job.result, PruneSampleResult), job.status
    return job.result


def _rate(results: Sequence[PruneSampleResult], begun: float) -> float:
    """Samples a second since `begun`."""
    seconds = time.perf_counter() - begun
    return sum(len(variant.images) for result in results for variant in result.variants) / seconds


def _per_second(value: float) -> str:
    return f"{value:.1f}/s"
