"""The search for a threshold: bisection over the share of components that a tail prune removes.

The threshold for a share is that quantile of |c|, or of |SiLU(c)|, over the study's labels or conditions and the pruned
steps. Bisection assumes that a larger share is worse: where that is not so, its result is still a threshold that was
tried and is within the budget.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

import tailprune
from jobs.requests.study import Search
from jobs.study_results import SearchResult, StudyVariant, Trial
from tailprune.condition_table import sums_in_pieces
from tailprune.magnitudes import Magnitudes
from tailprune.spec import InputError
from tailprune.spec.prune import PruneSpec
from tailprune.systems import System
from workers.sampling.inputs import SampleInputs
from workers.sampling.plan import Plan

__all__ = ["magnitudes_of", "search_threshold"]

MOST_TIMES = 16
"""At how many of the pruned steps, evenly spaced, magnitudes are taken."""
DIGITS = 3
"""Significant digits of a threshold: rounded ones recur in other searches, which then find their shards."""


def magnitudes_of(system: System, plan: Plan, inputs: SampleInputs, search: Search) -> Magnitudes:
    """|c|, or |SiLU(c)|, of all labels or conditions at the steps that the search prunes.

    system: the model.
    plan: how the study is sampled.
    inputs: its labels or conditions.
    search: with the schedule of its prunes.
    """
    times = plan.times(type(system))
    prune = tailprune.Prune.from_spec(_spec(search, 0.0))
    active = torch.tensor([i for i in range(len(times)) if prune.active(i, len(times))])
    chosen = active[torch.linspace(0, len(active) - 1, min(MOST_TIMES, len(active))).round().long()]
    device = next(system.parameters()).device
    all_inputs = plan.inputs_for(system, inputs, plan.request.subjects)
    embedded_inputs = system.embed_inputs({name: tensor.to(device) for name, tensor in all_inputs.items()})
    embedded_times = system.embed_time(times[chosen, 0].float().to(device))
    return Magnitudes(lambda: map(prune.seen, sums_in_pieces(embedded_times, embedded_inputs)))


@dataclass
class _State:
    """The shares between which the search goes on, and the largest threshold within the budget so far."""

    low: float = 0.0
    high: float = 1.0
    best: Trial | None = None


def search_threshold(
    search: Search,
    magnitudes: Magnitudes,
    baseline: StudyVariant,
    try_out: Callable[[PruneSpec], StudyVariant],
    on_trial: Callable[[SearchResult], None],
) -> SearchResult:
    """Search for the largest threshold within the budget.

    search: measure, budget and number of trials.
    magnitudes: from `magnitudes_of`.
    baseline: the scores without a prune.
    try_out: makes and scores the samples under a prune.
    on_trial: called after each trial with the result so far.
    Raises InputError where the measure has no value.
    """
    baseline_value = baseline.scores[search.measure].value if search.measure in baseline.scores else None
    limit = _limit(search, baseline_value)
    state = _State()
    trials: list[Trial] = []
    of_baseline = baseline.scores.get(search.measure)
    reliable = of_baseline is None or of_baseline.reliable  # all trials have as many samples
    result = _result(search, baseline_value, limit, trials, state, reliable)
    within: dict[float, bool] = {}
    while len(trials) < search.trials and (state.high - state.low) * len(magnitudes) >= 1:
        share = (state.low + state.high) / 2
        place = min(len(magnitudes) - 1, int(share * len(magnitudes)))
        threshold = float(f"{magnitudes.at(place):.{DIGITS}g}")
        if threshold not in within:
            trial = _try(search, limit, threshold, try_out)
            trials.append(trial)
            within[threshold] = trial.within
            if trial.within and (state.best is None or threshold > state.best.threshold):
                state.best = trial
            result = _result(search, baseline_value, limit, trials, state, reliable)
            on_trial(result)
        if within[threshold]:
            state.low = share
        else:
            state.high = share
    return result


def _spec(search: Search, threshold: float) -> PruneSpec:
    """The prune of a trial."""
    return PruneSpec(threshold=threshold, side="tail", of=search.of, fill=search.fill, schedule=search.schedule)


def _try(search: Search, limit: float, threshold: float, try_out: Callable[[PruneSpec], StudyVariant]) -> Trial:
    variant = try_out(_spec(search, threshold))
    value = variant.scores[search.measure].value
    if value is None or variant.removed is None:
        raise InputError(
            f"measure {search.measure!r} has no value under {variant.name!r}, so there is nothing to search"
        )
    return Trial(
        threshold=threshold,
        fraction=variant.removed.fraction,
        value=value,
        within=value >= limit if search.measure == "accuracy" else value <= limit,
        variant=variant.name,
    )


def _limit(search: Search, baseline_value: float | None) -> float:
    if search.measure == "drift":
        return search.budget
    if baseline_value is None:
        raise InputError(f"measure {search.measure!r} has no value for the baseline, so there is nothing to stay near")
    return baseline_value - search.budget if search.measure == "accuracy" else baseline_value + search.budget


def _result(
    search: Search, baseline_value: float | None, limit: float, trials: list[Trial], state: _State, reliable: bool
) -> SearchResult:
    best = state.best
    return SearchResult(
        measure=search.measure,
        budget=search.budget,
        limit=limit,
        baseline=baseline_value,
        threshold=None if best is None else best.threshold,
        fraction=None if best is None else best.fraction,
        reliable=reliable,
        trials=list(trials),
    )
