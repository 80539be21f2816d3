"""The examples of the contract: the service takes those of requests, and those of responses fit their schemas."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from fastapi.testclient import TestClient

from jobs.settings import Settings
from service.app import app

ROOT = Path(__file__).parents[2]
CONTRACT = app.openapi()
BODIES = [
    pytest.param(path, example["value"], id=f"{path[1:]}-{name}")
    for path, calls in CONTRACT["paths"].items()
    for content in calls.get("post", {}).get("requestBody", {}).get("content", {}).values()
    for name, example in content.get("examples", {}).items()
]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with the shipped registry, whose models the examples name."""
    return settings.model_copy(update={"registry": ROOT / "models" / "models.toml"})


@pytest.mark.parametrize(("path", "body"), BODIES)
def test_the_service_takes_the_example(client: TestClient, path: str, body: dict[str, Any]) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == 202, answer.text


def test_every_call_that_starts_a_job_by_json_has_several_examples() -> None:
    examples = [param.values[0] for param in BODIES]
    assert {path: examples.count(path) for path in examples} == {
        "/prune-sample": 6,
        "/edit": 3,
        "/studies": 3,
        "/compact": 4,
        "/extract": 3,
        "/models": 2,
    }


def shown(part: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Place, schema and value of every example: of a media type, a parameter or a schema."""
    if isinstance(part, list):
        for number, each in enumerate(part):
            yield from shown(each, f"{place}/{number}")
    if not isinstance(part, dict):
        return
    if "schema" in part:
        values = [each["value"] for each in part.get("examples", {}).values()]
        yield from (
            (place, part["schema"], value) for value in [*values, *[part[k] for k in ("example",) if k in part]]
        )
    elif isinstance(part.get("examples"), list):
        yield from ((place, part, value) for value in part["examples"])
    for name, each in part.items():
        if name not in ("examples", "example", "value"):
            yield from shown(each, f"{place}/{name}")


def test_every_example_fits_its_schema() -> None:
    found = list(shown(CONTRACT))
    assert len(found) > 100
    for place, schema, value in found:
        validator = jsonschema_rs.validator_for({**schema, "components": CONTRACT["components"]})
        faults = [f"{place}{fault.instance_path}: {fault.message}" for fault in validator.iter_errors(value)]
        assert not faults, faults


def test_the_example_of_an_invalid_request_names_a_part_that_the_request_has() -> None:
    for path, calls in CONTRACT["paths"].items():
        for method, call in calls.items():
            (content,) = call["responses"]["422"]["content"].values()
            (fault,) = content["examples"]["invalid-request"]["value"]["errors"]
            takes_json = "application/json" in call.get("requestBody", {}).get("content", {})
            assert fault["location"].startswith("body." if takes_json else "query."), (method, path)


def test_every_operation_tag_schema_field_and_parameter_is_described() -> None:
    tags = {tag["name"] for tag in CONTRACT["tags"] if tag["description"]}
    silent = [
        f"{name}.{field}"
        for name, schema in CONTRACT["components"]["schemas"].items()
        for field, part in {"": schema, **schema.get("properties", {})}.items()
        if "description" not in part and "$ref" not in part
    ]
    for path, calls in CONTRACT["paths"].items():
        for method, call in calls.items():
            assert tags.issuperset(call["tags"]), (method, path)
            assert call["summary"] != call["operationId"].replace("_", " ").title(), (method, path)
            described = [call, *call.get("parameters", []), *call["responses"].values()]
            silent += [f"{method} {path}" for part in described if not part.get("description")]
    assert not silent


def test_no_parameter_is_null() -> None:
    parameters = [
        each for calls in CONTRACT["paths"].values() for c in calls.values() for each in c.get("parameters", [])
    ]
    assert len(parameters) > 30
    assert not [each["name"] for each in parameters if {"type": "null"} in each["schema"].get("anyOf", [])]
