"""What a prune removes, when, and what stands in its place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from tailprune.condition_table import ConditionTable
from tailprune.prune_report import measure_removal
from tailprune.pruning import Population, Prune
from tailprune.sampling import sample, sampling_times
from tailprune.spec import InputError
from tailprune.spec.prune import PruneSpec, Schedule
from tailprune.systems import System

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


def test_any_steps_may_be_pruned_in_whatever_order_they_are_given() -> None:
    prune = Prune("tail", 0.1, "at", steps=[4, 0, 3])
    assert [i for i in range(5) if prune.active(i, 5)] == [0, 3, 4]
    assert prune == Prune("tail", 0.1, "at", steps=(0, 3, 4))
    for made in (Prune.keep(2, schedule="at", steps=[1]), Prune.keep_fraction(0.5, schedule="at", steps=[1]),
                 Prune.remove_fraction(0.5, schedule="at", steps=np.array([1]))):  # fmt: skip
        assert [i for i in range(3) if made.active(i, 3)] == [1]


def test_a_threshold_for_each_step_is_that_steps_edit() -> None:
    prune = Prune("head", [0.5, None, 0.25], fill="mean", blocks=[1, "final"])
    found = [prune.at(step, 3) for step in range(3)]
    assert found == [
        Prune("head", 0.5, fill="mean", blocks=[1, "final"]),
        None,
        Prune("head", 0.25, fill="mean", blocks=[1, "final"]),
    ]
    assert [prune.active(step, 3) for step in range(3)] == [True, False, True]
    with pytest.raises(ValueError, match=r"prune\.at\(step, steps\)"):
        prune(C, Population.of(C))


def test_a_prune_is_that_of_its_spec() -> None:
    spec = PruneSpec(threshold_by_step=(0.1, None), side="head", blocks=("final", 0)).resolved()
    assert Prune.from_spec(spec) == Prune("head", [0.1, None], blocks=[0, "final"])
    spec = PruneSpec(keep=3, schedule=Schedule("at", steps=(2, 0)), blocks=(1,)).resolved()
    assert Prune.from_spec(spec) == Prune.keep(3, schedule="at", steps=[0, 2], blocks=[1])


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
        ({"side": None, "kept": 2.5}, "above 0 and below 1, not 2.5"),
        ({"side": "tail", "threshold": 0.1, "kept": 3}, "neither side nor threshold"),
        ({"side": "tail", "threshold": 0.1, "schedule": "at"}, "'at' and steps go together"),
        ({"side": "tail", "threshold": 0.1, "steps": [1]}, "'at' and steps go together"),
        ({"side": "tail", "threshold": 0.1, "schedule": "at", "steps": [1], "count": 2}, "'at' has no count"),
        ({"side": "tail", "threshold": 0.1, "schedule": "at", "steps": []}, "steps are empty"),
        ({"side": "tail", "threshold": 0.1, "schedule": "at", "steps": [1, 1]}, "step 1 is given more than once"),
        ({"side": "tail", "threshold": 0.1, "schedule": "at", "steps": [-1]}, "at least 0, not -1"),
        ({"side": "tail", "threshold": 0.1, "schedule": "at", "steps": 3}, "steps must be in a list, not 3"),
        ({"side": "tail", "threshold": [0.1, None], "schedule": "first"}, "does not go with a threshold for each step"),
        ({"side": "tail", "threshold": [None, None]}, "no step has a threshold"),
        ({"side": "tail", "threshold": [0.1, -1]}, "at least 0, not -1"),
        ({"side": "tail", "threshold": [0.1, "0.2"]}, "finite number"),
        ({"side": "tail", "threshold": 0.1, "blocks": "final"}, "blocks must be in a list, not 'final'"),
        ({"side": "tail", "threshold": 0.1, "blocks": [-1]}, "number of at least 0, not -1"),
        ({"side": "tail", "threshold": 0.1, "blocks": ["last"]}, "or 'final', the final layer, not 'last'"),
        ({"side": None, "kept": 3, "by": "variance", "of": "read", "threshold": [0.1]}, "neither side nor threshold"),
    ],
)
def test_a_prune_that_means_nothing_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Prune(**arguments)


def test_magnitudes_of_what_is_read_are_those_behind_the_activation() -> None:
    edited = Prune("tail", 0.1, of="read")(C)
    assert edited[0].tolist() == [0, 0, 0.5, 0]  # SiLU(-6) is -0.015: large, and silent
    assert edited[1].tolist() == pytest.approx([0.3, 0, 0, 2.0])  # SiLU(0.3) is 0.17


def test_keeping_by_magnitude_is_vector_by_vector() -> None:
    assert (Prune.keep(1, by="magnitude", fill="zero")(C) != 0).tolist() == [
        [False, False, False, True],
        [False, False, False, True],
    ]
    assert (Prune.keep(1, by="magnitude", fill="zero", of="read")(C) != 0).tolist() == [
        [False, False, True, False],
        [False, False, False, True],
    ]


def test_keeping_by_deviation_keeps_where_a_vector_differs_from_the_mean() -> None:
    vectors = torch.tensor([[9.0, 1.0, 0.0], [9.0, 0.0, 2.0], [9.0, 0.0, 0.0]])
    edited = Prune.keep(1, by="deviation")(vectors, Population.of(vectors))
    mean = vectors.mean(0)
    assert torch.equal(edited[0], torch.stack([mean[0], vectors[0, 1], mean[2]]))
    assert torch.equal(edited[1], torch.stack([mean[0], mean[1], vectors[1, 2]]))


def test_a_share_that_is_kept_is_rounded_and_never_none() -> None:
    vectors = torch.randn(4, 10, generator=torch.Generator().manual_seed(0))
    for share, kept in ((0.34, 3), (0.36, 4), (0.01, 1)):
        removed = Prune.keep_fraction(share, by="magnitude").removed(vectors)
        assert removed.sum(1).tolist() == [10 - kept] * 4


@pytest.mark.parametrize("side", ["tail", "head"])
@pytest.mark.parametrize("of", ["c", "read"])
@pytest.mark.parametrize("share", [0.1, 0.66, 0.9])
def test_the_share_that_was_asked_for_is_what_a_run_loses(sit: System, side: Any, of: Any, share: float) -> None:
    times = sampling_times(sit, "euler", 7)
    inputs = {"labels": torch.tensor([0, 3, 1])}
    for schedule in ({}, {"schedule": "last", "count": 3}):
        removal = measure_removal(sit, inputs, Prune.remove_fraction(share, side, of=of, **schedule), times)
        assert removal.fraction == pytest.approx(share, abs=0.5 / (3 * sit.condition_dim * 3))
        assert removal.threshold is not None
        given = Prune(side, removal.threshold, of=of, **schedule)
        assert measure_removal(sit, inputs, given, times) == removal


def test_samples_under_a_share_are_those_under_the_threshold_that_it_comes_to(sit: System) -> None:
    inputs, options = {"labels": torch.tensor([0, 3])}, {"seeds": [1, 2], "steps": 5, "guidance": 2.0}
    by_share = Prune.remove_fraction(0.5)
    threshold = ConditionTable(sit, inputs, sampling_times(sit, "euler", 5)).resolved(by_share).threshold
    one, other = sample(sit, inputs, prune=[by_share, Prune("tail", threshold)], **options)
    assert torch.equal(one, other)
    assert not torch.equal(one, sample(sit, inputs, **options))


def test_dopri5_removes_a_share_of_evenly_spaced_times(sit: System) -> None:
    inputs, options = {"labels": torch.tensor([3])}, {"seeds": [1], "sampler": "dopri5", "steps": 6}
    times = sampling_times(sit, "dopri5", 6)
    threshold = ConditionTable(sit, inputs, times).resolved(Prune.remove_fraction(0.5)).threshold
    one, other = sample(sit, inputs, prune=[Prune.remove_fraction(0.5), Prune("tail", threshold)], **options)
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Prune.keep(3, by="size"), "ranked by 'magnitude', 'variance' or 'deviation', not by 'size'"),
        (lambda: Prune.keep(3, by="deviation", of="c"), "deviation is that of what the blocks read"),
        (lambda: Prune.keep_fraction(0.0), "above 0 and below 1, not 0"),
        (lambda: Prune.keep_fraction(1), "above 0 and below 1, not 1"),
        (lambda: Prune.remove_fraction(1.5), "above 0 and below 1, not 1.5"),
        (lambda: Prune("tail", 0.1, removed_share=0.5), "a share that is removed has no threshold"),
        (lambda: Prune("tail", 0.1, of="x"), "of must be 'c' or 'read', not 'x'"),
        (lambda: Prune("tail", 0.1, by="variance"), "by 'variance' ranks components to keep"),
    ],
)
def test_a_rule_that_means_nothing_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_named_components_are_kept_of_every_vector() -> None:
    c = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    prune = Prune.components([6, 0, 3], fill="zero")
    assert prune.only == (0, 3, 6)
    assert not prune.needs_population
    gone = torch.tensor([False, True, True, False, True, True, False, True])
    assert torch.equal(prune.removed(c), gone.expand_as(c))
    assert torch.equal(prune(c), c.masked_fill(gone, 0))
    population = Population.of(c)
    assert torch.equal(Prune.components([0, 3, 6])(c, population), torch.where(gone, population.mean.unsqueeze(-2), c))
    assert Prune.components({3, 6, 0}, "zero") == prune
    assert Prune.components([0], schedule="last", count=2).active(8, 10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Prune.components([]), "empty: name at least one"),
        (lambda: Prune.components([1, 1]), "named more than once"),
        (lambda: Prune.components([-1]), "whole number of at least 0, not -1"),
        (lambda: Prune.components([0.5]), "whole number of at least 0, not 0.5"),
        (lambda: Prune.components("01"), "indices in a list, such as"),
        (lambda: Prune.components(5), "indices in a list, such as"),
        (lambda: Prune("tail", 0.1, only=(1,)), "has no other rule"),
        (lambda: Prune.components([1], fill="ones"), "fill must be 'zero' or 'mean'"),
        (lambda: Prune.components([8], "zero")(torch.zeros(2, 8)), "cannot keep component 8 of vectors that have 8"),
    ],
)
def test_components_that_cannot_be_kept_are_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
