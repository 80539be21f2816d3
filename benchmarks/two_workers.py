"""How much faster is a study with two workers than with one?

Two stacks, each on a data folder of its own, one with one worker and one with two, every worker on one CPU thread. They
get the same study in turn, another seed each round, so that nothing is there already. While one works, the other waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, islice
from typing import Any

from benchmarks.report import Section, at_least, ratio, shown
from benchmarks.stacks import Stack, stack
from jobs.study_results import StudyResult
from service.cli.running import AnyJob

ROUNDS = 2
CLASSES, EACH, STEPS = 100, 18, 8
THRESHOLDS = [0.02, 0.05, 0.1]
ONE_THREAD = {"TAILPRUNE_THREADS": "1", "OMP_NUM_THREADS": "1"}


def run() -> Section:
    """One row: the study's time on both stacks."""
    with stack(1, **ONE_THREAD) as one, stack(2, **ONE_THREAD) as two:
        seeds = count()  # a study with the same seed would find the other's shards
        _warm(one, [next(seeds)])
        _warm(two, [next(seeds), next(seeds)])
        times: dict[int, list[float]] = {1: [], 2: []}
        differences = []
        for seed in islice(seeds, ROUNDS):
            alone, together = (_asked(on, seed, EACH).wait() for on in (one, two))
            times[1].append(_seconds_of(alone))
            times[2].append(_seconds_of(together))
            differences += [abs(a - b) for a, b in zip(_scores(alone), _scores(together), strict=True)]
    return Section(
        "## A study with two workers, against one worker\n\n"
        f"shapes-sit, {CLASSES} classes, {EACH} samples each, {STEPS} steps, the baseline and {len(THRESHOLDS)} "
        "prunes, scored by the measures of a study by default; one CPU thread a worker; median of "
        f"{ROUNDS} rounds (least to most). The workers share the samples, and then the scores.\n\n"
        "| one worker | two workers | ratio | largest difference of a score |\n|---|---|---|---|\n"
        f"| {shown(times[1], _seconds)} | {shown(times[2], _seconds)} | {ratio(times[1], times[2])} "
        f"| {max(differences):.1e} |\n",
        [at_least("a study with two workers, against one", times[1], times[2], 1.8)],
    )


def _warm(on: Stack, seeds: Sequence[int]) -> None:
    """Have one worker for each seed hold a study, so that all have loaded what they need."""
    for job in [_asked(on, seed, 1) for seed in seeds]:
        job.wait()


def _asked(on: Stack, seed: int, samples: int) -> AnyJob:
    body: dict[str, Any] = {
        "model": "shapes-sit", "labels": list(range(CLASSES)), "samples_per_label": samples, "steps": STEPS,
        "seed": seed, "grid": {"thresholds": THRESHOLDS},
    }  # fmt: skip
    return on.client.submit("study", body)


def _seconds_of(job: AnyJob) -> float:
    """Seconds from the creation of a study to its end."""
    assert job.finished is not None, "the client has waited for it"
    return (job.finished - job.created).total_seconds()


def _scores(job: AnyJob) -> list[float]:
    """All scores, variant by variant."""
    assert isinstance(job.result, StudyResult)
    scores = [score.value for variant in job.result.variants for score in variant.scores.values()]
    return [value for value in scores if value is not None]


def _seconds(value: float) -> str:
    return f"{value:.1f} s"
