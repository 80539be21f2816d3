"""The request of `extract`: what is filled in, what is the same job, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jobs.problems import InvalidRequest
from jobs.registry.models import ModelEntry, Registry
from jobs.requests.extract import ExtractRequest
from jobs.settings import Settings
from jobs.storage.condition_info import ConditionInfo
from tests.registry import extend, write_registry

VIDEO_MODEL = {"family": "mdsgen", "checkpoint": "video.safetensors", "condition_dim": 32}
VIDEOS = ConditionInfo(id="0" * 64, count=3, inputs={"video": [32, 512]}, family="mdsgen", bytes=1)
NAMED = {"model": "video", "conditions": VIDEOS.id}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    path = write_registry(tmp_path / "models")
    extend(path, {"models": {"video": VIDEO_MODEL}})
    return Registry.read(path)


@pytest.fixture
def sit(registry: Registry) -> ModelEntry:
    return registry.get("shapes-sit")


@pytest.fixture
def video(registry: Registry) -> ModelEntry:
    return registry.get("video")


def resolved(
    entry: ModelEntry, known: ConditionInfo | None = None, settings: Settings | None = None, **fields: Any
) -> ExtractRequest:
    request = ExtractRequest.model_validate({"model": entry.name} | fields)
    return request.resolve(entry, settings or Settings(), known)


def refused(entry: ModelEntry, known: ConditionInfo | None = None, **fields: Any) -> list[str]:
    with pytest.raises(InvalidRequest) as error:
        resolved(entry, known, **fields)
    return [f"{fault.location}: {fault.message}" for fault in error.value.faults]


def test_a_model_alone_asks_for_all_parts_of_all_classes_where_sampling_starts(sit: ModelEntry) -> None:
    assert resolved(sit).model_dump() == {
        "model": "shapes-sit",
        "labels": list(range(100)),
        "conditions": None,
        "rows": None,
        "timesteps": [0.0],
        "parts": ["c", "y", "t"],
    }


def test_conditions_alone_ask_for_all_their_rows(video: ModelEntry) -> None:
    request = resolved(video, VIDEOS, **NAMED)
    assert (request.labels, request.rows, request.timesteps) == (None, [0, 1, 2], [999])
    assert request.subjects == [0, 1, 2]


def test_parts_in_another_order_are_the_same_job_and_labels_in_another_are_not(sit: ModelEntry) -> None:
    assert resolved(sit, parts=["t", "c"]) == resolved(sit, parts=["c", "t"])
    assert resolved(sit, labels=[1, 0]) != resolved(sit, labels=[0, 1])


def test_what_a_part_does_not_depend_on_is_neither_filled_in_nor_taken(sit: ModelEntry, video: ModelEntry) -> None:
    assert resolved(sit, parts=["y"]).timesteps is None
    assert resolved(sit, parts=["t"]).labels is None
    assert resolved(video, parts=["t"]).subjects == []
    assert "body.timesteps: part 'y' does not depend on time" in refused(sit, parts=["y"], timesteps=[0.5])[0]
    assert "body.labels: part 't' does not depend on labels" in refused(sit, parts=["t"], labels=[0])[0]
    assert "body.conditions: part 't' does not depend on conditions" in refused(video, VIDEOS, **NAMED, parts=["t"])[0]


def test_everything_that_does_not_fit_the_model_is_refused_at_once(sit: ModelEntry) -> None:
    faults = refused(sit, labels=[0, 100], rows=[0], timesteps=[0.5, 1.5])
    assert [fault.partition(":")[0] for fault in faults] == ["body.labels.1", "body.rows", "body.timesteps.1"]


def test_labels_for_a_model_of_conditions_and_rows_outside_are_refused(video: ModelEntry) -> None:
    assert refused(video)[0].startswith("body.conditions: video takes conditions of video 32 x 512")
    faults = refused(video, VIDEOS, **NAMED, labels=[0], rows=[3])
    assert [fault.partition(":")[0] for fault in faults] == ["body.labels", "body.rows.0"]


def test_more_bytes_than_the_limit_are_refused_naming_both(sit: ModelEntry) -> None:
    just = 4 * 128 * (2 * 3 + 3 + 2)
    wanted: dict[str, Any] = {"labels": [0, 1, 2], "timesteps": [0.0, 1.0]}
    assert resolved(sit, settings=Settings(max_extract_bytes=just), **wanted)
    (fault,) = refused(sit, settings=Settings(max_extract_bytes=just - 1), **wanted)
    assert fault.startswith("body.timesteps: 2 timesteps x 3 inputs x 128 components are 5632 bytes; ")
    assert "5631" in fault
    assert resolved(sit, settings=Settings(max_extract_bytes=4 * 128 * 3), labels=[0, 1, 2], parts=["y"])


@pytest.mark.parametrize(
    "fields",
    [
        {"labels": []},
        {"labels": [1, 1]},
        {"labels": [-1]},
        {"timesteps": []},
        {"timesteps": [0.5, 0.5]},
        {"timesteps": [float("nan")]},
        {"parts": []},
        {"parts": ["c", "c"]},
        {"parts": ["x"]},
        {"threshold": 0.1},
    ],
)
def test_a_malformed_request_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ExtractRequest.model_validate({"model": "shapes-sit"} | fields)
