"""How much sooner is a study there with two workers than with one?

Two stacks, each on a data folder of its own, one with one worker and one with two, every worker on one CPU thread. They
get the same study in turn, another seed each round, so that nothing is there already. While one works, the other waits.
"""

from __future__ import annotations

from typing import Any

from benchmarks.stacks import Stack, ratio, shown, stack
from jobs.study_results import StudyResult

ROUNDS = 3
CLASSES, EACH, STEPS = 100, 4, 8
THRESHOLDS = [0.02, 0.05, 0.1]
ONE_THREAD = {"TAILPRUNE_THREADS": "1", "OMP_NUM_THREADS": "1"}


def run() -> str:
    """One table: the study's time on both stacks."""
    times: dict[int, list[float]] = {1: [], 2: []}
    differences = []
    with stack(1, **ONE_THREAD) as one, stack(2, **ONE_THREAD) as two:
        for each in (one, two):
            _study(each, seed=0, samples=1)  # has its workers load the model
        for seed in range(1, ROUNDS + 1):
            (alone, drifts), (together, same_drifts) = (_study(each, seed, EACH) for each in (one, two))
            times[1].append(alone)
            times[2].append(together)
            differences += [abs(a - b) for a, b in zip(drifts, same_drifts, strict=True)]
    return (
        "## A study with two workers, against one worker\n\n"
        f"shapes-sit, {CLASSES} classes, {EACH} samples each, {STEPS} steps, the baseline and {len(THRESHOLDS)} "
        f"prunes, scored by drift; one CPU thread a worker; median of {ROUNDS} rounds (least to most).\n\n"
        "| one worker | two workers | ratio | largest difference of a score |\n|---|---|---|---|\n"
        f"| {shown(times[1], _seconds)} | {shown(times[2], _seconds)} | {ratio(times[1], times[2])} "
        f"| {max(differences):.1e} |\n"
    )


def _study(on: Stack, seed: int, samples: int) -> tuple[float, list[float]]:
    """The seconds from the study's making to its end, and its drifts."""
    body: dict[str, Any] = {
        "model": "shapes-sit", "labels": list(range(CLASSES)), "samples_per_label": samples, "steps": STEPS,
        "seed": seed, "grid": {"thresholds": THRESHOLDS}, "measures": ["drift"],
    }  # fmt: skip
    job = on.client.finished(on.client.study(body))
    assert isinstance(job.result, StudyResult)
    assert job.finished is not None, "the client has waited for it"
    drifts = [variant.scores["drift"].value for variant in job.result.variants if variant.prune is not None]
    return (job.finished - job.created).total_seconds(), [value for value in drifts if value is not None]


def _seconds(value: float) -> str:
    return f"{value:.1f} s"
