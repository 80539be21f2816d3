"""The request of `compact`: what is filled in, what is the same job, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jobs.problems import InvalidRequest
from jobs.registry.compacted import Compacted
from jobs.registry.models import ModelEntry, Registry
from jobs.requests.compact import CompactRequest
from jobs.settings import Settings
from jobs.storage.artifacts import Artifact
from jobs.storage.condition_info import ConditionInfo
from tests.registry import extend, write_registry

OTHERS: dict[str, Any] = {
    "video": {"family": "mdsgen", "checkpoint": "video.safetensors", "condition_dim": 32},
    "told": {
        "family": "mg",
        "checkpoint": "told.safetensors",
        "classes": 3,
        "condition_dim": 32,
        "latent_shape": [4, 8, 8],
    },
    "shifted": {
        "family": "lightningdit",
        "checkpoint": "shifted.safetensors",
        "classes": 3,
        "condition_dim": 32,
        "latent_shape": [4, 8, 8],
        "defaults": {"timestep_shift": 0.3},
    },
}
VIDEOS = ConditionInfo(id="0" * 64, count=3, inputs={"video": [32, 512]}, family="mdsgen", bytes=1)
ONE_VIDEO = VIDEOS.model_copy(update={"count": 1})
MADE = Compacted(
    model="shapes-sit",
    model_digest="0" * 64,
    by="variance",
    fill="mean",
    components=128,
    kept=16,
    time_columns=3,
    created=datetime.now(UTC),
    parameters=1,
    checkpoint=Artifact(digest="1" * 64, media_type="application/octet-stream", size=1),
)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    path = write_registry(tmp_path / "models")
    extend(path, {"models": OTHERS})
    return Registry.read(path)


@pytest.fixture
def sit(registry: Registry) -> ModelEntry:
    return registry.get("shapes-sit")


def resolved(entry: ModelEntry, known: ConditionInfo | None = None, **fields: Any) -> CompactRequest:
    said = {"model": entry.name} | ({} if {"keep", "threshold"} & fields.keys() else {"keep": 16}) | fields
    return CompactRequest.model_validate(said).resolve(entry, Settings(), known)


def refused(entry: ModelEntry, known: ConditionInfo | None = None, **fields: Any) -> list[str]:
    with pytest.raises(InvalidRequest) as error:
        resolved(entry, known, **fields)
    return [f"{fault.location}: {fault.message}" for fault in error.value.faults]


def test_a_model_without_a_null_condition_covers_none(sit: ModelEntry) -> None:
    without = sit.model_copy(update={"null_condition": False})
    assert resolved(without).guided is False
    assert refused(without, guided=True) == ["body.guided: shapes-sit has no null condition to cover; leave guided out"]


def test_a_number_alone_keeps_what_varies_and_covers_the_models_own_sampling_of_all_classes(sit: ModelEntry) -> None:
    assert resolved(sit, keep=16).model_dump() == {
        "model": "shapes-sit",
        "threshold": None,
        "of": None,
        "side": None,
        "keep": 16,
        "by": "variance",
        "fill": "mean",
        "sampler": "euler",
        "steps": 50,
        "timestep_shift": None,
        "timesteps": None,
        "labels": None,
        "conditions": None,
        "rows": None,
        "guided": True,
    }


def test_a_threshold_alone_cuts_the_tail_to_zero(sit: ModelEntry) -> None:
    request = resolved(sit, threshold=0.1)
    assert (request.side, request.of, request.by, request.fill) == ("tail", "c", None, "zero")
    assert request.rule == "threshold"


def test_what_is_read_has_a_threshold_of_its_own(sit: ModelEntry) -> None:
    request = resolved(sit, threshold=0.1, of="read")
    assert (request.of, request.job_title) == ("read", "compact of shapes-sit at 0.1 of SiLU(c)")


@pytest.mark.parametrize("said", [{"fill": "refit"}, {"by": "prediction"}, {"by": "prediction", "fill": "refit"}])
def test_a_refit_is_of_the_components_that_predict_the_others(sit: ModelEntry, said: dict[str, Any]) -> None:
    request = resolved(sit, keep=16, **said)
    assert (request.by, request.fill, request.rule) == ("prediction", "refit", "prediction")
    assert request == resolved(sit, keep=16, fill="refit")


def test_other_components_may_be_refitted_too(sit: ModelEntry) -> None:
    request = resolved(sit, keep=16, by="variance", fill="refit")
    assert (request.by, request.fill) == ("variance", "refit")
    assert CompactRequest.model_validate(request.model_dump()) == request  # as the worker reads it
    assert resolved(sit, threshold=0.1, fill="refit").rule == "threshold"


def test_saying_a_default_makes_no_other_job(sit: ModelEntry) -> None:
    said = {"by": "variance", "fill": "mean", "sampler": "euler", "steps": 50, "guided": True}
    assert resolved(sit, labels=list(range(100)), **said) == resolved(sit)


def test_times_that_are_named_stand_in_the_place_of_a_sampling(sit: ModelEntry) -> None:
    request = resolved(sit, timesteps=[0.0, 0.5])
    assert (request.timesteps, request.sampler, request.steps, request.timestep_shift) == ([0.0, 0.5], None, None, None)


def test_a_shift_of_times_is_the_models_own_where_the_sampler_has_one(registry: Registry) -> None:
    shifted = registry.get("shifted")
    assert [resolved(shifted, sampler=name).timestep_shift for name in ("euler", "sde")] == [0.3, None]
    assert resolved(shifted, timestep_shift=0.5).timestep_shift == 0.5


def test_the_null_condition_is_covered_but_of_a_family_it_is_for_the_checkpoint_to_say(registry: Registry) -> None:
    assert resolved(registry.get("shapes-sit")).guided is True
    assert resolved(registry.get("told"), sampler="euler").guided is None
    assert [resolved(registry.get("told"), guided=guided).guided for guided in (True, False)] == [True, False]
    assert resolved(registry.get("shapes-sit"), guided=False).guided is False


def test_a_model_of_conditions_covers_all_of_them_unless_rows_are_given(registry: Registry) -> None:
    video = registry.get("video")
    assert resolved(video, VIDEOS, conditions=VIDEOS.id).rows is None
    assert resolved(video, VIDEOS, conditions=VIDEOS.id, rows=[2, 0, 1]).rows is None
    assert resolved(video, VIDEOS, conditions=VIDEOS.id, rows=[2]).rows == [2]


def test_more_classes_or_conditions_than_a_request_may_list_are_all_covered(registry: Registry) -> None:
    many = registry.get("shapes-sit").model_copy(update={"classes": 5000})
    videos = VIDEOS.model_copy(update={"count": 5000})
    for request in (resolved(many), resolved(registry.get("video"), videos, conditions=VIDEOS.id)):
        assert CompactRequest.model_validate(request.model_dump()) == request  # as the worker reads it


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({}, "exactly one of threshold and keep"),
        ({"keep": 3, "threshold": 0.1}, "exactly one of threshold and keep"),
        ({"keep": 3, "side": "tail"}, "side 'tail' goes with threshold"),
        ({"threshold": 0.1, "by": "directions"}, "by 'directions' goes with keep"),
        ({"keep": 3, "by": "directions", "fill": "zero"}, "fill 'zero' does not go with directions"),
        ({"keep": 3, "by": "directions", "fill": "refit"}, "fill 'refit' does not go with directions"),
        ({"keep": 3, "by": "prediction", "fill": "mean"}, "fill 'mean' does not go with by 'prediction'"),
        ({"keep": 3, "by": "magnitude"}, "by 'magnitude' keeps other components of every vector, so AdaLN"),
        ({"keep": 3, "by": "deviation"}, "by 'deviation' keeps other components of every vector, so AdaLN"),
        ({"keep": 3, "of": "c"}, "variance is that of what the blocks read, not of c"),
        ({"keep": 3, "fill": "median"}, "Input should be 'zero', 'mean' or 'refit'"),
        ({"keep": 3, "timesteps": [0.0], "steps": 10}, "leave steps out"),
        ({"keep": 3, "timesteps": [0.0], "sampler": "euler"}, "leave sampler out"),
        ({"keep": 3, "timesteps": [0.0], "timestep_shift": 0.3}, "leave timestep_shift out"),
        ({"keep": 3, "timesteps": [0.5, 0.5]}, "0.5 is given more than once"),
        ({"keep": 0}, "greater than or equal to 1"),
        ({"keep": 3, "schedule": {"when": "every"}}, "Extra inputs"),
    ],
)
def test_a_request_that_contradicts_itself_is_refused(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        CompactRequest.model_validate({"model": "shapes-sit"} | fields)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"keep": 129}, "body.keep: keep 129 is more than the 128 components of shapes-sit"),
        (
            {"keep": 128},
            "body.keep: keep 128 keeps all components of shapes-sit, which makes it no smaller; keep fewer",
        ),
        (
            {"timesteps": [0.0, 1.5]},
            "body.timesteps.1: time 1.5 is outside 0 to 1; times of this model are positions on the path, any numbers "
            "from 0 (noise) to 1 (data); the closest is 1",
        ),
        ({"labels": [3, 100]}, "body.labels.1: label 100 is outside 0 to 99, the classes of shapes-sit"),
        ({"rows": [0]}, "body.rows: rows select conditions, but shapes-sit takes labels; leave rows out"),
        (
            {"sampler": "ddim"},
            "body.sampler: sampler 'ddim' does not fit shapes-sit; use one of euler, heun, dopri5, sde",
        ),
        (
            {"sampler": "dopri5"},
            "body.sampler: dopri5 chooses its times while it samples, so they cannot be covered; give timesteps, or "
            "another sampler",
        ),
        (
            {"sampler": "sde", "timestep_shift": 0.3},
            "body.timestep_shift: timestep_shift applies only to the samplers 'euler' and 'heun'; leave it out",
        ),
        ({"steps": 1001}, "body.steps: 1001 steps is more than the 1000 allowed"),
    ],
)
def test_what_the_model_or_the_limits_do_not_allow_is_refused(
    sit: ModelEntry, fields: dict[str, Any], fault: str
) -> None:
    assert refused(sit, **fields) == [fault]


def test_a_threshold_of_zero_removes_no_tail(sit: ModelEntry) -> None:
    (fault,) = refused(sit, threshold=0)
    assert fault.startswith("body.threshold: no magnitude is below 0")
    assert resolved(sit, threshold=0, side="head").threshold == 0


def test_everything_that_is_wrong_is_named_at_once(sit: ModelEntry) -> None:
    assert len(refused(sit, keep=200, labels=[100], sampler="ddim", steps=2000)) == 4


def test_a_compacted_model_is_not_compacted_again(sit: ModelEntry) -> None:
    made = sit.model_copy(update={"name": "shapes-sit-compact-0123456789abcdef", "compacted": MADE})
    assert refused(made) == ["body.model: shapes-sit-compact-0123456789abcdef is compacted already; compact shapes-sit"]


def test_a_name_that_leaves_no_room_for_another_is_refused(sit: ModelEntry) -> None:
    assert resolved(sit.model_copy(update={"name": "a" * 75})).model == "a" * 75
    assert "is too long for that of a compacted model" in refused(sit.model_copy(update={"name": "a" * 76}))[0]


@pytest.mark.parametrize(("fields", "location"), [({"keep": 3}, "keep"), ({"threshold": 0.1, "fill": "mean"}, "fill")])
def test_one_condition_has_neither_mean_nor_variance(registry: Registry, fields: dict[str, Any], location: str) -> None:
    video = registry.get("video")
    (fault,) = refused(video, ONE_VIDEO, conditions=VIDEOS.id, **fields)
    assert fault.startswith(f"body.{location}: {location} depends on all conditions of the file, and this file has one")
    assert resolved(video, ONE_VIDEO, conditions=VIDEOS.id, threshold=0.1).rows is None


def test_a_model_of_conditions_needs_them(registry: Registry) -> None:
    assert refused(registry.get("video"))[0].startswith("body.conditions: video takes conditions of video 32 x 512")
