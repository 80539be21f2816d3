"""Statistics against closed forms and against their definitions written out."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from tailprune.statistics import (
    components_for_variance,
    cosine_matrix,
    describe,
    magnitude_histogram,
    order_by_likeness,
    participation_ratio,
    sparsity,
    summarise_cosine,
)

DOUBLE = 1e-12  # statistics are computed in float64


def test_participation_ratio_is_one_for_a_single_component_and_d_for_equal_ones() -> None:
    vectors = torch.stack([torch.eye(8)[3] * -5, torch.full((8,), 0.25)])
    assert participation_ratio(vectors).tolist() == pytest.approx([1.0, 8.0], abs=DOUBLE)


def test_participation_ratio_of_zeros_is_zero() -> None:
    assert participation_ratio(torch.zeros(4)).item() == 0.0


def test_participation_ratio_of_a_gaussian_vector_is_two_over_pi_of_d() -> None:
    vector = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    # E|v|^2 / E v^2 = 2 / pi; the relative deviation at this length is under 0.3 %
    assert participation_ratio(vector).item() / len(vector) == pytest.approx(2 / math.pi, rel=0.01)


@pytest.mark.parametrize("rows_at_once", [1, 3, 7, 100])
def test_cosine_summary_equals_the_matrix_whatever_the_blocks(rows_at_once: int) -> None:
    vectors = torch.randn(23, 5, generator=torch.Generator().manual_seed(1)) + 0.5
    pairs = cosine_matrix(vectors)[torch.ones(23, 23).triu(1).bool()]
    summary = summarise_cosine(vectors, rows_at_once)
    assert summary.mean == pytest.approx(pairs.mean().item(), abs=DOUBLE)
    assert summary.min == pytest.approx(pairs.min().item(), abs=DOUBLE)
    assert summary.max == pytest.approx(pairs.max().item(), abs=DOUBLE)


def test_cosine_of_one_vector_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two vectors, not 1"):
        summarise_cosine(torch.ones(1, 4))


class LargestTensor(TorchFunctionMode):
    """Remembers how many elements the largest result of a torch function has."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def test_cosine_needs_no_square_matrix() -> None:
    vectors = torch.ones(2000, 2)
    vectors[:1000, 1] = 0
    with LargestTensor() as largest:
        summary = summarise_cosine(vectors, rows_at_once=16)
    assert summary.min == pytest.approx(1 / math.sqrt(2), abs=DOUBLE)
    assert 0 < largest.elements <= 16 * 2000
    with LargestTensor() as largest:
        cosine_matrix(vectors)
    assert largest.elements == 2000 * 2000


def test_sparsity_counts_strictly_below_the_threshold() -> None:
    assert sparsity(torch.tensor([0.0, 0.1, -0.1, 0.2]), 0.1) == pytest.approx(
        0.25, abs=DOUBLE
    )  # float32 0.1 is not below 0.1


def test_histogram_counts_every_component_once_and_small_ones_in_the_first_bin() -> None:
    histogram = magnitude_histogram(torch.tensor([[0.0, 1e-9, 0.5, -0.5, 1e6]]))
    assert sum(histogram.counts) == 5
    assert histogram.counts[0] == 2
    assert histogram.counts[-1] == 1
    bin_of_half = next(i for i, edge in enumerate(histogram.edges) if edge > 0.5) - 1
    assert histogram.counts[bin_of_half] == 2


def test_components_for_variance_counts_the_largest_first() -> None:
    variance = torch.tensor([1.0, 90.0, 4.0, 5.0])
    assert components_for_variance(variance, (0.9, 0.95, 0.99, 1.0)) == {0.9: 1, 0.95: 2, 0.99: 3, 1.0: 4}


def test_description_of_vectors_that_differ_in_one_component() -> None:
    vectors = torch.ones(4, 8)
    vectors[:, 2] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    description = describe(vectors)
    assert description.components_for_variance[0.99] == 1
    assert description.variance.nonzero().flatten().tolist() == [2]
    assert description.variance[2].item() == pytest.approx(1.25, abs=DOUBLE)
    assert description.sparsity(1.5) == pytest.approx(29 / 32, abs=DOUBLE)


def test_vectors_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        describe(torch.tensor([[1.0, math.nan], [1.0, 2.0]]))


def test_what_is_alike_is_near_in_the_order_of_likeness() -> None:
    group = torch.arange(12) % 3
    centres = 10 * torch.eye(3).repeat(1, 4)
    vectors = centres[group] + 0.1 * torch.randn(12, 12, generator=torch.Generator().manual_seed(0))
    order = order_by_likeness(cosine_matrix(vectors))
    assert sorted(order) == list(range(12))
    found = group[order].tolist()
    assert sum(before != after for before, after in itertools.pairwise(found)) == 2
    assert order_by_likeness(torch.ones(1, 1)) == [0]
