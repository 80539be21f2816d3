"""Does the second job of a model load nothing again?

A worker does two jobs of each model, which differ in their seed. The first is what a script does that loads its model
at every call. `timing.load` is what a job spent on having its model; whether anything was loaded is read from the
worker's log, which says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.report import Section, at_most, ratio, shown
from benchmarks.stacks import Stack, stack
from jobs.results import PruneSampleResult

ROUNDS = 3
FIRST = "shapes-repa"
"""The model of the first job, in which a worker does what it does once, such as importing."""
MODELS = ("shapes-sit", "shapes-dit", "shapes-lightningdit")
LOADED = "model loaded"
"""The event in the worker's log for a system or decoder that it loads."""


@dataclass(frozen=True)
class Done:
    """The times of a finished job."""

    load: float
    """Its `timing.load`, in seconds."""
    whole: float
    """Seconds from `created` to `finished`."""
    loaded: int
    """How many systems and decoders the worker loaded for it."""


def run() -> Section:
    """One table: the two jobs of each model, over some workers."""
    pairs: dict[str, list[tuple[Done, Done]]] = {model: [] for model in MODELS}
    for _ in range(ROUNDS):
        with stack() as ours:
            _job(ours, FIRST, seed=0)
            for model in MODELS:
                pairs[model].append((_job(ours, model, seed=0), _job(ours, model, seed=1)))
    lines = [
        "## The second job of a model, against the first\n",
        f"One label, the baseline and one prune, 10 steps; median of {ROUNDS} workers (least to most).\n",
        "| model | parts loaded, first and second job | `timing.load`, first | second | ratio "
        "| `created` to `finished`, first | second | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for model in MODELS:
        firsts, seconds = zip(*pairs[model], strict=True)
        loaded = [" or ".join(map(str, sorted({job.loaded for job in jobs}))) for jobs in (firsts, seconds)]
        cells = [model, " and ".join(loaded)]
        for field in ("load", "whole"):
            theirs, ours_ = ([getattr(job, field) for job in jobs] for jobs in (firsts, seconds))
            cells += [shown(theirs, _milliseconds), shown(ours_, _milliseconds), ratio(theirs, ours_)]
        lines.append(f"| {' | '.join(cells)} |")
    again = max(second.loaded for jobs in pairs.values() for _, second in jobs)
    return Section(
        "\n".join(lines) + "\n", [at_most("parts loaded for the second job of a model, of three models", again, 0)]
    )


def _job(ours: Stack, model: str, seed: int) -> Done:
    client, body = ours.client, {"model": model, "labels": [0], "threshold": 0.05, "steps": 10, "seed": seed}
    job = client.submit("prune-sample", body).wait()
    assert isinstance(job.result, PruneSampleResult)
    assert job.finished is not None, "the client has waited for it"
    log = (ours.data_dir / "logs" / "worker-1.log").read_text().splitlines()
    loaded = sum(LOADED in line and job.id in line for line in log)
    return Done(job.result.timing.load, (job.finished - job.created).total_seconds(), loaded)


def _milliseconds(value: float) -> str:
    return f"{1000 * value:.{0 if value >= 0.001 else 3}f} ms"
