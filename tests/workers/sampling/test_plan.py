from __future__ import annotations

from typing import Any

import pytest

import tailprune
from jobs.registry.models import Registry
from jobs.requests.prune_sample import PruneSampleRequest
from jobs.settings import Settings
from tests.tiny_model import NAME
from workers.sampling.plan import Plan, Sample


@pytest.fixture
def plan(settings: Settings) -> Any:
    entry = Registry.read(settings.registry).get(NAME)

    def plan(rows_at_once: int = 64, **body: Any) -> Plan:
        request = PruneSampleRequest(model=NAME, **body)
        return Plan.of(request.resolve(entry, settings), rows_at_once)

    return plan


def test_the_baseline_comes_first_and_every_threshold_is_a_variant(plan: Any) -> None:
    edits = plan(threshold=[0.01, 5.0], side="head").variants
    assert [edit.name for edit in edits] == ["baseline", "head 0.01", "head 5"]
    assert [edit.slug for edit in edits] == ["baseline", "head-0.01", "head-5"]
    assert edits[0].prune is None
    assert edits[1].prune == tailprune.Prune("head", 0.01)
    assert edits[1].spec.threshold == 0.01


def test_without_compare_there_is_no_baseline(plan: Any) -> None:
    assert [edit.name for edit in plan(threshold=0.1, compare=False).variants] == ["tail 0.1"]


def test_thresholds_that_nearly_agree_have_different_names(plan: Any) -> None:
    edits = plan(threshold=[0.1, 0.1 + 1e-12]).variants
    assert len({edit.slug for edit in edits}) == 3


def test_keep_fill_and_schedule_reach_the_prune(plan: Any) -> None:
    schedule = {"when": "last", "count": 2}
    (edit,) = plan(keep=8, fill="zero", schedule=schedule, compare=False).variants
    assert edit.prune == tailprune.Prune.keep(8, fill="zero", schedule="last", count=2)
    assert edit.spec.keep == 8


@pytest.mark.parametrize(
    ("schedule", "name", "slug"),
    [
        ({"when": "every"}, "tail 0.05", "tail-0.05"),
        ({"when": "first"}, "tail 0.05, first step", "tail-0.05-first-step"),
        ({"when": "first", "count": 2}, "tail 0.05, first 2 steps", "tail-0.05-first-2-steps"),
        ({"when": "last", "count": 3}, "tail 0.05, last 3 steps", "tail-0.05-last-3-steps"),
    ],
)
def test_the_name_of_a_variant_says_at_which_steps_it_is_pruned(
    plan: Any, schedule: dict[str, Any], name: str, slug: str
) -> None:
    (edit,) = plan(threshold=0.05, schedule=schedule, compare=False).variants
    assert (edit.name, edit.slug) == (name, slug)


def test_guidance_is_the_requests(plan: Any) -> None:
    asked = plan(threshold=1, guidance_scale=3, guidance_interval=[0.2, 0.8], guidance_power=2, guided_channels=1)
    assert asked.guidance == tailprune.Guidance(scale=3, channels=1, power=2, interval=(0.2, 0.8))
    assert plan(threshold=1).guidance == tailprune.Guidance(scale=2, channels=3)


@pytest.mark.parametrize(("rows", "sizes"), [(64, [8]), (6, [3, 3, 2]), (1, [1] * 8)])
def test_chunks_hold_as_many_samples_as_fit_with_all_their_variants(plan: Any, rows: int, sizes: list[int]) -> None:
    chunks = plan(rows, threshold=0.1, labels=[0, 1], samples_per_label=4).chunks
    assert [len(chunk) for chunk in chunks] == sizes
    assert [(sample.subject, sample.number) for chunk in chunks for sample in chunk] == [
        (label, number) for label in (0, 1) for number in range(4)
    ]


def test_no_two_samples_of_a_seed_share_their_noise() -> None:
    seeds = {Sample(label, number).seed(7) for label in range(1000) for number in (0, 1, 255)}
    assert len(seeds) == 3000
    assert all(seed == 7 for seed, _ in seeds)
