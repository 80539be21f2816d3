"""Bounds of requests: whatever 1 MiB holds, the answer is short, and what the document allows is bounded."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from benchmarks.faults.bodies import BODIES, MIB
from jobs.registry.evaluation import MEASURES
from jobs.requests.fields import MOST_STUDY_VARIANTS
from jobs.settings import Settings
from service.app import app, create_app
from service.checks import MOST_FIELDS, PARSED_AT_ONCE_BYTES
from tests.redis_process import RedisProcess
from tests.registry import write_registry
from tests.service.test_problems import faults, problem

LONGEST_ANSWER = 100_000
JSON = {"Content-Type": "application/json"}

Found = tuple[str, str]


@pytest.fixture(scope="module")
def client(redis_server: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client of an application that the tests share."""
    redis_server.empty()
    folder = tmp_path_factory.mktemp("service")
    settings = Settings(
        redis_url=redis_server.url,
        data_dir=folder / "data",
        registry=write_registry(folder / "models"),
        allowed_hosts="testserver",
    )
    with TestClient(create_app(settings)) as client:
        yield client


def unbounded(schema: dict[str, Any], where: str, seen: tuple[str, ...] = ()) -> Iterator[Found]:
    """Where a schema allows a list, a text or an object of any size, and which of these."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name not in seen:
            yield from unbounded(app.openapi()["components"]["schemas"][name], f"{where} {name}", (*seen, name))
        return
    for union in ("anyOf", "oneOf", "allOf"):
        for choice in schema.get(union, []):
            yield from unbounded(choice, where, seen)
    match schema.get("type"):
        case "array":
            if "maxItems" not in schema:
                yield where, "a list of any length"
            yield from unbounded(schema["items"], f"{where}[]", seen)
        case "string" if not {"maxLength", "enum", "pattern", "const"} & schema.keys():
            yield where, "a text of any length"
        case "object":
            if schema.get("additionalProperties") is not False and "maxProperties" not in schema:
                yield where, "any number of fields"
            for name, field in schema.get("properties", {}).items():
                yield from unbounded(field, f"{where}.{name}", seen)


def request_schemas() -> Iterator[tuple[str, dict[str, Any]]]:
    """The schemas of all bodies that are JSON, and of all parameters in queries."""
    for path, calls in app.openapi()["paths"].items():
        for method, call in calls.items():
            for parameter in call.get("parameters", []):
                if parameter["in"] == "query":
                    yield f"{method} {path} query.{parameter['name']}", parameter["schema"]
            if content := call.get("requestBody", {}).get("content", {}).get("application/json"):
                yield f"{method} {path} body", content["schema"]


def test_every_list_text_and_object_of_a_request_has_a_greatest_size() -> None:
    schemas = dict(request_schemas())
    assert {"post /studies body", "post /extract body", "get /metrics/{model} query.threshold"} <= schemas.keys()
    assert [found for where, schema in schemas.items() for found in unbounded(schema, where)] == []


def test_no_object_of_a_request_has_as_many_fields_as_are_refused() -> None:
    schemas = app.openapi()["components"]["schemas"].values()
    assert max(len(schema.get("properties", {})) for schema in schemas) < MOST_FIELDS / 2


@pytest.mark.parametrize("name", BODIES)
def test_the_answer_to_a_body_of_1_mib_is_short(client: TestClient, name: str) -> None:
    path, body = BODIES[name]
    assert len(body) <= MIB
    answer = client.post(path, content=body, headers=JSON)
    assert answer.status_code in (202, 400, 404, 422), answer.text[:500]
    assert len(answer.content) < LONGEST_ANSWER
    assert client.get("/health/live").status_code == 200


def test_a_list_that_is_too_long_is_said_to_be_with_its_limit(client: TestClient) -> None:
    for field, part, most in (("prunes", {}, MOST_STUDY_VARIANTS), ("measures", "", len(MEASURES))):
        answer = client.post("/studies", json={"model": "shapes-sit", field: [part] * 5000})
        assert f"at most {most} items" in faults(answer)[f"body.{field}"]


def test_an_object_of_too_many_fields_is_refused_with_their_number(client: TestClient) -> None:
    body = {"model": "shapes-sit", "schedule": {f"f{number}": 1 for number in range(101)}}
    answer = client.post("/prune-sample", json=body)
    assert faults(answer) == {"body": "an object has 101 fields, and no object of a request has more than 100"}


def test_a_body_of_too_many_objects_is_refused(client: TestClient) -> None:
    answer = client.post("/studies", json={"model": "shapes-sit", "prunes": [{}] * 20_000})
    assert "more than 20000 objects and fields" in faults(answer)["body"]


def test_a_body_of_too_many_lists_is_refused_before_it_is_parsed(client: TestClient) -> None:
    answer = client.post("/studies", content=b'{"model":"shapes-sit","prunes":' + b"[" * 60_000, headers=JSON)
    assert faults(answer) == {"body": "there are more than 50000 lists"}


def test_the_largest_study_that_a_limit_can_allow_is_read(client: TestClient) -> None:
    prunes = [
        {"threshold": number, "side": "tail", "fill": "zero", "schedule": {"when": "first", "count": 1}}
        for number in range(MOST_STUDY_VARIANTS)
    ]
    answer = client.post("/studies", json={"model": "shapes-sit", "measures": ["drift"], "prunes": prunes})
    assert faults(answer) == {"body.prunes": "1024 prunes is more than the 64 of one study; use several studies"}


def test_faults_are_counted_where_only_the_first_are_listed(client: TestClient) -> None:
    answer = client.post("/prune-sample", json={"model": "shapes-sit", "threshold": 1, "labels": [-1] * 4000})
    what = problem(answer, "invalid-request")
    assert "4000 things are wrong" in what["detail"]
    assert "errors has the first 100" in what["detail"]
    assert len(what["errors"]) == 100


def test_faults_that_quote_long_texts_are_listed_as_far_as_they_are_short(client: TestClient) -> None:
    labels = [f"{number}{'é' * 190}" for number in range(2000)]
    body = json.dumps({"model": "shapes-sit", "threshold": 1, "labels": labels}, ensure_ascii=False)
    answer = client.post("/prune-sample", content=body.encode(), headers=JSON)
    what = problem(answer, "invalid-request")
    assert "2000 things are wrong" in what["detail"]
    assert 0 < len(what["errors"]) < 100
    assert f"errors has the first {len(what['errors'])}" in what["detail"]
    assert len(answer.content) < LONGEST_ANSWER


@pytest.mark.parametrize(
    "query",
    [
        "&".join(f"p{number}" for number in range(10_000)),
        "&".join(["threshold=a"] * 5000),
        "&".join(["part=c"] * 8000),
        "x" * 64_000 + "=1",
        "part=" + "x" * 64_000,
        "&" * 64_000,
        "%" * 64_000,
    ],
    ids=["many names", "many values", "one name many times", "a long name", "a long value", "separators", "percents"],
)
def test_the_answer_to_a_long_query_is_short(client: TestClient, query: str) -> None:
    answer = client.get(f"/metrics/shapes-sit?{query}", headers={"Prefer": "wait=0"})
    assert answer.status_code in (200, 202, 422)
    assert len(answer.content) < LONGEST_ANSWER


@pytest.mark.parametrize("size", [100, 100_000])
def test_a_body_is_parsed_once_and_a_large_one_in_a_thread(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    parsed: list[tuple[int, bool]] = []
    loads = json.loads

    def noted(text: bytes, **options: Any) -> Any:
        if len(text) == size:  # others are records of the store
            parsed.append((len(text), threading.current_thread().name.startswith("AnyIO")))
        return loads(text, **options)

    body = json.dumps({"model": "shapes-sit", "threshold": 0.1, "labels": [0]}).ljust(size).encode()
    with monkeypatch.context() as patch:
        patch.setattr(json, "loads", noted)
        answer = client.post("/prune-sample", content=body, headers=JSON)
    assert answer.status_code == 202
    assert parsed == [(len(body), size > PARSED_AT_ONCE_BYTES)]


def test_bodies_that_are_held_all_together_are_bounded(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps({"model": "shapes-sit", "threshold": 0.1}).encode()
    with monkeypatch.context() as patch:
        patch.setattr("service.middleware.MOST_BODIES_BYTES", len(body) - 1)
        answer = client.post("/prune-sample", content=body, headers=JSON)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert "too many bodies" in problem(answer, "unavailable")["detail"]
    for _ in range(3):  # what was read before is not counted any more
        monkeypatch.setattr("service.middleware.MOST_BODIES_BYTES", len(body))
        assert client.post("/prune-sample", content=body, headers=JSON).status_code == 202
