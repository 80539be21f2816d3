"""Components that predict the others, beside all choices of as many."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from tailprune.column_subset import best_predictors, coefficients

DIM = 9


def moments(seed: int, rank: int = DIM) -> tuple[Tensor, Tensor]:
    """A covariance and a metric of DIM components."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(200, rank, generator=generator, dtype=torch.float64)
    vectors = vectors @ torch.randn(rank, DIM, generator=generator, dtype=torch.float64)
    weights = torch.randn(12, DIM, generator=generator, dtype=torch.float64)
    return vectors.T @ vectors / 200, weights.T @ weights


def error(covariance: Tensor, metric: Tensor, kept: Tensor) -> float:
    rest = torch.tensor([n for n in range(DIM) if n not in kept.tolist()])
    predicted = torch.eye(DIM, dtype=torch.float64)
    predicted[rest] = 0
    predicted[rest[:, None], kept] = coefficients(covariance, kept, rest)
    predicted[rest[:, None], rest] = 0
    left = torch.eye(DIM, dtype=torch.float64) - predicted
    return torch.trace(metric @ left @ covariance @ left.T).item()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [1, 2, 4])
def test_no_swap_of_one_component_predicts_better(seed: int, count: int) -> None:
    covariance, metric = moments(seed)
    kept = best_predictors(covariance, metric, count)
    ours = error(covariance, metric, kept)
    errors = {each: error(covariance, metric, torch.tensor(each)) for each in combinations(range(DIM), count)}
    neighbours = [value for each, value in errors.items() if len(set(each) & set(kept.tolist())) == count - 1]
    assert ours <= min(neighbours) * (1 + 1e-5)
    assert ours <= 1.25 * min(errors.values())
    assert sorted(errors.values()).index(min(errors.values(), key=lambda value: abs(value - ours))) < 0.05 * len(errors)


def test_as_many_are_kept_as_asked_though_fewer_predict_all() -> None:
    covariance, metric = moments(0, rank=3)
    kept = best_predictors(covariance, metric, 6)
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert len(kept) == 6
    assert error(covariance, metric, kept) < 1e-9 * torch.trace(metric @ covariance)
    assert best_predictors(torch.zeros_like(covariance), metric, 2).tolist() == [0, 1]


def test_all_components_may_be_kept() -> None:
    assert best_predictors(*moments(1), DIM).tolist() == list(range(DIM))
