"""A prune: what is refused, what is filled in, and its name."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from tailprune.spec.prune import PruneSpec, Schedule, plain

read_prune = TypeAdapter(PruneSpec).validate_python
read_schedule = TypeAdapter(Schedule).validate_python

LAST = {"when": "last", "count": 10}


def prune(**said: Any) -> PruneSpec:
    return read_prune(said).resolved()


def test_the_first_step_is_one_step_by_default() -> None:
    assert read_schedule({"when": "first"}) == Schedule(when="first", count=1)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"when": "last"}, "'last' needs count"),
        ({"when": "every", "count": 3}, "count 3 has no meaning with 'every'"),
        ({"when": "first", "count": 0}, "greater than or equal to 1"),
        ({"when": "sometimes"}, "'every', 'first' or 'last'"),
    ],
)
def test_a_schedule_that_says_no_steps_is_refused(said: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        read_schedule(said)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({}, "exactly one of threshold, remove_fraction, keep and keep_fraction"),
        ({"threshold": 0.1, "keep": 3}, "exactly one of threshold, remove_fraction, keep and keep_fraction"),
        ({"keep": 3, "side": "tail"}, "side 'tail' goes with threshold"),
        ({"threshold": 0.1, "by": "variance"}, "by 'variance' goes with keep"),
        ({"threshold": -0.1}, "greater than or equal to 0"),
        ({"threshold": float("nan")}, "finite|nan"),
        ({"threshold": "0.1"}, "valid number"),
        ({"keep": 0}, "greater than or equal to 1"),
        ({"threshold": 0.1, "fill": "noise"}, "'zero' or 'mean'"),
        ({"threshold": 0.1, "surprise": 1}, "Unexpected keyword"),
        ({"threshold": 0.1, "remove_fraction": 0.5}, "exactly one of"),
        ({"keep_fraction": 0.5, "side": "head"}, "side 'head' goes with threshold, not with keep_fraction"),
        ({"remove_fraction": 0.5, "by": "deviation"}, "by 'deviation' goes with keep, not with remove_fraction"),
        ({"keep": 3, "by": "deviation", "of": "c"}, "deviation is that of what the blocks read"),
        ({"keep": 3, "of": "c"}, "variance is that of what the blocks read"),
        ({"remove_fraction": 1.0}, "less than 1"),
        ({"keep_fraction": 0}, "greater than 0"),
    ],
)
def test_a_prune_that_says_no_rule_or_two_is_refused(said: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        read_prune(said)


def test_a_threshold_cuts_the_tail_to_zero_by_default() -> None:
    found = prune(threshold=0.1)
    assert (found.side, found.fill, found.by, found.schedule.when) == ("tail", "zero", None, "every")


def test_what_is_kept_is_ranked_by_variance_and_the_rest_the_mean_by_default() -> None:
    found = prune(keep=3)
    assert (found.by, found.fill, found.side) == ("variance", "mean", None)
    assert prune(keep=3, fill="zero").fill == "zero"


@pytest.mark.parametrize(
    "said",
    [
        {"threshold": 0.1, "side": "head", "fill": "mean"},
        {"keep": 3},
        {"keep_fraction": 0.3, "by": "deviation"},
        {"remove_fraction": 0.66, "of": "read"},
    ],
)
def test_a_resolved_prune_resolves_to_itself(said: dict[str, Any]) -> None:
    assert prune(**said).resolved() == prune(**said)


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ({"threshold": 0.05}, "tail 0.05"),
        ({"threshold": 2, "side": "head"}, "head 2"),
        ({"threshold": 0.05, "fill": "mean", "schedule": LAST}, "tail 0.05, last 10 steps, mean"),
        ({"keep": 8}, "keep 8"),
        ({"keep": 8, "fill": "zero", "schedule": {"when": "first"}}, "keep 8, first step, zero"),
        ({"threshold": 0.05, "of": "read"}, "tail 0.05 of SiLU(c)"),
        ({"remove_fraction": 0.66}, "remove 0.66"),
        ({"remove_fraction": 0.05, "side": "head", "fill": "mean"}, "remove 0.05 of the head, mean"),
        ({"keep": 43, "by": "deviation"}, "keep 43 by deviation"),
        ({"keep_fraction": 0.34, "by": "magnitude", "of": "read"}, "keep 0.34 by magnitude of SiLU(c)"),
    ],
)
def test_a_name_says_what_is_not_usual(said: dict[str, Any], name: str) -> None:
    assert prune(**said).name == name


def test_different_prunes_have_different_names() -> None:
    ways: list[dict[str, Any]] = [{"keep": 1}, {"keep_fraction": 0.1}]
    ways += [{"keep": 1, "by": by} for by in ("magnitude", "deviation")]
    ways += [{"keep": 1, "by": "magnitude", "of": "read"}]
    for rule in ("threshold", "remove_fraction"):
        ways += [{rule: 0.1, "side": side, "of": of} for side in ("tail", "head") for of in ("c", "read")]
    all_of_them = [
        prune(**way, fill=fill, schedule=schedule)
        for way in ways
        for fill in ("zero", "mean")
        for schedule in ({"when": "every"}, {"when": "first"}, {"when": "first", "count": 10}, LAST)
    ]
    assert len({spec.name for spec in all_of_them}) == len(all_of_them)


def test_two_numbers_never_look_alike() -> None:
    numbers = [0.0, 1e-9, 0.1, 0.1 + 1e-16, 0.30000000000000004, 0.3, 1.0, 10.0, 1e16]
    written = [plain(number) for number in sorted(set(numbers))]
    assert all(one != other for one, other in pairwise(written))
    assert [float(text) for text in written] == sorted(set(numbers))
    assert plain(10.0) == "10"
