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
AT = {"when": "at", "steps": [0, 10]}


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
        ({"when": "sometimes"}, "'every', 'first', 'last' or 'at'"),
        ({"when": "at"}, "'at' needs steps"),
        ({"when": "at", "steps": [1], "count": 2}, "count 2 has no meaning with 'at'"),
        ({"when": "first", "steps": [1]}, "steps have no meaning with 'first'"),
        ({"when": "at", "steps": []}, "steps are empty"),
        ({"when": "at", "steps": [3, 0, 3]}, "step 3 is given more than once"),
        ({"when": "at", "steps": [-1]}, "greater than or equal to 0"),
        ({"when": "at", "steps": ["1"]}, "valid integer"),
        ({"when": "at", "steps": [True]}, "valid integer"),
        ({"when": "at", "steps": list(range(4097))}, "at most 4096"),
    ],
)
def test_a_schedule_that_says_no_steps_is_refused(said: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        read_schedule(said)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({}, "one of threshold, threshold_by_step, remove_fraction, keep and keep_fraction"),
        (
            {"threshold": 0.1, "keep": 3},
            "one of threshold, threshold_by_step, remove_fraction, keep and keep_fraction",
        ),
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
        ({"threshold_by_step": [0.1, 0.2], "threshold": 0.1}, "exactly one of"),
        (
            {"threshold_by_step": [0.1, 0.2], "by": "variance"},
            "goes with keep, not with threshold_by_step",
        ),
        ({"threshold_by_step": [0.1, 0.2], "schedule": {"when": "first"}}, "does not go with threshold_by_step"),
        ({"threshold_by_step": [None, None]}, "no step has a threshold"),
        ({"threshold_by_step": []}, "no step has a threshold"),
        ({"threshold_by_step": [0.1, -0.2]}, "greater than or equal to 0"),
        ({"threshold_by_step": [0.1, float("nan")]}, "finite"),
        ({"threshold_by_step": [0.1, True]}, "valid number"),
        ({"threshold": 0.1, "blocks": []}, "blocks are empty"),
        ({"threshold": 0.1, "blocks": [2, 2]}, "block 2 is given more than once"),
        ({"threshold": 0.1, "blocks": ["final", "final"]}, "block final is given more than once"),
        ({"threshold": 0.1, "blocks": [-1]}, "the number of a block, counted from 0, or 'final'"),
        ({"threshold": 0.1, "blocks": ["first"]}, "the number of a block, counted from 0, or 'final'"),
        ({"threshold": 0.1, "blocks": [True]}, "the number of a block, counted from 0, or 'final'"),
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
        {"threshold_by_step": [0.1, None, 0.3], "blocks": ["final", 0]},
        {"keep": 3, "schedule": {"when": "at", "steps": [2, 0]}},
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
        ({"threshold": 0.05, "schedule": {"when": "at", "steps": [7, 0, 3, 2]}}, "tail 0.05, steps 0 2-3 7"),
        ({"threshold": 0.05, "schedule": {"when": "at", "steps": [4]}, "fill": "mean"}, "tail 0.05, step 4, mean"),
        ({"keep": 8, "blocks": ["final", 2, 0, 1]}, "keep 8, blocks 0-2 final"),
        ({"threshold": 0.05, "schedule": LAST, "blocks": [3]}, "tail 0.05, last 10 steps, block 3"),
        ({"threshold": 0.05, "blocks": ["final"]}, "tail 0.05, the final layer"),
    ],
)
def test_a_name_says_what_is_not_usual(said: dict[str, Any], name: str) -> None:
    assert prune(**said).name == name


def test_a_name_is_short_however_many_steps_there_are() -> None:
    one, other = [*range(0, 1000, 2)], [*range(0, 998, 2), 999]
    names = [prune(threshold=0.1, schedule={"when": "at", "steps": steps}).name for steps in (one, other)]
    names += [prune(threshold_by_step=[step / 1000 for step in steps], side="head").name for steps in (one, other)]
    assert names[0].startswith("tail 0.1, steps 500 of 0-998 ")
    assert names[2].startswith("head 0 to 0.998 by step ")
    assert len(set(names)) == 4
    assert max(map(len, names)) < 50


def test_thresholds_that_are_equal_have_one_name_however_they_are_written() -> None:
    one, other = prune(threshold_by_step=[1, None]), PruneSpec(threshold_by_step=(1.0, None)).resolved()
    assert (one, one.name) == (other, other.name)


@pytest.mark.parametrize(
    ("said", "way"),
    [
        ({"threshold": 0.05}, "tail, every step"),
        ({"remove_fraction": 0.05, "side": "head", "schedule": LAST}, "head, last 10 steps"),
        ({"threshold": 0.05, "of": "read", "fill": "mean"}, "tail of SiLU(c), every step, filled with the mean"),
        ({"keep": 3, "fill": "zero"}, "kept by variance, every step, filled with zeros"),
        ({"keep_fraction": 0.3, "by": "magnitude", "blocks": [0]}, "kept by magnitude, every step, block 0"),
        ({"threshold_by_step": [0.1, None]}, "tail by step, every step"),
        ({"threshold": 1, "schedule": {"when": "at", "steps": [0, 2]}}, "tail, steps 0 2"),
    ],
)
def test_a_way_is_all_of_a_prune_but_its_number(said: dict[str, Any], way: str) -> None:
    assert prune(**said).way == way


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({"when": "every"}, None),
        ({"when": "last", "count": 5}, None),
        ({"when": "at", "steps": [0, 4]}, None),
        ({"when": "last", "count": 6}, ("count", "count 6 is more than the 5 steps")),
        ({"when": "at", "steps": [5, 1]}, ("steps", "step 5 is outside 0 to 4, the 5 steps of the run")),
    ],
)
def test_a_schedule_that_a_run_does_not_have_is_named(said: dict[str, Any], fault: tuple[str, str] | None) -> None:
    assert read_schedule(said).fault(5) == fault


def test_different_prunes_have_different_names() -> None:
    ways: list[dict[str, Any]] = [{"keep": 1}, {"keep_fraction": 0.1}]
    ways += [{"keep": 1, "by": by} for by in ("magnitude", "deviation")]
    ways += [{"keep": 1, "by": "magnitude", "of": "read"}]
    for rule in ("threshold", "remove_fraction"):
        ways += [{rule: 0.1, "side": side, "of": of} for side in ("tail", "head") for of in ("c", "read")]
    all_of_them = [
        prune(**way, fill=fill, schedule=schedule, blocks=blocks)
        for way in ways
        for blocks in (None, [0], [10], [1, 0], ["final"], ["final", 0])
        for fill in ("zero", "mean")
        for schedule in ({"when": "every"}, {"when": "first"}, {"when": "first", "count": 10}, LAST, AT)
    ]
    all_of_them += [prune(threshold_by_step=by_step) for by_step in ([0.1, None], [None, 0.1], [0.1, 0.1])]
    assert len({spec.name for spec in all_of_them}) == len(all_of_them)


def test_two_numbers_never_look_alike() -> None:
    numbers = [0.0, 1e-9, 0.1, 0.1 + 1e-16, 0.30000000000000004, 0.3, 1.0, 10.0, 1e16]
    written = [plain(number) for number in sorted(set(numbers))]
    assert all(one != other for one, other in pairwise(written))
    assert [float(text) for text in written] == sorted(set(numbers))
    assert plain(10.0) == "10"
