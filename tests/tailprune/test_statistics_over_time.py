"""Statistics over many timesteps against `describe`, one timestep after another."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tailprune import statistics_over_time
from tailprune.statistics import describe
from tailprune.statistics_over_time import describe_over_time
from tailprune.systems import LabelCondition
from tests.tailprune.test_statistics import LargestTensor

THRESHOLDS = (0.0, 0.01, 0.1, 1.0, 100.0)
AGREEMENT = 1e-5  # describe adds y and t in float32, and magnitudes are summed in float32


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def check_against_describe(y: Tensor, t: Tensor) -> None:
    found = describe_over_time(y, t, THRESHOLDS)
    assert found.sparsity.shape == (len(t), len(THRESHOLDS))
    for k, time in enumerate(t):
        expected = describe(y + time)
        assert found.cosine_mean[k].item() == pytest.approx(expected.cosine.mean, abs=AGREEMENT)
        assert found.cosine_min[k].item() == pytest.approx(expected.cosine.min, abs=AGREEMENT)
        assert found.cosine_max[k].item() == pytest.approx(expected.cosine.max, abs=AGREEMENT)
        assert found.pr[k].item() == pytest.approx(expected.pr, rel=AGREEMENT)
        assert found.npr[k].item() == pytest.approx(expected.npr, abs=AGREEMENT)
        assert found.norm[k].item() == pytest.approx(expected.norm, rel=AGREEMENT)
        assert found.sparsity[k].tolist() == [expected.sparsity(tau) for tau in THRESHOLDS]


@pytest.mark.parametrize("common", [0.0, 0.1, 3.0, 100.0])
def test_every_timestep_is_described_as_by_itself(common: float) -> None:
    check_against_describe(normal(40, 24), common * normal(6, 24, seed=1))


@pytest.mark.parametrize("pairs", [1, 120, 1_000, 10_000])
def test_pairs_are_the_same_whatever_the_blocks(pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics_over_time, "PAIRS_AT_ONCE", pairs)
    check_against_describe(normal(40, 5) + 0.5, normal(3, 5, seed=1))


def test_two_classes_are_one_pair() -> None:
    check_against_describe(normal(2, 8), normal(5, 8, seed=1))


def test_near_parallel_vectors_keep_the_digits_in_which_they_differ() -> None:
    y, t = 0.01 * normal(30, 64), 50 * normal(1, 64, seed=1)
    found, exact = describe_over_time(y, t, []), describe(y.double() + t.double()).cosine
    assert 0 < 1 - exact.min < 1e-6
    assert 1 - found.cosine_min.item() == pytest.approx(1 - exact.min, rel=1e-6)
    assert 1 - found.cosine_max.item() == pytest.approx(1 - exact.max, rel=1e-6)
    assert 1 - found.cosine_mean.item() == pytest.approx(1 - exact.mean, rel=1e-6)


def test_a_time_part_may_cancel_what_the_classes_have_in_common() -> None:
    shared = 1e6 * normal(1, 16, seed=2)  # its squares leave float64 few digits of the rest
    check_against_describe(shared + 3 * normal(20, 16), normal(4, 16, seed=1) - shared)


def test_a_vector_that_nearly_cancels_keeps_its_direction() -> None:
    y = normal(5, 32)
    t = -y[[3, 0]] * (1 + 3e-7 * normal(2, 32, seed=1))
    assert 0 < (y[3] + t[0]).norm() < 1e-6 * y[3].norm()
    check_against_describe(y, t)


def test_vectors_of_zeros_count_as_describe_counts_them() -> None:
    y = normal(4, 8)
    y[1] = y[2]
    check_against_describe(y, -y)
    check_against_describe(torch.zeros(3, 8), torch.zeros(1, 8))


def test_a_component_at_a_threshold_is_not_below_it() -> None:
    y = torch.tensor([[0.1, -0.1, 1.0, -1.0], [0.0, 100.0, 0.01, -0.01]])
    check_against_describe(y, torch.zeros(1, 4))


def test_parts_may_belong_to_a_network_that_is_being_trained() -> None:
    condition = LabelCondition(hidden_size=16, num_classes=6)
    torch.nn.init.normal_(condition.y_embedder.embedding_table.weight)
    y, t = condition.embed_inputs(condition.all_inputs()), condition.embed_time(torch.tensor([0.0, 0.5]))
    assert y.requires_grad
    found = describe_over_time(y, t, [0.05])
    assert found.pr.tolist() == pytest.approx([describe(y + time).pr for time in t], rel=AGREEMENT)


def test_no_tensor_holds_every_pair_or_every_vector() -> None:
    y, t = normal(1_000, 4), normal(50, 4, seed=1)
    with LargestTensor() as largest:
        describe_over_time(y, t, [0.1])
    assert 0 < largest.elements < 1_000 * 1_000 / 4
    assert largest.elements < 50 * y.numel()


@pytest.mark.parametrize(
    ("y", "t", "thresholds", "message"),
    [
        (torch.ones(3, 4), torch.ones(2, 5), [], r"not \(3, 4\) and \(2, 5\)"),
        (torch.ones(3, 4), torch.ones(4), [], r"not \(3, 4\) and \(4,\)"),
        (torch.ones(3, 4), torch.ones(0, 4), [], r"not empty, not \(3, 4\) and \(0, 4\)"),
        (torch.ones(3, 4).half(), torch.ones(2, 4), [], "must be float32, not torch.float16 and torch.float32"),
        (torch.ones(3, 4), torch.ones(2, 4).double(), [], "must be float32, not torch.float32 and torch.float64"),
        (torch.ones(0, 4), torch.ones(2, 4), [], r"not empty, not \(0, 4\)"),
        (torch.full((3, 4), math.nan), torch.ones(2, 4), [], "y holds NaN or infinity"),
        (torch.ones(3, 4), torch.full((2, 4), -math.inf), [], "t holds NaN or infinity"),
        (torch.ones(3, 4), torch.ones(2, 4), [0.1, -0.2], "at least 0, not -0.2"),
        (torch.ones(3, 4), torch.ones(2, 4), [math.inf], "at least 0, not inf"),
    ],
)
def test_what_cannot_be_described_is_refused_by_name(
    y: Tensor, t: Tensor, thresholds: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        describe_over_time(y, t, thresholds)
