"""`/jobs/{id}/artifacts/{name}`: whole, in ranges, or not again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from jobs.records import Job
from jobs.settings import Settings
from jobs.storage.artifacts import ArtifactsUnavailable
from jobs.storage.files import LocalFiles
from jobs.store.connection import connect
from jobs.store.jobs import JobStore
from jobs.store.leases import Claim, LeaseStore
from tests.service.conftest import REQUEST
from tests.service.results import PICTURE

ETAG = f'"{hashlib.sha256(PICTURE).hexdigest()}"'
SIZE = len(PICTURE)
HOT = f"tailprune:hot:{hashlib.sha256(PICTURE).hexdigest()}"
"""The key of its copy in Redis."""


@pytest.fixture
def path(client: TestClient, done: Callable[[str], Job]) -> str:
    """The path of a picture."""
    job = done(client.post("/prune-sample", json=REQUEST).json()["id"])
    return f"/jobs/{job.id}/artifacts/grid.png"


def test_a_picture_comes_whole_with_its_type_and_may_be_kept(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.content) == (200, PICTURE)
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["Content-Length"] == str(SIZE)
    assert answer.headers["ETag"] == ETAG
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert "immutable" in answer.headers["Cache-Control"]


def test_a_head_tells_the_same_without_the_bytes(client: TestClient, path: str) -> None:
    whole, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("Content-Type", "Content-Length", "ETag", "Accept-Ranges", "Cache-Control"):
        assert head.headers[name] == whole.headers[name]


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=2000-", 2000, SIZE - 1),
        ("bytes=-5", SIZE - 5, SIZE - 1),
        ("bytes=-999999", 0, SIZE - 1),
        ("bytes=0-999999", 0, SIZE - 1),
    ],
)
def test_a_range_is_answered_with_its_bytes(client: TestClient, path: str, asked: str, first: int, last: int) -> None:
    answer = client.get(path, headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == PICTURE[first : last + 1]
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
    assert answer.headers["Content-Length"] == str(last - first + 1)


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", "bytes=99999-100000", "bytes=-0"])
def test_a_range_that_lies_outside_is_refused(client: TestClient, path: str, asked: str) -> None:
    answer = client.get(path, headers={"Range": asked})
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{SIZE}"
    assert answer.json()["type"] == "urn:tailprune:problem:range-not-satisfiable"


@pytest.mark.parametrize("asked", ["bytes=5-2", "bytes=-", "items=0-1", "bytes=0-1,4-5", "", "bytes=" + "9" * 99 + "-"])
def test_a_range_that_is_none_is_answered_with_the_whole(client: TestClient, path: str, asked: str) -> None:
    answer = client.get(path, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, PICTURE)


def test_a_range_of_another_version_is_answered_with_the_whole(client: TestClient, path: str) -> None:
    assert client.get(path, headers={"Range": "bytes=0-1", "If-Range": '"other"'}).status_code == 200
    assert client.get(path, headers={"Range": "bytes=0-1", "If-Range": ETAG}).status_code == 206


@pytest.mark.parametrize("tags", [ETAG, f'"other", {ETAG}', f"W/{ETAG}", "*"])
def test_a_picture_that_the_client_has_is_not_sent_again(client: TestClient, path: str, tags: str) -> None:
    answer = client.get(path, headers={"If-None-Match": tags})
    assert (answer.status_code, answer.content) == (304, b"")


def test_an_artifact_that_the_job_does_not_have_is_answered_with_what_it_has(client: TestClient, path: str) -> None:
    for name in ("other.png", "%00", "..%2F..%2Fetc%2Fpasswd"):
        answer = client.get(path.replace("grid.png", name))
        assert answer.status_code == 404
    assert "it has grid.png, latents.safetensors" in client.get(path + "x").json()["detail"]


def test_an_artifact_that_is_no_longer_stored_says_how_to_remake_it(
    client: TestClient, path: str, settings: Settings
) -> None:
    next(Path(settings.artifacts).rglob(ETAG.strip('"'))).unlink()
    assert client.get(path).status_code == 200  # from the copy in Redis
    with connect(settings) as connection:
        connection.delete(HOT)
    answer = client.get(path)
    assert answer.status_code == 410
    assert "post the job's request again" in answer.json()["detail"]


def test_a_large_artifact_comes_whole(
    client: TestClient, store: JobStore, leases: LeaseStore, claim: Callable[[str], Claim]
) -> None:
    content = PICTURE * 4000  # 8 MB: several chunks
    job_id = client.post("/prune-sample", json=REQUEST).json()["id"]
    leases.succeed(claim(job_id), {}, {"large": store.artifacts.put(content, "application/octet-stream")})
    assert client.get(f"/jobs/{job_id}/artifacts/large").content == content
    part = client.get(f"/jobs/{job_id}/artifacts/large", headers={"Range": "bytes=1000000-3000000"})
    assert part.content == content[1_000_000:3_000_001]


def test_damaged_bytes_are_never_sent_and_the_same_request_makes_them_anew(
    client: TestClient, path: str, settings: Settings, done: Callable[[str], Job]
) -> None:
    stored = next(Path(settings.artifacts).rglob(ETAG.strip('"')))
    content = stored.read_bytes()
    for asked in ({}, {"Range": "bytes=0-3"}):
        stored.write_bytes(content[:-1] + b"x")
        with connect(settings) as connection:
            connection.delete(HOT)
        answer = client.get(path, headers=asked)
        assert answer.status_code == 410
        assert answer.json()["type"] == "urn:tailprune:problem:artifact-gone"
        assert not stored.exists()
    again = client.post("/prune-sample", json=REQUEST)
    assert again.status_code == 202
    done(again.json()["id"])
    assert client.get(again.json()["links"]["self"] + "/artifacts/grid.png").content == content


def test_a_damaged_large_artifact_is_gone_before_its_first_byte(
    client: TestClient, settings: Settings, store: JobStore, leases: LeaseStore, claim: Callable[[str], Claim]
) -> None:
    job_id = client.post("/prune-sample", json=REQUEST).json()["id"]
    large = store.artifacts.put(PICTURE * 4000, "application/octet-stream")
    leases.succeed(claim(job_id), {}, {"large": large})
    stored = next(Path(settings.artifacts).rglob(large.digest))
    stored.write_bytes(stored.read_bytes()[:-1] + b"x")
    for asked in ({}, {"Range": "bytes=0-3"}):
        assert client.get(f"/jobs/{job_id}/artifacts/large", headers=asked).status_code == 410


def test_a_damaged_hot_copy_is_not_sent(client: TestClient, path: str, settings: Settings) -> None:
    with connect(settings) as connection:
        for damaged in (PICTURE[:100], PICTURE[:-1] + b"x"):
            connection.set(HOT, damaged)
            assert client.get(path).content == PICTURE


def test_while_the_store_of_artifacts_is_away_the_answer_is_503(
    client: TestClient, path: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(settings) as connection:
        connection.delete(HOT)

    def away(*_: Any) -> None:
        raise ArtifactsUnavailable("away")

    monkeypatch.setattr(LocalFiles, "read", away)
    answer = client.get(path)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert answer.json()["type"] == "urn:tailprune:problem:unavailable"
    assert "the store of artifacts" in answer.json()["detail"]
