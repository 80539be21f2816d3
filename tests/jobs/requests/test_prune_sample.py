"""Requests: what is refused, what is filled in, and what is the same job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jobs.keys import job_key
from jobs.problems import InvalidRequest
from jobs.registry.models import ModelEntry, Registry
from jobs.requests.metrics import MetricsRequest
from jobs.requests.prune_sample import PruneSampleRequest
from jobs.settings import Settings
from tests.registry import write_registry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry.read(write_registry(tmp_path / "models"))


@pytest.fixture
def sit(registry: Registry) -> ModelEntry:
    return registry.get("shapes-sit")


@pytest.fixture
def dit(registry: Registry) -> ModelEntry:
    return registry.get("absent-dit")


LIMITS = Settings(max_samples=8, max_variants=2, max_steps=100)


def request(**fields: Any) -> PruneSampleRequest:
    return PruneSampleRequest.model_validate({"model": "shapes-sit", "threshold": 0.1} | fields)


def refused(entry: ModelEntry, **fields: Any) -> list[str]:
    with pytest.raises(InvalidRequest) as error:
        request(**fields).resolve(entry, LIMITS)
    return [f"{fault.location}: {fault.message}" for fault in error.value.faults]


def test_a_model_without_a_null_condition_is_not_guided(sit: ModelEntry) -> None:
    whole = sit.model_copy(
        update={"null_condition": False, "defaults": sit.defaults.model_copy(update={"guidance_scale": 1.0})}
    )
    assert request().resolve(whole, LIMITS).guidance_scale == 1
    (found,) = refused(whole, guidance_scale=1.5)
    assert found.startswith("body.guidance_scale: guidance_scale 1.5 needs a null condition, and shapes-sit has none")


@pytest.mark.parametrize(
    "fields",
    [
        {"threshold": -0.1},
        {"threshold": float("nan")},
        {"threshold": float("inf")},
        {"threshold": []},
        {"threshold": [0.1, 0.1]},
        {"threshold": "0.1"},
        {"threshold": True},
        {"keep": 3},
        {"threshold": None, "keep": 0},
        {"threshold": None, "keep": 3, "side": "tail"},
        {"by": "variance"},
        {"side": "middle"},
        {"schedule": {"when": "last"}},
        {"schedule": {"when": "every", "count": 3}},
        {"schedule": {"when": "first", "count": 0}},
        {"schedule": {"when": "at"}},
        {"schedule": {"when": "at", "steps": []}},
        {"schedule": {"when": "at", "steps": [2, 2]}},
        {"schedule": {"when": "first", "steps": [2]}},
        {"threshold_by_step": [0.1, 0.2]},
        {"threshold": None, "threshold_by_step": [None, None]},
        {"threshold": None, "threshold_by_step": [0.1]},
        {"threshold": None, "threshold_by_step": [0.1, -0.2]},
        {"threshold": None, "threshold_by_step": [0.1, True]},
        {"threshold": None, "threshold_by_step": [0.1, 0.2], "schedule": {"when": "first"}},
        {"blocks": []},
        {"blocks": [0, 0]},
        {"blocks": [-1]},
        {"blocks": ["1"]},
        {"blocks": "final"},
        {"labels": []},
        {"labels": [1, 1]},
        {"labels": [-1]},
        {"labels": [1.5]},
        {"samples_per_label": 0},
        {"seed": -1},
        {"seed": 2**63},
        {"steps": 1},
        {"guidance_scale": 0.5},
        {"guidance_scale": float("nan")},
        {"guidance_interval": [0.1]},
        {"guidance_power": 0.0},
        {"guided_channels": 0},
        {"guided_channels": "some"},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_request_of_a_wrong_shape_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        request(**fields)


def test_defaults_come_from_the_model(sit: ModelEntry) -> None:
    resolved = request().resolve(sit, LIMITS)
    assert resolved.threshold == [0.1]
    assert (resolved.side, resolved.fill, resolved.by) == ("tail", "zero", None)
    assert (resolved.sampler, resolved.steps, resolved.guidance_scale) == ("euler", 50, 2.5)
    assert (resolved.labels, resolved.samples_per_label, resolved.guided_channels) == ([0, 11], 1, "all")


def test_what_is_kept_is_chosen_by_variance_and_the_rest_filled_with_the_mean(sit: ModelEntry) -> None:
    resolved = request(threshold=None, keep=64).resolve(sit, LIMITS)
    assert (resolved.keep, resolved.by, resolved.fill, resolved.side) == ([64], "variance", "mean", None)


def test_the_first_step_is_one_step_by_default(sit: ModelEntry) -> None:
    assert request(schedule={"when": "first"}).schedule.count == 1


def test_a_threshold_for_each_step_is_one_prune(sit: ModelEntry) -> None:
    by_step = [0.1, None, *([0.5] * 48)]
    resolved = request(threshold=None, threshold_by_step=by_step, blocks=["final", 0]).resolve(sit, LIMITS)
    assert (resolved.threshold_by_step, resolved.side, resolved.fill) == (by_step, "tail", "zero")
    (prune,) = resolved.prunes
    assert (prune.threshold_by_step, prune.blocks) == (tuple(by_step), (0, "final"))
    assert resolved.job_title == "prune-sample of shapes-sit at 0.1 to 0.5 by step, blocks 0 final"
    assert resolved.pruned_at is None


def test_steps_and_blocks_in_another_order_are_the_same_job(sit: ModelEntry) -> None:
    one, other = (
        request(schedule={"when": "at", "steps": steps}, blocks=blocks).resolve(sit, LIMITS)
        for steps, blocks in (([3, 0, 7], [1, "final", 0]), ([0, 3, 7], [0, 1, "final"]))
    )
    assert one == other
    assert one.job_title == "prune-sample of shapes-sit at 0.1, steps 0 3 7, blocks 0-1 final"


def test_sde_has_its_own_defaults(sit: ModelEntry) -> None:
    resolved = request(sampler="sde").resolve(sit, LIMITS)
    assert (resolved.diffusion, resolved.last_step) == ("sigma", "mean")


@pytest.mark.parametrize(
    "fields",
    [
        {"sampler": "sde"},
        {"threshold": None, "threshold_by_step": [0.1, None, 0.3], "steps": 3, "blocks": [1, 0]},
        {"schedule": {"when": "at", "steps": [3, 1]}, "of": "read"},
    ],
)
def test_a_resolved_request_resolves_to_itself(sit: ModelEntry, fields: dict[str, Any]) -> None:
    resolved = request(**fields).resolve(sit, LIMITS)
    assert resolved.resolve(sit, LIMITS) == resolved
    assert PruneSampleRequest.model_validate(resolved.model_dump(mode="json")) == resolved


def test_spelling_out_a_default_is_the_same_job(sit: ModelEntry) -> None:
    short, long = (r.resolve(sit, LIMITS) for r in (request(), request(threshold=[0.1], steps=50, side="tail")))
    assert job_key("prune-sample", short.model_dump(), "w", {}) == job_key("prune-sample", long.model_dump(), "w", {})


def test_other_weights_are_another_job(sit: ModelEntry) -> None:
    asked = request().resolve(sit, LIMITS).model_dump()
    assert job_key("prune-sample", asked, "w", {}) != job_key("prune-sample", asked, "v", {})
    assert job_key("prune-sample", asked, "w", {"num_heads": 4}) != job_key(
        "prune-sample", asked, "w", {"num_heads": 8}
    )


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"labels": [0, 100]}, "body.labels.1: label 100 is outside 0 to 99"),
        ({"threshold": None, "keep": 129}, "body.keep.0: keep 129 is more than the 128 components"),
        ({"sampler": "ddim"}, "body.sampler: sampler 'ddim' does not fit shapes-sit; use one of euler, heun"),
        ({"guided_channels": 4}, "body.guided_channels: guided_channels 4 is more than the 3"),
        ({"guidance_interval": [0.5, 0.5]}, "body.guidance_interval: the interval 0.5 to 0.5 is empty"),
        ({"guidance_interval": [0.5, 1.5]}, "body.guidance_interval.1: time 1.5 is outside 0 to 1"),
        ({"diffusion": "sigma"}, "body.diffusion: diffusion 'sigma' applies only to the sampler 'sde'"),
        ({"sampler": "dopri5", "schedule": {"when": "first"}}, "body.schedule.when: dopri5 chooses its own"),
        ({"samples_per_label": 5}, "body.samples_per_label: 2 labels x 5 samples is 10 samples; a job makes at most 8"),
        ({"steps": 101}, "body.steps: 101 steps is more than the 100 allowed"),
        ({"schedule": {"when": "last", "count": 51}}, "body.schedule.count: count 51 is more than the 50 steps"),
        (
            {"schedule": {"when": "at", "steps": [0, 50]}},
            "body.schedule.steps: step 50 is outside 0 to 49, the 50 steps of the run",
        ),
        (
            {"sampler": "dopri5", "schedule": {"when": "at", "steps": [0]}},
            "body.schedule.when: dopri5 chooses its own steps, so 'at' steps cannot be pruned",
        ),
        (
            {"threshold": None, "threshold_by_step": [0.1, 0.2]},
            "body.threshold_by_step: there are 2 thresholds for 50 steps; give one for each step, pruned or not",
        ),
        (
            {"threshold": None, "threshold_by_step": [0.1] * 50, "sampler": "dopri5"},
            "body.threshold_by_step: dopri5 chooses its own steps, so there is no threshold for each",
        ),
        ({"threshold": [0.1, 0.2, 0.3]}, "body.threshold: 3 prunes is more than the 2 of one job"),
    ],
    ids=str,
)
def test_what_the_model_or_the_limits_do_not_allow_is_named(
    sit: ModelEntry, fields: dict[str, Any], fault: str
) -> None:
    (said,) = refused(sit, **fields)
    assert said.startswith(fault)


def test_a_block_that_a_model_does_not_have_is_named_where_its_depth_is_known(sit: ModelEntry) -> None:
    known = sit.model_copy(update={"depth": 4})
    assert refused(known, blocks=[3, 4, "final"]) == [
        "body.blocks.1: block 4 is outside 0 to 3, the blocks of shapes-sit; its final layer is 'final'"
    ]
    assert request(blocks=[4]).resolve(sit, LIMITS).blocks == [4]


def test_everything_wrong_is_named_at_once(sit: ModelEntry) -> None:
    assert len(refused(sit, labels=[100, 101], steps=101)) == 3


def test_metrics_are_measured_where_sampling_starts(sit: ModelEntry, dit: ModelEntry) -> None:
    assert MetricsRequest(model="shapes-sit").resolve(sit, LIMITS).timestep == 0.0
    assert MetricsRequest(model="absent-dit").resolve(dit, LIMITS).timestep == 999


@pytest.mark.parametrize(
    ("part", "timestep", "fault"),
    [
        ("y", 0.5, "part 'y' is measured without a timestep"),
        ("c", 1000.0, "time 1000 is outside 0 to 999"),
        ("c", 0.5, "time 0.5 is not a whole number"),
    ],
)
def test_a_timestep_that_there_is_not_is_refused(dit: ModelEntry, part: Any, timestep: float, fault: str) -> None:
    with pytest.raises(InvalidRequest, match=fault):
        MetricsRequest(model="absent-dit", part=part, timestep=timestep).resolve(dit, LIMITS)
