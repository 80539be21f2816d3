"""HEAD, list headers, compression and the prefix of a proxy, on every path."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import brotli
import httpx
import pytest
import zstandard
from fastapi import FastAPI
from fastapi.testclient import TestClient

from jobs.problems import InvalidRequest
from jobs.records import Job
from jobs.settings import Settings
from jobs.startup import StartError
from jobs.store.jobs import JobStore
from service.app import app, create_app
from service.headers import preferred_wait
from tests.redis_process import RedisProcess
from tests.registry import write_registry
from tests.service.conftest import REQUEST

OWN = ("x-request-id", "date")
"""Headers that differ between two responses to the same request."""
DECODE: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "br": brotli.decompress,
    "zstd": lambda content: zstandard.ZstdDecompressor().decompressobj().decompress(content),
}

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


@pytest.fixture
def job(client: TestClient, done: Callable[[str], Job]) -> Job:
    """A finished job."""
    return done(client.post("/prune-sample", json=REQUEST).json()["id"])


def raw(client: TestClient, path: str, encoding: str, **headers: str) -> tuple[httpx.Headers, bytes]:
    """Headers and content of a response as they were sent."""
    with client.stream("GET", path, headers={"Accept-Encoding": encoding, **headers}) as answer:
        return answer.headers, b"".join(answer.iter_raw())


def own_left_out(headers: httpx.Headers) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name not in OWN]


# HEAD


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_head_is_answered_as_get_is_without_the_content(client: TestClient, encoding: str) -> None:
    job = client.post("/prune-sample", json=REQUEST, headers={"Prefer": "wait=30"}).json()
    paths = [path for path, calls in app.openapi()["paths"].items() if "get" in calls]
    assert len(paths) > 10
    own = {"{id}": job["id"], "{name}": "grid.png", "{model}": "shapes-sit", "{figure}": "cosine"}
    paths[paths.index("/events")] += "?seconds=0.1"
    for path in [*paths, "/docs", "/openapi.json", "/favicon.ico", "/nothing", "/models?nonsense=1"]:
        for placeholder, value in own.items():
            path = path.replace(placeholder, value)
        headers = {"Accept-Encoding": encoding}
        head, get = client.head(path, headers=headers), client.get(path, headers=headers)
        assert (head.status_code, head.content) == (get.status_code, b""), path
        if path != "/metrics":  # whose length changes, as it counts requests
            assert own_left_out(head.headers) == own_left_out(get.headers), path


def test_head_ignores_a_range(client: TestClient, job: Job) -> None:
    head = client.head(f"/jobs/{job.id}/artifacts/grid.png", headers={"Range": "bytes=0-0"})
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(job.artifacts["grid.png"].size))


def test_head_of_what_the_client_has_is_304(client: TestClient, job: Job) -> None:
    path = f"/jobs/{job.id}/artifacts/grid.png"
    etag = client.head(path).headers["ETag"]
    assert client.head(path, headers={"If-None-Match": etag}).status_code == 304


def test_head_starts_the_job_that_get_would_start(client: TestClient, store: JobStore) -> None:
    head = client.head("/metrics/shapes-sit?threshold=0.123", headers={"Prefer": "wait=0"})
    (started,) = store.page().jobs
    assert (head.status_code, head.headers["Location"]) == (202, f"/jobs/{started.id}")


def test_head_of_a_path_that_only_takes_post_is_405(client: TestClient) -> None:
    head = client.head("/prune-sample")
    assert (head.status_code, head.headers["Allow"]) == (405, "POST")


def test_head_is_counted_as_head(client: TestClient) -> None:
    series = 'tailprune_http_requests_total{method="HEAD",route="/models",status="200"}'
    client.get("/metrics")  # counts what the tests before did

    def counted() -> float:
        lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")
        return float(lines.get(series, 0))

    before = counted()
    client.head("/models")
    assert counted() == before + 1


# Lists


@pytest.mark.parametrize(
    "lines",
    [
        ["respond-async", "wait=0"],
        ["wait=0", "respond-async"],
        ["respond-async, wait=0"],
        ["WAIT = 0"],
        ['wait="0"'],
        [",", "wait=0,"],
        ["wait=0; foo=1"],
        ['return=minimal; foo="a, wait=9"', "wait=0"],
        ["wait=0", "wait=9"],
        ["wait=000"],
    ],
)
def test_a_preference_counts_on_whichever_line_it_is(client: TestClient, lines: list[str]) -> None:
    answer = client.post("/prune-sample", json=REQUEST, headers=[("Prefer", line) for line in lines])
    assert answer.headers["Preference-Applied"] == "wait=0"


@pytest.mark.parametrize("seconds", ["60", "61", "9" * 5000])
def test_a_longer_wait_than_the_limit_is_cut_to_it(seconds: str) -> None:
    assert preferred_wait(f"wait={seconds}", 60.0) == 60.0


@pytest.mark.parametrize(
    "wait", ["wait=-1", "wait=abc", "wait", "wait=", 'wait=""', "wait=5.5", "wait=1e3", "wait=\u0665"]
)
def test_a_wait_that_is_no_whole_number_is_refused(wait: str) -> None:
    with pytest.raises(InvalidRequest, match="use wait=30"):
        preferred_wait(wait, 60.0)


@pytest.mark.parametrize("line", ['foo="wait=0"', "respond-async; wait=0", "waits=0", '"', '"\\'])
def test_what_looks_like_a_preference_within_another_is_none(client: TestClient, line: str) -> None:
    answer = client.post("/prune-sample", json=REQUEST, headers={"Prefer": line})
    assert "Preference-Applied" not in answer.headers


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (['"other"', "TAG"], 304),
        (["TAG", '"other"'], 304),
        (['"a,b", TAG'], 304),
        (["W/TAG"], 304),
        (["*"], 304),
        (['"other", *'], 200),
        (["bare"], 200),
    ],
)
def test_an_entity_tag_counts_on_whichever_line_it_is(
    client: TestClient, job: Job, lines: list[str], status: int
) -> None:
    path = f"/jobs/{job.id}/artifacts/grid.png"
    etag = client.get(path).headers["ETag"]
    headers = [("If-None-Match", line.replace("TAG", etag)) for line in lines]
    assert client.get(path, headers=headers).status_code == status


@pytest.mark.usefixtures("worker")
def test_a_media_type_counts_on_whichever_line_it_is(client: TestClient) -> None:
    for lines in (["text/html", "image/svg+xml"], ['text/html;a="b, image/png", image/svg+xml']):
        headers = [("Accept", line) for line in lines]
        answer = client.get("/metrics/shapes-sit/figures/cosine", headers=headers)
        assert answer.headers["Content-Type"] == "image/svg+xml"


# Compression


@pytest.fixture
def shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The made-up results are short."""
    monkeypatch.setattr("service.middleware.COMPRESSED_BYTES", 100)


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("gzip", "gzip"),
        ("br", "br"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("GZIP", "gzip"),
        ("gzip;q=0, br;q=0.5", "br"),
        ("zstd;q=0.1, gzip; q=0.9", "gzip"),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", "br"),
        ("*", "zstd"),
        ("*, zstd;q=0", "br"),
        ("identity;q=0, gzip", "gzip"),
        ("identity, gzip", "gzip"),
        ("identity;q=1, gzip;q=0.5", None),
        ("identity;q=0", None),
        ("gzip;q=abc", None),
        ("gzip;q=1.5", None),
        ("gzip;q=0.0000001, br", "br"),
        ("gzip;q=0", None),
        ("*;q=0", None),
        ("identity", None),
        ("", None),
        ("deflate", None),
    ],
)
def test_texts_are_compressed_as_the_client_accepts(client: TestClient, accepted: str, chosen: str | None) -> None:
    headers, content = raw(client, "/openapi.json", accepted)
    assert headers.get("Content-Encoding") == chosen
    assert headers["Vary"] == "Accept-Encoding"
    assert int(headers["Content-Length"]) == len(content)
    if chosen is not None:
        assert DECODE[chosen](content) == raw(client, "/openapi.json", "identity")[1]


@pytest.mark.usefixtures("shorter", "worker")
def test_texts_are_compressed_on_every_path(settings: Settings) -> None:
    with TestClient(create_app(settings)) as client:  # with the shorter limit
        for path in ("/openapi.yaml", "/docs", "/", "/models", "/metrics/shapes-sit", "/metrics", "/nothing"):
            client.get(path)  # statistics are kept in memory from then on
            headers, content = raw(client, path, "gzip")
            assert headers["Content-Encoding"] == "gzip", path
            assert "Accept-Encoding" in headers["Vary"]
            assert int(headers["Content-Length"]) == len(content)
            if path != "/metrics":  # which changes
                assert gzip.decompress(content) == raw(client, path, "identity")[1]


def test_encodings_on_two_lines_are_one_list(client: TestClient) -> None:
    headers = [("Accept-Encoding", "gzip;q=0"), ("Accept-Encoding", "br")]
    assert client.get("/openapi.json", headers=headers).headers["Content-Encoding"] == "br"


def test_what_is_short_a_picture_an_artifact_or_a_stream_is_sent_as_it_is(client: TestClient, job: Job) -> None:
    names = [*job.artifacts]
    assert names
    for path in ("/health/live", f"/jobs/{job.id}/events", *(f"/jobs/{job.id}/artifacts/{name}" for name in names)):
        headers, _ = raw(client, path, "gzip, br, zstd")
        assert "Content-Encoding" not in headers, path
    headers, content = raw(client, f"/jobs/{job.id}/artifacts/grid.png", "gzip", Range="bytes=0-9")
    assert ("Content-Encoding" in headers, len(content)) == (False, 10)


def test_what_is_compressed_is_still_304_for_a_client_that_has_it(client: TestClient) -> None:
    headers, _ = raw(client, "/openapi.json", "gzip")
    assert headers["Content-Encoding"] == "gzip"
    again = client.get("/openapi.json", headers={"If-None-Match": headers["ETag"], "Accept-Encoding": "gzip"})
    assert (again.status_code, again.headers["ETag"]) == (304, headers["ETag"])
    assert again.headers["Vary"] == "Accept-Encoding"


def test_two_encodings_never_share_a_strong_entity_tag(client: TestClient) -> None:
    path = "/static-offline-docs/swagger-ui.css"
    plain, _ = raw(client, path, "identity")
    packed, content = raw(client, path, "gzip")
    assert plain["ETag"].startswith('"')
    assert packed["ETag"] == f"W/{plain['ETag']}"
    assert zlib.decompress(content, 31)
    for headers in (plain, packed):
        again = client.get(path, headers={"If-None-Match": headers["ETag"]})
        assert (again.status_code, again.headers["ETag"]) == (304, headers["ETag"])


# The prefix


def under(settings: Settings, prefix: str) -> FastAPI:
    return create_app(settings.model_copy(update={"root_path": prefix}))


@pytest.fixture(scope="module")
def prefixed(settings: Settings) -> Iterator[TestClient]:
    """A client of the application under a prefix."""
    with TestClient(under(settings, "/tailprune")) as client:
        yield client


@pytest.mark.parametrize("passed_on", ["", "/tailprune"], ids=["removed", "kept"])
def test_paths_in_responses_begin_with_the_prefix_whether_or_not_the_proxy_removes_it(
    prefixed: TestClient, passed_on: str
) -> None:
    posted = prefixed.post(f"{passed_on}/prune-sample", json=REQUEST)
    assert posted.headers["Location"] == f"/tailprune/jobs/{posted.json()['id']}"
    assert posted.json()["links"]["self"] == posted.headers["Location"]
    assert 'href="/tailprune/docs"' in prefixed.get(f"{passed_on}/").text
    assert "/tailprune/openapi.json" in prefixed.get(f"{passed_on}/docs").text
    assert prefixed.get(f"{passed_on}/openapi.json").json()["servers"] == [{"url": "/tailprune"}]


def test_the_prefix_alone_is_the_start_page(prefixed: TestClient) -> None:
    assert "<title>tailprune</title>" in prefixed.get("/tailprune").text


def test_a_path_that_only_looks_like_the_prefix_is_none(prefixed: TestClient) -> None:
    assert prefixed.get("/tailprunes/models").status_code == 404


@pytest.mark.parametrize("prefix", ["/models", "/health", "/docs"])
def test_a_prefix_that_is_a_path_of_the_service_is_refused_at_its_start(settings: Settings, prefix: str) -> None:
    with pytest.raises(StartError, match=f"TAILPRUNE_ROOT_PATH={prefix} is also"):
        under(settings, prefix)


def test_a_prefix_is_quoted_wherever_it_is_named(settings: Settings) -> None:
    with TestClient(under(settings, "/tail prune")) as client:
        assert client.get("/models/shapes-sit").json()["links"]["self"] == "/tail%20prune/models/shapes-sit"
        assert client.get("/openapi.json").json()["servers"] == [{"url": "/tail%20prune"}]


def test_limits_of_single_calls_hold_under_a_prefix(prefixed: TestClient, settings: Settings) -> None:
    large = bytes(settings.max_body_bytes + 1)
    assert prefixed.post("/conditions", content=large).status_code == 422  # no file, but not too large
    assert prefixed.post("/prune-sample", content=large).status_code == 413


@pytest.mark.parametrize(("given", "kept"), [("", ""), ("/", ""), ("a", "/a"), ("/a/b/", "/a/b"), ("a//", "/a")])
def test_the_prefix_is_kept_in_one_form(given: str, kept: str) -> None:
    assert Settings(root_path=given).root_path == kept


def test_the_page_has_an_icon_a_main_part_a_language_and_the_colours_of_the_browser(client: TestClient) -> None:
    page = client.get("/").text
    for part in ('<html lang="en">', "<title>", "<main>", 'name="color-scheme" content="light dark"'):
        assert part in page
    icon: Any = client.get("/favicon.ico")
    assert (icon.status_code, icon.headers["Content-Type"]) == (200, "image/svg+xml")
    assert 'href="/favicon.ico"' in page
