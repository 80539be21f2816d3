"""The request of `figure`: what each figure has, what is filled in, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from jobs.problems import InvalidRequest
from jobs.registry.models import ModelEntry, Registry
from jobs.requests.fields import FigureName
from jobs.requests.figure import OPTIONS, FigureRequest
from jobs.settings import Settings
from jobs.storage.condition_info import ConditionInfo
from tests.jobs.requests.test_extract import VIDEO_MODEL, VIDEOS
from tests.registry import extend, write_registry

HALVES = ["half=" + ",".join(["low"] * 50 + ["high"] * 50)]
"""An attribute of 100 classes, whose names have no words that would be attributes."""
SAID: dict[str, Any] = {
    "part": "y", "timestep": 0.5, "classes": 2, "thresholds": [0.1], "side": "head", "range": [0.9, 1.0], "seed": 1,
    "measured": [{"rule": "|c|, zero", "removed": 0.5, "drift": 0.1}],
    "attributes": HALVES,
}  # fmt: skip
OF_VECTORS = [name for name, options in OPTIONS.items() if "part" in options]


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


def resolved(entry: ModelEntry, figure: str, known: ConditionInfo | None = None, **fields: Any) -> FigureRequest:
    named = {} if known is None else {"conditions": known.id}
    request = FigureRequest.model_validate({"model": entry.name, "figure": figure} | named | fields)
    return request.resolve(entry, Settings(max_variants=4), known)


def refused(entry: ModelEntry, figure: str, known: ConditionInfo | None = None, **fields: Any) -> list[str]:
    with pytest.raises(InvalidRequest) as error:
        resolved(entry, figure, known, **fields)
    return [f"{fault.location}: {fault.message}" for fault in error.value.faults]


def filled(request: FigureRequest) -> dict[str, Any]:
    """What a resolved request says besides its model and figure."""
    return {name: value for name, value in request.model_dump(exclude={"model", "figure"}).items() if value is not None}


def test_every_figure_has_its_options_written_down() -> None:
    assert set(OPTIONS) == set(get_args(FigureName))


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        ("cosine", {"part": "c", "timestep": 0.0}),
        ("histogram", {"part": "c", "timestep": 0.0}),
        ("vectors", {"part": "c", "timestep": 0.0, "classes": 5, "seed": 0}),
        ("variance", {"part": "c", "timestep": 0.0}),
        ("sparsity", {"part": "c", "timestep": 0.0}),
        ("tsne", {"part": "c", "timestep": 0.0, "seed": 0}),
        ("error", {}),
        ("removal", {"side": "tail", "seed": 0}),
        ("training", {}),
    ],
)
def test_what_is_not_said_is_filled_in_where_the_figure_has_it(
    sit: ModelEntry, figure: str, expected: dict[str, Any]
) -> None:
    assert filled(resolved(sit, figure)) == expected


def test_a_default_that_is_given_is_the_same_job(sit: ModelEntry) -> None:
    assert resolved(sit, "vectors", classes=5, seed=0, part="c", timestep=0.0) == resolved(sit, "vectors")
    assert resolved(sit, "removal", side="tail") == resolved(sit, "removal")


@pytest.mark.parametrize("figure", OPTIONS)
@pytest.mark.parametrize("option", SAID)
def test_an_option_that_a_figure_does_not_have_is_refused_by_name(sit: ModelEntry, figure: str, option: str) -> None:
    wanted = {option: SAID[option]} | ({"classes": 2} if option == "seed" and figure == "cosine" else {})
    if figure == "attribution":
        wanted["attributes"] = HALVES
    name = {"thresholds": "threshold", "measured": "study", "attributes": "attribute"}.get(option, option)
    if option in OPTIONS[figure]:  # type: ignore[index]
        assert resolved(sit, figure, **wanted).model_dump()[option] == SAID[option]
    else:
        (fault,) = refused(sit, figure, **wanted)
        assert fault.startswith(f"query.{name}: {name} is not an option of the figure '{figure}'; it has ")


@pytest.mark.parametrize("figure", OF_VECTORS)
def test_time_and_conditions_go_with_their_parts_as_in_statistics(
    sit: ModelEntry, video: ModelEntry, figure: str
) -> None:
    assert resolved(sit, figure, part="t").timestep is None
    assert "without a timestep" in refused(sit, figure, part="y", timestep=0.5)[0]
    assert "outside 0 to 1" in refused(sit, figure, timestep=2.0)[0]
    assert "without conditions" in refused(video, figure, VIDEOS, part="t")[0]
    assert "upload them" in refused(video, figure)[0]


def test_a_seed_is_refused_where_nothing_is_drawn_at_random(sit: ModelEntry) -> None:
    assert refused(sit, "cosine", seed=1) == refused(sit, "vectors", part="t", seed=1)
    assert resolved(sit, "cosine", classes=10, seed=1).seed == 1
    assert resolved(sit, "vectors", part="t").seed is None


@pytest.mark.parametrize(
    ("figure", "classes", "limits"), [("cosine", 1, "2 to 100"), ("vectors", 13, "1 to 12"), ("removal", 17, "1 to 16")]
)
def test_more_or_fewer_classes_than_can_be_drawn_are_refused(
    sit: ModelEntry, figure: str, classes: int, limits: str
) -> None:
    (fault,) = refused(sit, figure, classes=classes)
    assert fault.startswith(f"query.classes: classes {classes} is outside {limits}")


def test_no_more_conditions_are_drawn_than_there_are(video: ModelEntry) -> None:
    assert resolved(video, "vectors", VIDEOS).classes == 3
    assert resolved(video, "removal", VIDEOS).classes == 3
    assert "outside 1 to 3" in refused(video, "removal", VIDEOS, classes=4)[0]
    assert "classes" in refused(video, "vectors", part="t", classes=2)[0]


def test_too_few_vectors_have_no_neighbourhoods(video: ModelEntry) -> None:
    assert refused(video, "tsne", VIDEOS) == ["query.conditions: t-SNE needs at least 4 vectors, and there are 3"]
    assert resolved(video, "tsne", VIDEOS.model_copy(update={"count": 4}))
    assert resolved(video, "tsne", part="t")


def test_more_thresholds_than_a_job_has_variants_are_refused(sit: ModelEntry) -> None:
    wanted = [0.1, 0.2, 0.3, 0.4, 0.5]
    message = "query.threshold: 5 thresholds is more than the 4 of one job; give fewer"
    assert refused(sit, "removal", thresholds=wanted) == [message]
    assert resolved(sit, "sparsity", thresholds=wanted)


@pytest.mark.parametrize(
    "fields", [{"figure": "pie"}, {"classes": 0}, {"thresholds": []}, {"seed": -1}, {"side": "up"}]
)
def test_a_malformed_request_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FigureRequest.model_validate({"model": "shapes-sit", "figure": "removal"} | fields)


def test_a_range_of_colours_is_from_the_lower_cosine_to_the_higher(sit: ModelEntry) -> None:
    assert resolved(sit, "cosine", range=[0.9, 1.0]).range == [0.9, 1.0]
    assert refused(sit, "cosine", range=[1.0, 0.9]) == [
        "query.range: the range 1 to 0.9 is empty; give the lower cosine first"
    ]


def test_attributes_are_those_of_the_classes(sit: ModelEntry, video: ModelEntry) -> None:
    assert resolved(sit, "attribution", attributes=HALVES).reads == "model"
    assert refused(sit, "attribution") == [
        "path.figure: the attribute 'word 1' has one value for all classes: give attributes that differ"
    ]
    (fault,) = refused(sit, "attribution", attributes=["half=low"])
    assert fault.startswith("query.attribute: the attribute 'half' has 1 values, and there are 100 classes")
    assert "has no classes" in refused(video, "attribution")[0]
