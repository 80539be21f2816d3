"""`/conditions`: uploaded once, named by their content, refused with what was wrong."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import redis
from fastapi.testclient import TestClient

from jobs.settings import Settings
from jobs.storage.artifacts import ArtifactStore
from jobs.storage.uploads import ConditionStore
from jobs.store.connection import connect
from jobs.store.jobs import JobStore
from service.app import create_app
from tests.condition_files import PERSON, VIDEO, Arrays, arrays, npz, safetensors
from tests.jobs.storage.test_retention import write_job
from tests.service.test_problems import faults, problem

every_packer = pytest.mark.parametrize("pack", [npz, safetensors])


def upload(client: TestClient, content: bytes | Iterator[bytes], **headers: str) -> httpx.Response:
    return client.post("/conditions", content=content, headers={"Content-Type": "application/octet-stream"} | headers)


@every_packer
@pytest.mark.parametrize(
    ("shapes", "family", "numbers"),
    [(PERSON, "x-mdpt", 257 * 768 + 257 * 1536 + 4 * 32 * 32), (VIDEO, "mdsgen", 32 * 512)],
    ids=["x-mdpt", "mdsgen"],
)
def test_an_upload_is_answered_with_what_was_stored(
    client: TestClient, pack: Callable[[Arrays], bytes], shapes: dict[str, tuple[int, ...]], family: str, numbers: int
) -> None:
    answer = upload(client, pack(arrays(shapes, 3)))
    assert answer.status_code == 201
    said = answer.json()
    assert answer.headers["Location"] == said["links"]["self"] == f"/conditions/{said['id']}"
    assert said["inputs"] == {name: list(shape) for name, shape in shapes.items()}
    assert (said["count"], said["family"]) == (3, family)
    assert 0 < said["bytes"] - 3 * 4 * numbers < 1000  # the header
    assert client.get(answer.headers["Location"]).json() == said


def test_one_condition_needs_no_leading_dimension(client: TestClient) -> None:
    one, leading = (upload(client, npz(arrays(PERSON, count))) for count in (None, 1))
    assert (one.status_code, leading.status_code) == (201, 200)
    assert one.json() == leading.json()
    assert one.json()["count"] == 1


def test_the_same_numbers_are_stored_once_whatever_file_they_come_in(client: TestClient) -> None:
    files = [npz(arrays(VIDEO, 2)), safetensors(arrays(VIDEO, 2)), npz(arrays(VIDEO, 2, "float16"), compressed=True)]
    answers = [upload(client, content) for content in files]
    assert [answer.status_code for answer in answers] == [201, 200, 200]
    assert len({answer.headers["Location"] for answer in answers}) == 1


@pytest.mark.parametrize("said", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
def test_the_bytes_say_what_a_file_is_and_not_the_header(client: TestClient, said: str) -> None:
    assert upload(client, npz(arrays(VIDEO)), **{"Content-Type": said}).status_code == 201


def with_nan(given: Arrays) -> Arrays:
    given["video"][1, 0, 0] = np.nan
    return given


@every_packer
@pytest.mark.parametrize(
    ("given", "location", "message"),
    [
        ({"sound": np.zeros(1)}, "body.sound", "send pose (257 x 768), image (257 x 1536) and latents"),
        ({"pose": np.zeros((257, 768))}, "body.image", "the file holds pose of x-mdpt, which takes pose (257 x 768)"),
        (arrays(PERSON | {"extra": (1,)}), "body.extra", "not conditioned on 'extra', but on pose"),
        (
            {"video": np.zeros((512, 32))},
            "body.video",
            "shape 512 x 32 is not 32 x 512 (one condition) or N x 32 x 512",
        ),
        ({"video": np.zeros((32, 512), np.int32)}, "body.video", "type int32 is not accepted; send float16"),
        (with_nan(arrays(VIDEO, 2)), "body.video", "1 NaN; the first is in row 1"),
        (arrays(PERSON, 2) | {"pose": np.zeros((3, 257, 768))}, "body", "3 of pose, 2 of image, 2 of latents"),
        ({"video": np.zeros((1025, 32, 512), np.float16)}, "body", "holds 1025 conditions; at most 1024"),
    ],
    ids=["unknown", "missing", "extra", "shape", "type", "nan", "counts", "many"],
)
def test_a_refusal_says_what_was_wrong_and_what_is_right(
    client: TestClient, pack: Callable[[Arrays], bytes], given: Arrays, location: str, message: str
) -> None:
    answer = upload(client, pack(given))
    assert answer.status_code == 422
    assert message in faults(answer)[location]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the body is empty; send a safetensors file"),
        (b"{}", "neither a safetensors nor an npz file"),
        (safetensors(arrays(VIDEO))[:-1], "begins like a safetensors file, but is incomplete or damaged"),
        (npz(arrays(VIDEO))[:-1], "begins like an npz file, but is incomplete or damaged"),
    ],
    ids=["empty", "neither", "safetensors", "npz"],
)
def test_a_file_that_cannot_be_read_is_refused(client: TestClient, content: bytes, message: str) -> None:
    answer = upload(client, content)
    assert answer.status_code == 422
    assert message in faults(answer)["body"]


def test_a_form_is_answered_with_how_to_send_the_file(client: TestClient) -> None:
    answer = client.post("/conditions", files={"file": npz(arrays(VIDEO))})
    assert answer.status_code == 422
    assert "curl --data-binary @FILE" in faults(answer)["body"]


def test_everything_that_is_wrong_is_reported_at_once(client: TestClient) -> None:
    answer = upload(client, npz({"pose": np.zeros((257, 768), np.int8), "latents": np.zeros(3), "extra": np.zeros(1)}))
    assert set(faults(answer)) == {"body.pose", "body.latents", "body.extra", "body.image"}


def test_an_upload_may_be_larger_than_other_requests(client: TestClient, settings: Settings) -> None:
    content = safetensors(arrays(VIDEO, 40))
    assert len(content) > 2 * settings.max_body_bytes
    assert upload(client, content).status_code == 201
    assert client.post("/prune-sample", content=content).status_code == 413
    assert client.put("/conditions", content=content).status_code == 405


def test_an_upload_that_is_too_large_is_answered_with_the_limit(settings: Settings, redis_client: redis.Redis) -> None:
    content = safetensors(arrays(VIDEO, 2))
    chunks = (content[at : at + 65536] for at in range(0, len(content), 65536))
    with TestClient(create_app(settings.model_copy(update={"max_conditions_bytes": 100_000}))) as client:
        for body in (content, chunks):  # the length said before, and not said
            answer = upload(client, body)
            assert answer.status_code == 413
            assert "at most 100000 bytes are accepted" in problem(answer, "body-too-large")["detail"]


def test_a_file_that_unpacks_to_more_than_the_limit_is_refused(settings: Settings, redis_client: redis.Redis) -> None:
    content = npz({"video": np.zeros((100, 32, 512), np.float32)}, compressed=True)
    assert len(content) < 100_000
    with TestClient(create_app(settings.model_copy(update={"max_conditions_bytes": 100_000}))) as client:
        answer = upload(client, content)
    assert answer.status_code == 422
    assert "bytes unpacked; at most 100000 are accepted" in faults(answer)["body"]


@pytest.mark.parametrize("unknown", ["0" * 64, "x", "%00", "%FF", "A" * 64, "0" * 10_000, "..%2F" + "0" * 60])
def test_unknown_conditions_are_told_to_be_uploaded(client: TestClient, unknown: str) -> None:
    answer = client.get(f"/conditions/{unknown}")
    assert answer.status_code == 404
    if answer.json()["type"].endswith("not-found"):  # a slash makes it another path
        assert "%2F" in unknown
    else:
        detail = problem(answer, "unknown-conditions")["detail"]
        assert "upload their file with POST /conditions" in detail
        assert len(detail) < 300


def test_conditions_outlive_redis(client: TestClient, redis_client: redis.Redis) -> None:
    said = upload(client, npz(arrays(VIDEO))).json()
    redis_client.flushall()
    assert client.get(said["links"]["self"]).json() == said


def test_conditions_are_stored_and_found_while_redis_is_gone(settings: Settings) -> None:
    with TestClient(create_app(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))) as client:
        answer = upload(client, npz(arrays(VIDEO)))
        assert answer.status_code == 201
        assert client.get(answer.headers["Location"]).status_code == 200


def test_a_worker_reads_what_was_uploaded(client: TestClient, settings: Settings) -> None:
    said = upload(client, npz(arrays(VIDEO, 2, "float16"))).json()
    with connect(settings) as connection:
        assert ConditionStore(ArtifactStore(settings, connection), connection).read(said["id"]) == safetensors(
            arrays(VIDEO, 2)
        )


def test_an_upload_that_breaks_off_is_no_error_of_the_service(settings: Settings, redis_client: redis.Redis) -> None:
    """Sent to the application itself, as a server does when a connection ends."""
    app = create_app(settings)
    sent: list[dict[str, Any]] = []
    messages = iter([{"type": "http.request", "body": b"PK", "more_body": True}, {"type": "http.disconnect"}])
    scope = {"type": "http", "method": "POST", "path": "/conditions", "query_string": b"", "headers": []}

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def talk() -> None:
        async with app.router.lifespan_context(app):
            await app(scope, receive, send)  # type: ignore[arg-type]

    asyncio.run(talk())
    assert sent[0]["status"] == 400


def test_damaged_conditions_are_unknown_also_to_jobs_and_uploading_them_again_mends_them(
    client: TestClient, settings: Settings
) -> None:
    content = safetensors(arrays(VIDEO, 2))
    said = upload(client, content).json()
    stored = next(Path(settings.artifacts).rglob(said["id"]))
    stored.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with connect(settings) as connection:
        connection.flushall()
    answer = client.get(said["links"]["self"])
    assert problem(answer, "unknown-conditions")["status"] == 404
    assert "upload" in answer.json()["detail"]
    stored.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    asked = client.post("/prune-sample", json={"model": "shapes-sit", "threshold": 0.1, "conditions": said["id"]})
    assert problem(asked, "unknown-conditions")["status"] == 404
    again = upload(client, content)
    assert (again.status_code, again.json()) == (201, said)
    assert client.get(said["links"]["self"]).json() == said


@pytest.mark.parametrize("large", [False, True], ids=["small", "waiting on the disk"])
def test_an_upload_to_a_full_disk_is_answered_507(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", full) if large else monkeypatch.setattr(Path, "write_bytes", full)
    answer = upload(client, safetensors(arrays(VIDEO, 40 if large else 1)))
    assert problem(answer, "storage-full")["status"] == 507
    assert "the disk of the artifacts is full" in answer.json()["detail"]


def test_while_the_store_of_artifacts_is_away_uploads_and_reads_are_answered_503(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = upload(client, safetensors(arrays(VIDEO, 1))).json()

    def away(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("jobs.storage.files.os.stat", away)
    for answer in (upload(client, safetensors(arrays(VIDEO, 2))), client.get(said["links"]["self"])):
        assert problem(answer, "unavailable")["status"] == 503
        assert answer.headers["Retry-After"] == "5"


def test_conditions_are_listed_the_latest_first_a_page_at_a_time(client: TestClient, settings: Settings) -> None:
    assert client.get("/conditions").json() == {"conditions": [], "next_cursor": None}
    said = [upload(client, npz(arrays(VIDEO, count))).json() for count in range(1, 6)]
    for age, each in enumerate(reversed(said)):
        path = next(Path(settings.artifacts).rglob(each["id"]))
        os.utime(path, (1_800_000_000 - age, 1_800_000_000 - age))
    pages: list[dict[str, Any]] = [client.get("/conditions", params={"limit": 2}).json()]
    while cursor := pages[-1]["next_cursor"]:
        pages.append(client.get("/conditions", params={"limit": 2, "cursor": cursor}).json())
    assert [len(page["conditions"]) for page in pages] == [2, 2, 1]
    listed = [each for page in pages for each in page["conditions"]]
    assert listed[0].pop("uploaded") == "2027-01-15T08:00:00Z"
    assert listed[0] == said[-1]
    assert [each["id"] for each in listed] == [each["id"] for each in reversed(said)]
    assert faults(client.get("/conditions", params={"cursor": "x"})).keys() == {"query.cursor"}


def test_deleted_conditions_are_unknown_until_they_are_uploaded_again(client: TestClient) -> None:
    content = npz(arrays(VIDEO, 2))
    said = upload(client, content).json()
    path = said["links"]["self"]
    answer = client.delete(path)
    assert (answer.status_code, answer.content) == (204, b"")
    for again in (client.get(path), client.delete(path)):
        problem(again, "unknown-conditions")
    assert client.get("/conditions").json()["conditions"] == []
    assert upload(client, content).status_code == 201
    assert client.get(path).json() == said


def test_conditions_that_a_job_under_way_needs_are_not_deleted(
    client: TestClient, store: JobStore, redis_client: redis.Redis
) -> None:
    said = upload(client, npz(arrays(VIDEO, 2))).json()
    job_id = write_job(redis_client, status="running", request=json.dumps({"conditions": said["id"]}))
    refused = client.delete(said["links"]["self"])
    assert refused.status_code == 409
    assert job_id in problem(refused, "conditions-in-use")["detail"]
    assert client.get(said["links"]["self"]).status_code == 200
    redis_client.hset(f"tailprune:job:{job_id}", "status", "succeeded")
    assert client.delete(said["links"]["self"]).status_code == 204


def test_conditions_in_a_store_of_objects_are_listed_and_deleted(
    settings: Settings, store: JobStore, s3_url: str
) -> None:
    with TestClient(create_app(settings.model_copy(update={"artifacts_url": s3_url}))) as client:
        said = [upload(client, npz(arrays(VIDEO, count))).json() for count in (1, 2, 3)]
        assert {each["id"] for each in client.get("/conditions").json()["conditions"]} == {each["id"] for each in said}
        assert client.delete(said[0]["links"]["self"]).status_code == 204
        assert len(client.get("/conditions").json()["conditions"]) == 2
        problem(client.get(said[0]["links"]["self"]), "unknown-conditions")
