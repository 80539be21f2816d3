"""Requests for edits: what is filled in, what is refused, and what shares a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jobs.batching import share_of
from jobs.problems import InvalidRequest
from jobs.registry.digests import Identity
from jobs.registry.models import ModelEntry, Registry
from jobs.requests.attribution import AttributionRequest
from jobs.requests.edit import EditRequest
from jobs.requests.prune_sample import PruneSampleRequest
from jobs.settings import Settings
from tailprune.spec.edit import EditSpec
from tailprune.spec.prune import Schedule
from tests.tiny_model import CLASSES, write_tiny_model

LIMITS = Settings(max_samples=8, max_variants=6, max_steps=100)


@pytest.fixture
def tiny(tmp_path: Path) -> ModelEntry:
    return Registry.read(write_tiny_model(tmp_path / "models")).get("tiny")


def request(**fields: Any) -> EditRequest:
    return EditRequest.model_validate({"model": "tiny", "source": [0], "target": [3]} | fields)


def resolved(entry: ModelEntry, **fields: Any) -> EditRequest:
    return request(**fields).resolve(entry, LIMITS)


def refused(entry: ModelEntry, **fields: Any) -> list[str]:
    with pytest.raises(InvalidRequest) as error:
        resolved(entry, **fields)
    return [f"{fault.location}: {fault.message}" for fault in error.value.faults]


def test_names_become_numbers_and_the_source_is_sampled(tiny: ModelEntry) -> None:
    found = resolved(tiny, source=["circle"], target=["Ring", 1])
    assert (found.source, found.target, found.labels) == ([0], [3, 1], [0])
    assert found.strength == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert (found.steps, found.guidance_scale) == (4, 2.0)
    assert found.job_title == "edit of tiny from 0 to 3, 1 at 5 strengths from 0 to 1"


def test_other_classes_may_be_sampled(tiny: ModelEntry) -> None:
    assert resolved(tiny, labels=["star"]).subjects == [2]


def test_an_edit_is_made_for_each_strength(tiny: ModelEntry) -> None:
    schedule = Schedule("last", 2)
    found = resolved(tiny, strength=[-0.0, -1, 1.5], directions=2, schedule={"when": "last", "count": 2})
    assert found.edits == [EditSpec((0,), (3,), each, None, 2, schedule) for each in (0.0, -1.0, 1.5)]
    names = ["strength 0", "strength -1, 2 directions, last 2 steps", "strength 1.5, 2 directions, last 2 steps"]
    assert [spec.name for spec in found.edits] == names


@pytest.mark.parametrize(
    "fields",
    [
        {"source": []},
        {"target": [3, 3]},
        {"strength": 17},
        {"strength": [1, 1]},
        {"strength": []},
        {"strength": float("nan")},
        {"components": 0},
        {"components": 3, "directions": 2},
        {"modulation": {"weight": 17}},
        {"modulation": {}},
        {"threshold": 0.1},
    ],
)
def test_what_is_no_edit_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        request(**fields)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"source": ["cirle"]}, "body.source.0: no class of tiny is named 'cirle'"),
        ({"target": [4]}, "body.target.0: label 4 is outside 0 to 3"),
        ({"source": [3, 1], "target": [1, 3]}, "body.target: source and target are the same"),
        ({"labels": [9]}, "body.labels.0: label 9 is outside"),
        ({"components": 33}, "body.components: components 33 is more than the 32 components of tiny"),
        ({"directions": 33}, "body.directions: directions 33 is more than the 32 components"),
        ({"strength": [0, 1, 2, 3, 4, 5, 6]}, "body.strength: 7 strengths is more than the 6 of one job"),
        ({"samples_per_label": 9}, "body.samples_per_label: 1 labels x 9 samples"),
        ({"schedule": {"when": "last", "count": 9}}, "body.schedule.count: count 9 is more than the 4 steps"),
        ({"sampler": "dopri5", "schedule": {"when": "first"}}, "body.schedule.when: dopri5 chooses its own steps"),
        ({"rows": [0]}, "body.rows: rows select conditions"),
        ({"modulation": {"weight": 1, "minus": "cirle"}}, "body.modulation.minus: no class of tiny is named 'cirle'"),
        ({"modulation": {"weight": 1, "plus": 2, "minus": "star"}}, "body.modulation.minus: plus and minus are"),
    ],
)
def test_what_the_model_does_not_allow_is_refused(tiny: ModelEntry, fields: dict[str, Any], fault: str) -> None:
    (found,) = refused(tiny, **fields)
    assert found.startswith(fault)


def test_modulation_guidance_needs_a_null_condition_or_a_class(tiny: ModelEntry) -> None:
    defaults = tiny.defaults.model_copy(update={"guidance_scale": 1.0})
    whole = tiny.model_copy(update={"null_condition": False, "defaults": defaults})
    (found,) = refused(whole, modulation={"weight": 0.5})
    assert found.startswith("body.modulation.minus: tiny has no null condition to lead away from")
    moved = resolved(whole, modulation={"weight": 0.5, "minus": "ring"}).modulation
    assert moved is not None
    assert (moved.plus, moved.minus) == (None, 3)


def test_small_edits_share_a_batch_with_each_other_alone(tiny: ModelEntry) -> None:
    identity = Identity("w", {})
    one, other = (share_of(resolved(tiny, strength=strength), identity, 64) for strength in (0.5, [0, 1]))
    prune = share_of(PruneSampleRequest(model="tiny", threshold=0.1, labels=[0]).resolve(tiny, LIMITS), identity, 64)
    assert one is not None
    assert other is not None
    assert prune is not None
    assert (one.rows, other.rows) == (1, 2)
    assert one.group == other.group != prune.group
    assert share_of(resolved(tiny), identity, 5) is None


def test_the_classifier_is_a_part_of_the_job_where_it_is_there(tiny: ModelEntry) -> None:
    class Assets:
        def extractor(self, name: str) -> Path | None:
            return found

    found: Path | None = Path("classifier.safetensors")
    assets: Any = Assets()
    assert resolved(tiny).evaluated_with(tiny, assets) == {"extractor shapes-classifier": found}
    found = None
    assert resolved(tiny).evaluated_with(tiny, assets) == {}


@pytest.mark.parametrize(
    ("attributes", "fault"),
    [
        (["colour", "shape"], "have 1 words, such as 'circle', and 2 attributes are named"),
        (["round=yes,no,no"], "'round' has 3 values, and there are 4 classes"),
        (["round=yes,no,no,yes", "colour"], "give the values of all attributes"),
        (["a=x,x,y,y", "a=x,x,y,y"], "each attribute has a name of its own"),
        (["a=x,x,y,y", "b=x,x,y,y"], "a and b do not cross"),
    ],
)
def test_attributes_that_do_not_fit_are_refused(tiny: ModelEntry, attributes: list[str], fault: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        AttributionRequest(model="tiny", attributes=attributes).resolve(tiny, LIMITS)
    assert [each.location for each in error.value.faults] == ["query.attribute"]
    assert fault in error.value.faults[0].message


def test_attributes_by_value_or_by_word_are_taken(tiny: ModelEntry) -> None:
    assert len(CLASSES) == 4
    for attributes in (None, ["shape"], ["round=yes,no,no,yes", "sharp = yes, yes, no, no"]):
        asked = AttributionRequest(model="tiny", attributes=attributes)
        assert asked.resolve(tiny, LIMITS) == asked
