"""What is refused of any request: unknown and repeated parameters, and bodies that are not JSON."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from jobs.settings import Settings
from service.app import app, create_app
from tests.condition_files import VIDEO, arrays, npz
from tests.redis_process import RedisProcess
from tests.registry import write_registry
from tests.service.conftest import REQUEST
from tests.service.test_problems import faults, problem

BODY = json.dumps(REQUEST).encode()
CALLS = [(method, path) for path, calls in app.openapi()["paths"].items() for method in calls]

pytestmark = pytest.mark.usefixtures("store")
"""The application is the same for all tests of this file; what it has stored is not."""


@pytest.fixture(scope="module")
def settings(redis_server: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings that the tests share."""
    redis_server.empty()
    folder = tmp_path_factory.mktemp("service")
    return Settings(
        redis_url=redis_server.url,
        data_dir=folder / "data",
        registry=write_registry(folder / "models"),
        allowed_hosts="testserver",
    )


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[TestClient]:
    """A client of the application that the tests share."""
    with TestClient(create_app(settings)) as client:
        yield client


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_every_call_refuses_a_parameter_that_it_does_not_have(client: TestClient, method: str, path: str) -> None:
    assert "422" in app.openapi()["paths"][path][method]["responses"]
    json_body = REQUEST if method == "post" else None
    path = path.replace("{model}", "shapes-sit").replace("{figure}", "cosine")
    answer = client.request(method, path, params={"nonsense": "1"}, json=json_body)
    assert answer.status_code == 422
    assert "query.nonsense" in faults(answer)


def test_a_misspelt_parameter_is_answered_with_the_one_that_was_meant(client: TestClient) -> None:
    answer = client.get("/metrics/shapes-sit", params={"treshold": "0.01", "Part": "y"})
    takes = "part, conditions, timestep, threshold, steps, scheduler, resolution, guidance, class, population"
    assert faults(answer) == {
        "query.treshold": f"no such parameter; did you mean threshold? this path takes {takes}",
        "query.Part": f"no such parameter; did you mean part? this path takes {takes}",
    }


def test_a_path_without_parameters_says_so(client: TestClient) -> None:
    answer = client.get("/models?a")
    assert faults(answer) == {"query.a": "no such parameter; this path takes none"}


def test_a_parameter_of_one_value_is_refused_when_it_is_repeated(client: TestClient) -> None:
    answer = client.get("/metrics/shapes-sit?part=c&part=y&threshold=0.1&threshold=0.2")
    assert faults(answer) == {"query.part": "given 2 times; give one value"}


def test_a_header_of_one_value_is_refused_when_it_is_repeated(client: TestClient) -> None:
    answer = client.post("/prune-sample", json=REQUEST, headers=[("Idempotency-Key", "a")] * 2)
    assert faults(answer) == {"header.idempotency-key": "given 2 times; give one value"}


@pytest.mark.parametrize(
    ("more", "name"),
    [('"threshold": 0.2', "threshold"), ('"schedule": {"when": "last", "count": 1, "count": 2}', "count")],
)
def test_a_name_that_one_object_of_the_body_has_twice_is_refused(client: TestClient, more: str, name: str) -> None:
    body = f'{{"model": "shapes-sit", "threshold": 0.1, {more}}}'
    answer = client.post("/prune-sample", content=body, headers={"Content-Type": "application/json"})
    assert faults(answer) == {"body": f"'{name}' is given 2 times in one object; give one value"}


def test_one_name_in_several_objects_of_the_body_is_accepted(client: TestClient) -> None:
    body = {"model": "shapes-sit", "prunes": [{"threshold": 0.1}, {"threshold": 0.2}], "measures": ["drift"]}
    assert client.post("/studies", json=body).status_code == 202


def test_a_hostile_name_of_a_parameter_is_shortened_and_shown_in_ascii(client: TestClient) -> None:
    (location,) = faults(client.get("/jobs", params={"\u00e9" * 500: "1"}))
    assert location.isascii()
    assert len(location) < 100


def test_thousands_of_unknown_parameters_get_a_short_answer(client: TestClient) -> None:
    answer = client.get("/models?" + "&".join(f"p{number}" for number in range(5000)))
    assert 1 < len(faults(answer)) < 100


def test_the_reference_takes_parameters_of_the_browser(client: TestClient) -> None:
    for path in ("/docs", "/docs/oauth2-redirect", "/openapi.json"):
        assert client.get(path, params={"code": "1"}).status_code == 200


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json", "application/vnd.api+json"],
)
def test_json_is_taken_under_every_name_of_it(client: TestClient, content_type: str) -> None:
    answer = client.post("/prune-sample", content=BODY, headers={"Content-Type": content_type})
    assert answer.status_code == 202


@pytest.mark.parametrize(
    ("content_type", "said"),
    [
        (None, "it has none"),
        ("", "it has none"),
        ("application/x-www-form-urlencoded", "it is application/x-www-form-urlencoded, which curl -d sends by itself"),
        ("multipart/form-data; boundary=x", "a form; send the fields as one JSON object"),
        ("text/plain;charset=UTF-8", "it is text/plain"),
        ("text/json", "it is text/json"),
        ("application/jsonl", "it is application/jsonl"),
        ("application/json, text/plain", "it is application/json, text/plain"),
    ],
)
def test_a_body_that_is_not_said_to_be_json_is_answered_with_the_header_that_it_lacks(
    client: TestClient, content_type: str | None, said: str
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    for path in ("/prune-sample", "/studies", "/compact", "/extract"):
        answer = client.post(path, content=BODY, headers=headers)
        assert answer.status_code == 415
        detail = problem(answer, "unsupported-media-type")["detail"]
        assert "Content-Type: application/json" in detail
        assert said in detail
        assert answer.headers["Accept"] == "application/json"


def test_a_body_of_two_types_is_refused(client: TestClient) -> None:
    headers = [("Content-Type", "application/json"), ("Content-Type", "text/plain")]
    answer = client.post("/prune-sample", content=BODY, headers=headers)
    assert "application/json, text/plain" in problem(answer, "unsupported-media-type")["detail"]


def test_a_request_without_a_body_lacks_the_body_and_not_its_type(client: TestClient) -> None:
    assert faults(client.post("/prune-sample")) == {
        "body": "there is no body; send a JSON object, with the header Content-Type: application/json"
    }


@pytest.mark.parametrize("encoding", ["gzip", "br, gzip", "GZIP", "deflate"])
@pytest.mark.parametrize(("path", "content"), [("/prune-sample", BODY), ("/conditions", npz(arrays(VIDEO)))])
def test_an_encoded_body_is_refused_by_its_encoding(
    client: TestClient, path: str, content: bytes, encoding: str
) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    answer = client.post(path, content=gzip.compress(content), headers=headers)
    assert answer.status_code == 415
    assert f"Content-Encoding: {encoding};" in problem(answer, "unsupported-media-type")["detail"]
    assert answer.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("encoding", ["identity", "Identity, identity", ""])
def test_a_body_that_is_said_to_be_as_it_is_is_taken(client: TestClient, encoding: str) -> None:
    answer = client.post("/prune-sample", json=REQUEST, headers={"Content-Encoding": encoding})
    assert answer.status_code == 202


def test_a_body_that_no_call_reads_is_not_looked_at(client: TestClient) -> None:
    headers = {"Content-Encoding": "gzip", "Content-Type": "text/plain"}
    assert client.request("GET", "/models", content=b"x", headers=headers).status_code == 200
    assert client.request("DELETE", "/jobs/none", content=b"x", headers=headers).status_code == 404


@pytest.mark.parametrize(("content", "said"), [(BODY, "this is JSON"), (b"--x\r\n", "this is a form")])
def test_an_upload_that_is_no_file_is_recognised(client: TestClient, content: bytes, said: str) -> None:
    answer = client.post("/conditions", content=content, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert said in faults(answer)["body"]
