"""The search for a threshold: bisection over the share of components that a tail prune removes.

A share stands for the quantile of |c| over the study's labels or conditions and the steps that are pruned. It is taken
that a larger share is worse: where that is not so, the search still ends at a threshold that was tried and is within.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import tailprune
from jobs.requests.study import Search
from jobs.study_results import SearchResult, StudyVariant, Trial
from tailprune.spec import InputError
from tailprune.spec.prune import PruneSpec
from tailprune.systems import System
from workers.outputs.report import inputs_of
from workers.sampling.inputs import SampleInputs
from workers.sampling.plan import Plan

__all__ = ["search_threshold", "sorted_magnitudes"]

MOST_TIMES = 16
"""At so many of the pruned steps, evenly spread, are magnitudes looked at."""
DIGITS = 3
"""Of a threshold: the same ones come up in other searches, and find their shards."""


def sorted_magnitudes(system: System, plan: Plan, inputs: SampleInputs, search: Search) -> Tensor:
    """|c| of all labels or conditions at the steps that the search prunes, ascending, with shape (n,)."""
    request = plan.request
    times = tailprune.sampling_times(system, request.sampler, plan.steps, request.timestep_shift)
    prune = tailprune.Prune("tail", 0.0, search.schedule.when, search.schedule.count)
    active = torch.tensor([i for i in range(len(times)) if prune.active(i, len(times))])
    chosen = active[torch.linspace(0, len(active) - 1, min(MOST_TIMES, len(active))).round().long()]
    device = next(system.parameters()).device
    everyone = inputs_of(system, plan, inputs, request.subjects)
    parts = system.embed_inputs({name: tensor.to(device) for name, tensor in everyone.items()})
    at = system.embed_time(times[chosen, 0].float().to(device))
    return (at.unsqueeze(1) + parts).abs().flatten().cpu().sort().values


@dataclass
class _State:
    low: float = 0.0
    high: float = 1.0
    best: Trial | None = None


def search_threshold(
    search: Search,
    magnitudes: Tensor,
    baseline: StudyVariant,
    try_out: Callable[[PruneSpec], StudyVariant],
    on_trial: Callable[[SearchResult], None],
) -> SearchResult:
    """Tries thresholds and says what was found.

    magnitudes: as of `sorted_magnitudes`. try_out: the scores under a prune. on_trial: hears what is known so far.
    """
    before = baseline.scores[search.measure].value if search.measure in baseline.scores else None
    limit = _limit(search, before)
    state = _State()
    trials: list[Trial] = []
    result = _result(search, before, limit, trials, state)
    verdicts: dict[float, bool] = {}
    while len(trials) < search.trials and (state.high - state.low) * len(magnitudes) >= 1:
        share = (state.low + state.high) / 2
        place = min(len(magnitudes) - 1, int(share * len(magnitudes)))
        threshold = float(f"{magnitudes[place].item():.{DIGITS}g}")
        if threshold not in verdicts:
            trial = _tried(search, limit, threshold, try_out)
            trials.append(trial)
            verdicts[threshold] = trial.within
            if trial.within and (state.best is None or threshold > state.best.threshold):
                state.best = trial
            result = _result(search, before, limit, trials, state)
            on_trial(result)
        if verdicts[threshold]:
            state.low = share
        else:
            state.high = share
    return result


def _tried(search: Search, limit: float, threshold: float, try_out: Callable[[PruneSpec], StudyVariant]) -> Trial:
    spec = PruneSpec(threshold=threshold, side="tail", fill=search.fill, schedule=search.schedule)
    variant = try_out(spec)
    value = variant.scores[search.measure].value
    if value is None or variant.removed is None:
        raise InputError(f"measure {search.measure!r} has no value under {variant.name!r}, so nothing can be sought")
    return Trial(
        threshold=threshold,
        fraction=variant.removed.fraction,
        value=value,
        within=value >= limit if search.measure == "accuracy" else value <= limit,
        variant=variant.name,
    )


def _limit(search: Search, before: float | None) -> float:
    if search.measure == "drift":
        return search.budget
    if before is None:
        raise InputError(f"measure {search.measure!r} has no value for the baseline, so there is nothing to stay near")
    return before - search.budget if search.measure == "accuracy" else before + search.budget


def _result(search: Search, before: float | None, limit: float, trials: list[Trial], state: _State) -> SearchResult:
    best = state.best
    return SearchResult(
        measure=search.measure,
        budget=search.budget,
        limit=limit,
        baseline=before,
        threshold=None if best is None else best.threshold,
        fraction=None if best is None else best.fraction,
        trials=list(trials),
    )
