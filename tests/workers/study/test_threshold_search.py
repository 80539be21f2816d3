"""The search for a threshold, on samples that are only numbers: its answer, and how often it asks for samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.requests.study import Search
from jobs.study_results import SearchResult, StudyVariant
from tailprune.magnitudes import Magnitudes
from tailprune.spec.prune import PruneSpec
from workers.study.threshold_search import SCALE, Candidates, search_threshold

MAGNITUDES = torch.linspace(0.0005, 1.0, 5000) ** 3
BASELINE = {"drift": None, "accuracy": 0.9, "fid": 3.0}


def variant(measure: str, spec: PruneSpec, value: float) -> StudyVariant:
    removed = {"mean": 1.0, "min": 0, "max": 2, "fraction": 0.1, "by_step": []}
    said = {"name": spec.name, "prune": None, "removed": removed, "samples": 1, "scores": {measure: {"value": value}}}
    return StudyVariant.model_validate(said)


def searched(
    search: Search, worse: Callable[[float], float], error: Callable[[float], float], magnitudes: Any = MAGNITUDES
) -> SearchResult:
    """The result of a search. worse, error: by how much the measure is worse, and the error, at a threshold."""
    measure, base = search.measure, BASELINE[search.measure]

    def try_out(spec: PruneSpec) -> StudyVariant:
        assert spec.threshold is not None
        change = worse(spec.threshold)
        return variant(measure, spec, (base or 0.0) + (-change if measure == "accuracy" else change))

    scores = {} if base is None else {measure: {"value": base}}
    baseline = StudyVariant.model_validate({"name": "baseline", "prune": None, "samples": 1, "scores": scores})
    candidates = Candidates(search, Magnitudes(lambda: [magnitudes]), lambda spec: error(spec.threshold or 0.0))
    return search_threshold(search, candidates, baseline, try_out, lambda _: None)


def largest_within(search: Search, worse: Callable[[float], float]) -> float | None:
    """The largest candidate within the budget, of all of them."""
    candidates = Candidates(search, Magnitudes(lambda: [MAGNITUDES]), lambda _: 0.0)
    thresholds = [candidates.spec(place).threshold or 0.0 for place in range(1, candidates.count)]
    return max((each for each in thresholds if worse(each) <= search.budget), default=None)


@settings(deadline=None)
@given(
    measure=st.sampled_from(["drift", "accuracy", "fid"]),
    budget=st.floats(0.001, 0.8),
    factor=st.floats(0.01, 100.0),
    power=st.floats(0.3, 4.0),
    shape=st.sampled_from(["power", "steps", "late", "flat", "none"]),
    trials=st.integers(1, 7),
)
def test_the_answer_is_the_largest_candidate_within_the_budget_whatever_the_error_predicts(
    measure: Any, budget: float, factor: float, power: float, shape: str, trials: int
) -> None:
    search = Search(measure=measure, budget=budget, trials=trials)

    def worse(threshold: float) -> float:
        value = factor * threshold**power
        shapes = {"steps": round(value, 1), "late": max(0.0, value - factor / 2), "flat": 0.0, "none": 10.0 + value}
        return shapes.get(shape, value)

    found = searched(search, worse, lambda threshold: threshold**0.7)
    assert found.threshold == largest_within(search, worse)
    assert len(found.trials) <= 4 * trials + 1


@settings(deadline=None)
@given(budget=st.floats(0.05, 0.5), factor=st.floats(0.3, 3.0), power=st.floats(0.7, 1.5))
def test_where_the_error_predicts_the_drift_fewer_are_sampled_than_by_bisection(
    budget: float, factor: float, power: float
) -> None:
    search = Search(measure="drift", budget=budget, trials=9)
    found = searched(search, lambda threshold: factor * (2 * threshold) ** power, lambda threshold: 2 * threshold)
    assert len(found.trials) <= 7


def test_it_begins_where_the_error_predicts_the_budget() -> None:
    search = Search(measure="drift", budget=0.2, trials=7)
    found = searched(search, lambda threshold: SCALE["drift"] * threshold, lambda threshold: threshold)
    assert found.threshold is not None
    assert found.trials[0].threshold == pytest.approx(found.threshold, rel=0.1)
    assert len(found.trials) <= 3


def test_an_error_that_is_always_zero_leaves_bisection() -> None:
    search = Search(measure="drift", budget=0.2, trials=7)
    found = searched(search, lambda threshold: threshold, lambda threshold: 0.0)
    assert found.threshold == largest_within(search, lambda threshold: threshold)


def test_a_threshold_that_was_tried_is_not_sampled_again() -> None:
    magnitudes = torch.cat([torch.linspace(0.01, 0.4, 300), torch.full((700,), 0.5)])
    search = Search(measure="drift", budget=0.3, trials=8)
    found = searched(search, lambda threshold: threshold, lambda threshold: 0.1 * threshold, magnitudes)
    thresholds = [trial.threshold for trial in found.trials]
    assert len(thresholds) == len(set(thresholds))
    assert found.threshold == pytest.approx(0.3, abs=0.01)
