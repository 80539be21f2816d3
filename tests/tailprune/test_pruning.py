"""What a prune removes, when, and what stands in its place."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tailprune.pruning import Population, Prune

C = torch.tensor([[0.001, -0.02, 0.5, -6.0], [0.3, 0.009, -0.01, 2.0]])


def test_tail_zeroes_what_is_below_the_threshold_vector_by_vector() -> None:
    assert Prune("tail", 0.015)(C).tolist() == pytest.approx(
        [pytest.approx([0, -0.02, 0.5, -6.0]), pytest.approx([0.3, 0, 0, 2.0])]
    )


def test_head_zeroes_what_is_above_the_threshold() -> None:
    assert (Prune("head", 1.0)(C) == 0).tolist() == [[False, False, False, True], [False, False, False, True]]


def test_mean_fill_puts_the_classes_mean_in_the_place_of_what_goes() -> None:
    population = Population.of(C)
    edited = Prune("head", 1.0, fill="mean")(C, population)
    assert edited[:, 3].tolist() == pytest.approx([-2.0, -2.0])
    assert torch.equal(edited[:, :3], C[:, :3])


def test_keep_leaves_the_components_whose_activation_varies_most() -> None:
    vectors = torch.zeros(5, 6)
    vectors[:, 4] = torch.arange(5.0)
    vectors[:, 1] = torch.arange(5.0) * 0.5
    vectors[:, 0] = -40 - torch.arange(5.0) * 3  # varies most itself, but SiLU of it is 0
    edited = Prune.keep(2)(vectors, Population.of(vectors))
    assert torch.equal(edited[:, [1, 4]], vectors[:, [1, 4]])
    assert edited[:, 0].tolist() == pytest.approx([-46.0] * 5)


def test_keeping_every_component_changes_nothing() -> None:
    assert torch.equal(Prune.keep(4)(C, Population.of(C)), C)


def test_keeping_more_components_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot keep 5 components of vectors that have 4"):
        Prune.keep(5)(C, Population.of(C))


def test_the_rules_that_look_at_all_classes_say_so_when_they_are_missing() -> None:
    with pytest.raises(ValueError, match="need a population"):
        Prune.keep(2)(C)


@pytest.mark.parametrize(
    ("schedule", "count", "steps"),
    [
        ("every", None, [0, 1, 2, 3, 4]),
        ("first", None, [0]),
        ("first", 2, [0, 1]),
        ("last", 1, [4]),
        ("last", 3, [2, 3, 4]),
    ],
)
def test_schedules_are_active_on_their_steps(schedule: Any, count: int | None, steps: list[int]) -> None:
    prune = Prune("tail", 0.1, schedule=schedule, count=count)
    assert [i for i in range(5) if prune.active(i, 5)] == steps


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"side": "tail", "threshold": -0.1}, "at least 0"),
        ({"side": "tail", "threshold": math.nan}, "finite"),
        ({"side": "tail", "threshold": math.inf}, "finite"),
        ({"side": "middle", "threshold": 0.1}, "'tail' or 'head'"),
        ({"side": "tail", "threshold": 0.1, "fill": "noise"}, "'zero' or 'mean'"),
        ({"side": "tail", "threshold": 0.1, "schedule": "last"}, "needs count"),
        ({"side": "tail", "threshold": 0.1, "count": 3}, "'every' has no count"),
        ({"side": "tail", "threshold": 0.1, "schedule": "first", "count": 0}, "count.* of at least 1, not 0"),
        ({"side": "tail", "threshold": None}, "threshold"),
        ({"side": None, "kept": 0}, "at least 1, not 0"),
        ({"side": None, "kept": 2.5}, "whole number of at least 1"),
        ({"side": "tail", "threshold": 0.1, "kept": 3}, "neither side nor threshold"),
    ],
)
def test_a_prune_that_means_nothing_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Prune(**arguments)
