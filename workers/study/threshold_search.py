"""The search for a threshold: the largest of a grid of candidates under which samples are within a budget.

The candidates for n trials are the quantiles of |c|, or of |SiLU(c)|, at the shares 1/2^n, 2/2^n, ..., over the study's
labels or conditions and the pruned steps. The measured change is taken as a power of the modulation error, which needs
no sample (`tailprune.modulation`), through what was measured so far; the logarithm of the error at which it reaches the
budget as distributed around that prediction by Cauchy, whose far ends are heavy. Between two candidates that are known,
one within the budget and one beyond it, the next to be sampled has half of the probability on each side. A larger share
is assumed to be worse: where that is not so, the result is still a threshold that was tried and is within the budget.

A search by the modulation error itself samples nothing: it halves the candidates by the error over all the study's
labels or conditions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

import tailprune
from jobs.requests.study import Search
from jobs.study_results import ScoredSearchMeasure, SearchResult, StudyVariant, Trial
from tailprune.condition_table import sums_in_pieces
from tailprune.figures.labelled_vectors import spread
from tailprune.magnitudes import Magnitudes
from tailprune.modulation import ModulationMetric, measure_modulation
from tailprune.progress import OnStep
from tailprune.spec import InputError
from tailprune.spec.prune import PruneSpec
from tailprune.systems import System
from workers.sampling.inputs import SampleInputs
from workers.sampling.plan import Plan

__all__ = ["SCALE", "Candidates", "magnitudes_of", "predicted_errors", "search_error", "search_threshold"]

MOST_TIMES = 16
"""At how many of the pruned steps, evenly spaced, magnitudes are taken."""
MOST_SUBJECTS = 64
"""Of how many labels or conditions, evenly spaced, the modulation errors are that only order the candidates."""
POWER: dict[ScoredSearchMeasure, float] = {"drift": 1.0, "accuracy": 2.5, "fid": 2.5}
"""With which power of the modulation error a measure is taken to become worse, until two trials show it."""
SCALE: dict[ScoredSearchMeasure, float] = {"drift": 1.5, "accuracy": 4.0, "fid": 10.0}
"""How much worse it would be at an error of 1, until a trial shows it; the FID in multiples of the baseline's."""
WIDTH, LEAST_WIDTH, WIDENING = 0.3, 0.005, 0.3
"""How far the logarithm of the error may be from a prediction: without a trial; after one, at least; and by how much
more for each unit that the nearest trial is away. These, powers and scales are about those of the shipped models."""
LARGEST = 700.0
"""The logarithm of a number that is larger than any error."""
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


class Candidates:
    """The thresholds that a search may try, by place from 1 to `count` - 1, and their modulation errors.

    search: with the number of trials, n: there are 2^n shares.
    magnitudes: from `magnitudes_of`.
    error_of: the modulation error of a prune.
    """

    def __init__(self, search: Search, magnitudes: Magnitudes, error_of: Callable[[PruneSpec], float]) -> None:
        self.count = 2**search.trials
        self._search, self._magnitudes, self._error_of = search, magnitudes, error_of
        self._thresholds: dict[int, float] = {}
        self._errors: dict[float, float] = {}

    def spec(self, place: int) -> PruneSpec:
        """The prune of a candidate."""
        if place not in self._thresholds:
            at = min(len(self._magnitudes) - 1, place * len(self._magnitudes) // self.count)
            self._thresholds[place] = float(f"{self._magnitudes.at(at):.{DIGITS}g}")
        return _spec(self._search, self._thresholds[place])

    def error(self, place: int) -> float:
        """The modulation error of a candidate."""
        spec = self.spec(place)
        assert spec.threshold is not None
        if spec.threshold not in self._errors:
            self._errors[spec.threshold] = self._error_of(spec)
        return self._errors[spec.threshold]

    def last_below(self, error: float, low: int, high: int) -> int:
        """The last place from `low` to `high` - 1 whose error is at most this, or `low`."""
        while high - low > 1:
            place = (low + high) // 2
            low, high = (place, high) if self.error(place) <= error else (low, place)
        return low

    def distinct(self, low: int, high: int) -> bool:
        """Whether there is a magnitude between two places, and so another threshold."""
        return high - low > 1 and (high - low) * len(self._magnitudes) >= self.count


def _spec(search: Search, threshold: float) -> PruneSpec:
    """The prune of a trial."""
    return PruneSpec(threshold=threshold, side="tail", of=search.of, fill=search.fill, schedule=search.schedule)


def predicted_errors(
    system: System,
    plan: Plan,
    inputs: SampleInputs,
    most: int | None = MOST_SUBJECTS,
    on_step: OnStep | None = None,
) -> Callable[[PruneSpec], float]:
    """The modulation error of a prune over the run of a study.

    system, plan, inputs: as in `magnitudes_of`.
    most: of how many of its labels or conditions, evenly spaced, at most; None for all.
    on_step: as in `measure_modulation`, for each prune.
    """
    metric = ModulationMetric(system)
    subjects = plan.request.subjects
    some = [subjects[place] for place in spread(len(subjects), min(len(subjects), most or len(subjects)))]
    selected, times = plan.inputs_for(system, inputs, some), plan.times(type(system))

    def error_of(spec: PruneSpec) -> float:
        prune = tailprune.Prune.from_spec(spec)
        guided = plan.guidance.modulation
        changes = measure_modulation(
            system, selected, [prune], times, inputs.population, guided, metric=metric, on_step=on_step
        )
        return changes[0].error

    return error_of


@dataclass
class _Bracket:
    """The last place that is known to be within the budget, and the first that is known not to be."""

    low: int
    high: int
    worse: dict[int, float]
    """By how much the measure is worse than the baseline's, at each place that was tried."""

    def take(self, place: int, within: bool, worse: float) -> None:
        """Take what a trial found at a place."""
        self.worse[place] = worse
        if within:
            self.low = place
        else:
            self.high = place


def search_threshold(
    search: Search,
    candidates: Candidates,
    baseline: StudyVariant,
    try_out: Callable[[PruneSpec], StudyVariant],
    on_trial: Callable[[SearchResult], None],
) -> SearchResult:
    """Search for the largest candidate whose samples are within the budget.

    search: by a measure of samples; its budget and number of trials.
    candidates: the thresholds to choose from.
    baseline: the scores without a prune.
    try_out: makes and scores the samples under a prune.
    on_trial: called after each trial with the result so far.
    Raises InputError where the measure has no value.
    """
    assert search.scored_by is not None
    of_baseline = baseline.scores.get(search.scored_by)
    baseline_value = of_baseline.value if of_baseline is not None else None
    limit = _limit(search, baseline_value)
    reliable = of_baseline is None or of_baseline.reliable  # all trials have as many samples
    bracket = _Bracket(0, candidates.count, {})
    trials: dict[float, Trial] = {}
    result = _result(search, baseline_value, limit, [], reliable)
    while candidates.distinct(bracket.low, bracket.high):
        place = _next_place(search, candidates, bracket, baseline_value or 0.0)
        spec = candidates.spec(place)
        assert spec.threshold is not None
        if spec.threshold not in trials:
            trials[spec.threshold] = _try(search, limit, spec, try_out)
            result = _result(search, baseline_value, limit, list(trials.values()), reliable)
            on_trial(result)
        trial = trials[spec.threshold]
        worse = trial.value - (baseline_value or 0.0)
        bracket.take(place, trial.within, -worse if search.measure == "accuracy" else worse)
    return result


def search_error(
    search: Search,
    candidates: Candidates,
    fraction_of: Callable[[PruneSpec], float],
    on_trial: Callable[[SearchResult], None],
) -> SearchResult:
    """Search for the largest candidate whose modulation error is within the budget.

    search: by the modulation error; its budget and number of trials.
    candidates: the thresholds to choose from, with their errors over the whole run.
    fraction_of: the share of components that a prune removes.
    on_trial: called after each trial with the result so far.
    """
    low, high = 0, candidates.count
    trials: dict[float, Trial] = {}
    result = _result(search, None, search.budget, [], reliable=True)
    while candidates.distinct(low, high):
        place = (low + high) // 2
        spec, error = candidates.spec(place), candidates.error(place)
        assert spec.threshold is not None
        if spec.threshold not in trials:
            trials[spec.threshold] = Trial(
                threshold=spec.threshold,
                fraction=fraction_of(spec),
                value=error,
                within=error <= search.budget,
                variant=spec.name,
            )
            result = _result(search, None, search.budget, list(trials.values()), reliable=True)
            on_trial(result)
        low, high = (place, high) if trials[spec.threshold].within else (low, place)
    return result


def _next_place(search: Search, candidates: Candidates, bracket: _Bracket, baseline: float) -> int:
    """The candidate to try next, between the ends of the bracket."""
    low, high = bracket.low, bracket.high
    centre, width = _predicted(search, candidates, bracket, baseline)

    def share_below(error: float) -> float:
        return 0.5 + math.atan((math.log(error) - centre) / width) / math.pi if error > 0 else 0.0

    last = candidates.error(min(high, candidates.count - 1))
    before = share_below(candidates.error(low)) if low else 0.0
    after = 1.0 if high == candidates.count else share_below(last)  # perhaps all are within the budget
    if not before < share_below(last):  # the errors say nothing
        return (low + high) // 2
    half = centre + width * math.tan(math.pi * ((before + after) / 2 - 0.5))
    return max(low + 1, candidates.last_below(math.exp(min(half, LARGEST)), low, high))


def _predicted(search: Search, candidates: Candidates, bracket: _Bracket, baseline: float) -> tuple[float, float]:
    """The logarithm of the modulation error at which the measure is predicted to be worse by the budget, and how far
    it may be from that."""
    assert search.scored_by is not None
    power = POWER[search.scored_by]
    tried = ((candidates.error(place), worse) for place, worse in bracket.worse.items())
    known = sorted(
        ((math.log(error), math.log(worse / search.budget)) for error, worse in tried if error > 0 and worse > 0),
        key=lambda pair: abs(pair[1]),
    )
    if not known:
        scale = SCALE[search.scored_by] * (max(baseline, search.budget) if search.scored_by == "fid" else 1.0)
        return math.log(search.budget / scale) / power, WIDTH
    error, beyond = known[0]
    for other, other_beyond in known[1:2]:
        if (other - error) * (other_beyond - beyond) > 0:
            power = (other_beyond - beyond) / (other - error)
    return error - beyond / power, LEAST_WIDTH + WIDENING * abs(beyond) / power


def _try(search: Search, limit: float, spec: PruneSpec, try_out: Callable[[PruneSpec], StudyVariant]) -> Trial:
    assert search.scored_by is not None
    variant = try_out(spec)
    value = variant.scores[search.scored_by].value
    if value is None or variant.removed is None or spec.threshold is None:
        raise InputError(
            f"measure {search.measure!r} has no value under {variant.name!r}, so there is nothing to search"
        )
    return Trial(
        threshold=spec.threshold,
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
    search: Search, baseline_value: float | None, limit: float, trials: list[Trial], reliable: bool
) -> SearchResult:
    best = max((trial for trial in trials if trial.within), key=lambda trial: trial.threshold, default=None)
    return SearchResult(
        measure=search.measure,
        budget=search.budget,
        limit=limit,
        baseline=baseline_value,
        threshold=None if best is None else best.threshold,
        fraction=None if best is None else best.fraction,
        reliable=reliable,
        trials=trials,
    )
