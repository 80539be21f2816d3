"""Labels by name: they become numbers when a request is resolved, and what cannot is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jobs.problems import InvalidRequest
from jobs.records import KINDS
from jobs.registry.evaluation import EvaluationAssets
from jobs.registry.models import ModelEntry, Registry
from jobs.requests.base import Request
from jobs.requests.compact import CompactRequest
from jobs.requests.edit import EditRequest
from jobs.requests.extract import ExtractRequest
from jobs.requests.prune_sample import PruneSampleRequest
from jobs.requests.removal import RemovalRequest
from jobs.requests.study import StudyRequest
from jobs.settings import Settings
from tests.registry import write_registry

NAMES = ["red circle", "crane", "Tench, Tinca tinca", "crane", "7", "STRASSE", *(f"class {n}" for n in range(6, 100))]
MAKERS: dict[type[Request], dict[str, Any]] = {
    PruneSampleRequest: {"threshold": 0.1},
    EditRequest: {"source": [0], "target": [1]},
    StudyRequest: {"prunes": [{"threshold": 0.1}], "measures": ["drift"]},
    CompactRequest: {"keep": 8},
    ExtractRequest: {},
    RemovalRequest: {"threshold": [0.1]},
}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    path = write_registry(tmp_path / "models")
    (path.parent / "shapes-sit" / "classes.txt").write_text("\n".join(NAMES))
    return Registry.read(path)


def resolved(registry: Registry, kind: type[Request], *labels: Any, model: str = "shapes-sit") -> Any:
    request = kind.model_validate({"model": model, **MAKERS[kind], "labels": [*labels]})
    settings = Settings(max_samples=100)
    return request.resolve(registry.get(model), settings, None, EvaluationAssets.from_registry(registry))


def faults(
    registry: Registry, *labels: Any, model: str = "shapes-sit", kind: type[Request] = PruneSampleRequest
) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as refused:
        resolved(registry, kind, *labels, model=model)
    return {fault.location: fault.message for fault in refused.value.faults}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_request_with_names_is_the_same_as_one_with_numbers(registry: Registry, kind: type[Request]) -> None:
    by_name = resolved(registry, kind, "red circle", 17, "class 20")
    assert by_name.labels == [0, 17, 20]
    assert by_name.model_dump() == resolved(registry, kind, 0, 17, 20).model_dump()


def test_all_classes_by_name_are_all_classes_of_a_compaction(registry: Registry) -> None:
    names = [name if NAMES.count(name) == 1 else number for number, name in enumerate(NAMES)]
    assert resolved(registry, CompactRequest, *names).labels is None


@pytest.mark.parametrize("name", ["Red Circle", " red  circle ", "RED CIRCLE"])
def test_a_name_may_be_in_other_letters(registry: Registry, name: str) -> None:
    assert resolved(registry, PruneSampleRequest, name).labels == [0]


def test_an_accented_letter_may_be_made_up_of_two_characters(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "models" / "shapes-sit" / "classes.txt").write_text("a\ncaf\u00e9\n")
    assert resolved(registry, PruneSampleRequest, "cafe\u0301").labels == [1]


@pytest.mark.parametrize("kind", MAKERS)
def test_every_kind_of_request_refuses_what_is_not_a_class(registry: Registry, kind: type[Request]) -> None:
    assert faults(registry, "rde circle", 5, 100, "crane", kind=kind) == {
        "body.labels.0": "no class of shapes-sit is named 'rde circle'; the closest name is 'red circle', label 0",
        "body.labels.2": "label 100 is outside 0 to 99, the classes of shapes-sit",
        "body.labels.3": "'crane' is the name of several classes of shapes-sit; give the number of one of them: 1, 3",
    }


def test_every_request_that_has_labels_takes_names() -> None:
    assert {kind for kind in KINDS.values() if "labels" in kind.model_fields} == set(MAKERS)


def test_an_exact_name_comes_before_one_in_other_letters(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "models" / "shapes-sit" / "classes.txt").write_text("Polish\npolish\n")
    assert resolved(registry, PruneSampleRequest, "polish").labels == [1]
    assert faults(registry, "POLISH") == {
        "body.labels.0": "'POLISH' is the name of several classes of shapes-sit; give the number of one of them: 0, 1"
    }


def test_a_class_may_be_named_with_digits(registry: Registry) -> None:
    assert resolved(registry, PruneSampleRequest, "7").labels == [4]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rde circle", "no class of shapes-sit is named 'rde circle'; the closest name is 'red circle', label 0"),
        ("tench", "no class of shapes-sit is named 'tench'; the closest name is 'Tench, Tinca tinca', label 2"),
        ("17", "no class of shapes-sit is named '17'; write the number of a class without quotes"),
        ("crane", "'crane' is the name of several classes of shapes-sit; give the number of one of them: 1, 3"),
    ],
)
def test_a_name_that_is_not_that_of_one_class_is_refused(registry: Registry, name: str, message: str) -> None:
    assert faults(registry, 5, name) == {"body.labels.1": message}


def test_a_class_that_is_given_by_name_and_by_number_is_refused(registry: Registry) -> None:
    assert faults(registry, 0, "red circle") == {
        "body.labels.1": "label 'red circle' is the class 0, which is given twice; give it once"
    }


def test_every_unknown_name_is_reported_the_closest_one_for_the_first_few(registry: Registry) -> None:
    found = faults(registry, *(f"no such class {n}" for n in range(50)))
    assert len(found) == 50
    assert sum("the closest name is" in message for message in found.values()) == 5
    assert found["body.labels.49"].endswith("GET /models/shapes-sit lists the names")


def test_a_model_without_names_takes_numbers(registry: Registry) -> None:
    assert faults(registry, "cat", model="absent-dit") == {
        "body.labels.0": "the classes of absent-dit have no names; give the number of a class instead of 'cat'"
    }


@pytest.mark.parametrize("label", ["", "x" * 201, None, 1.5, True, -1])
def test_a_label_is_a_number_or_a_name(label: Any) -> None:
    with pytest.raises(ValidationError):
        PruneSampleRequest.model_validate({"model": "shapes-sit", "threshold": 0.1, "labels": [label]})


def test_the_names_are_not_read_for_numbers(entry_without_names: ModelEntry) -> None:
    request = PruneSampleRequest(model="shapes-sit", threshold=0.1, labels=[3])
    assert request.resolve(entry_without_names, Settings()).labels == [3]


@pytest.fixture
def entry_without_names(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> ModelEntry:
    def read(_: ModelEntry) -> list[str]:
        raise AssertionError("the names were read")

    monkeypatch.setattr(ModelEntry, "names", property(read))
    return registry.get("shapes-sit")
