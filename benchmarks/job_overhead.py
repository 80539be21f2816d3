"""How much time does a job take beyond its computing?

Small jobs one after the other, each with a seed of its own. By its record, a job takes from `created` to `finished`;
what it computes is what its result's `timing` says of loading, sampling and decoding, the making of its files included.
The other side is the same samples made by a call in this process, in turn with the jobs, its pictures kept nowhere.
Both have as many threads.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import httpx
import torch

from benchmarks.report import Section, at_most, ratio, shown
from benchmarks.stacks import stack
from demo import ROOT
from jobs.records import JobView
from jobs.results import PruneSampleResult
from tailprune import Prune, load, sample
from tailprune.decoders import load_decoder

JOBS = 30
MODEL, LABEL, THRESHOLD, STEPS, SCALE = "shapes-sit", 0, 0.05, 10, 2.5


def run() -> Section:
    """One table: the jobs by their records, as a client sees them, and the calls."""
    system, decode = load(ROOT / "models" / MODEL), load_decoder("pixels")
    jobs: list[JobView] = []
    answers, calls = [], []

    def call(seed: int) -> None:
        inputs, prunes = {"labels": torch.tensor([LABEL])}, [None, Prune("tail", THRESHOLD)]
        for latents in sample(system, inputs, steps=STEPS, guidance=SCALE, prune=prunes, seeds=[(seed, LABEL)]):
            decode(latents)

    with (
        stack(TAILPRUNE_THREADS=str(torch.get_num_threads())) as ours,
        httpx.Client(base_url=ours.url, timeout=90.0, trust_env=False) as http,
    ):
        for seed in range(JOBS + 1):
            begun = time.perf_counter()
            answer = http.post("/prune-sample", json=_body(seed), headers={"Prefer": "wait=60"}).raise_for_status()
            answered = time.perf_counter()
            call(seed)
            if seed:  # the first of each loads and allocates
                jobs.append(JobView.model_validate_json(answer.content))
                answers.append(answered - begun)
                calls.append(time.perf_counter() - answered)
    taken, computed = [_taken(job) for job in jobs], [_computed(job) for job in jobs]
    rows = {
        "the call": calls,
        "what a job computes": computed,
        "from `created` to `finished`": taken,
        "**what that is beyond computing**": [whole - part for whole, part in zip(taken, computed, strict=True)],
        "from request to answer, `Prefer: wait`": answers,
    }
    lines = [
        "## What a job takes beyond its computing\n",
        f"{JOBS} jobs of a warm worker, one after the other: {MODEL}, one label, the baseline and one prune, {STEPS} "
        "steps. Median (least to most); the ratio is the call's time to that one's.\n",
        "| | time | ratio |",
        "|---|---|---|",
        *(f"| {name} | {shown(seconds, _milliseconds)} | {ratio(calls, seconds)} |" for name, seconds in rows.items()),
    ]
    beyond = statistics.median(rows["**what that is beyond computing**"])
    return Section("\n".join(lines) + "\n", [at_most("a job's time beyond its computing", 1000 * beyond, 30, " ms")])


def _body(seed: int) -> dict[str, Any]:
    return {
        "model": MODEL, "labels": [LABEL], "threshold": THRESHOLD, "steps": STEPS, "guidance_scale": SCALE,
        "seed": seed,
    }  # fmt: skip


def _taken(job: JobView) -> float:
    assert job.finished is not None, "the answer was waited for"
    return (job.finished - job.created).total_seconds()


def _computed(job: JobView) -> float:
    assert isinstance(job.result, PruneSampleResult)
    timing = job.result.timing
    return timing.load + timing.sample + timing.decode


def _milliseconds(value: float) -> str:
    return f"{1000 * value:.1f} ms"
