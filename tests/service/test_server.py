"""The service under its server and behind a real nginx: prefixes, shutdown, several processes."""

from __future__ import annotations

import io
import itertools
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from rich.console import Console

from jobs.records import Job
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from jobs.store.telemetry import Telemetry
from service.cli.client import Client
from tests.condition_files import VIDEO, arrays, npz
from tests.redis_process import RedisProcess
from tests.registry import write_registry
from tests.service.conftest import REQUEST
from tests.service.server import ROOT, Server, eventually, running_nginx, running_service


def documented_location() -> str:
    """The location block of docs/operations.md."""
    match = re.search(r"^```nginx\n(.*?)^```", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE | re.DOTALL)
    assert match
    return match[1]


DOCUMENTED = "http://127.0.0.1:8000/;"
"""Where the documented block passes requests on; the slash removes the prefix."""


@pytest.fixture(scope="module")
def settings(redis_server: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings that the tests share."""
    redis_server.empty()
    folder = tmp_path_factory.mktemp("server")
    return Settings(redis_url=redis_server.url, data_dir=folder / "data", registry=write_registry(folder / "models"))


@pytest.fixture(scope="module")
def service(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service without a prefix, for tests that leave it as they found it."""
    with running_service(settings, tmp_path_factory.mktemp("service")) as service:
        yield service


@pytest.fixture(scope="module")
def by_setting(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that is told its prefix by a setting; behind a proxy one without keys answers nobody else."""
    told = {"TAILPRUNE_ROOT_PATH": "tailprune/", "TAILPRUNE_OPEN": "true"}
    with running_service(settings, tmp_path_factory.mktemp("by-setting"), **told) as service:
        yield service


@pytest.fixture(scope="module")
def by_server(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that is told its prefix by an option of its server."""
    folder = tmp_path_factory.mktemp("by-server")
    with running_service(settings, folder, "--root-path", "tailprune/", TAILPRUNE_OPEN="true") as service:
        yield service


@pytest.fixture
def published(request: pytest.FixtureRequest, store: JobStore, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Two ways to a service under /tailprune: through nginx, configured as documented, and past it.

    Its parameters are the service, by its fixture, and whether nginx removes the prefix.
    """
    name, slash = getattr(request, "param", ("by_setting", "/"))
    service: Server = request.getfixturevalue(name)
    location = documented_location()
    assert location.count(DOCUMENTED) == 1
    with running_nginx(location.replace(DOCUMENTED, f"{service.url}{slash};"), tmp_path / "nginx") as nginx:
        yield f"{nginx.url}/tailprune", service.url


def links_in(document: Any) -> Iterator[str]:
    """The texts under every key `links` of a document."""
    match document:
        case dict():
            for key, value in document.items():
                yield from texts_in(value) if key == "links" else links_in(value)
        case list():
            for value in document:
                yield from links_in(value)


def texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    else:
        for part in value.values():
            yield from texts_in(part)


@pytest.mark.parametrize("published", [*itertools.product(("by_setting", "by_server"), ("/", ""))], indirect=True)
def test_every_link_of_a_service_behind_nginx_leads_back_to_it(
    published: tuple[str, str], done: Callable[[str], Job]
) -> None:
    url, _ = published
    with httpx.Client(trust_env=False) as http:
        posted = http.post(f"{url}/prune-sample", json=REQUEST)
        job = done(posted.json()["id"])
        uploaded = http.post(f"{url}/conditions", content=npz(arrays(VIDEO)))
        waiting = http.get(f"{url}/metrics/shapes-sit", headers={"Prefer": "wait=0"})
        answers = [
            posted,
            uploaded,
            waiting,
            *(http.get(f"{url}{path}") for path in ("/models", "/models/shapes-sit", "/jobs", f"/jobs/{job.id}")),
            http.get(f"{url}/conditions/{uploaded.json()['id']}"),
            http.delete(url + f"/jobs/{waiting.json()['id']}"),
        ]
        links = [link for answer in answers for link in links_in(answer.json())]
        links += [answer.headers["Location"] for answer in (posted, uploaded, waiting)]
        page = http.get(f"{url}/")
        links += re.findall(r'href="([^"]+)"', page.text)
        links += re.findall(r'(?:src|href)="([^"]+)"', http.get(f"{url}/docs").text)
        assert len(links) > 30
        for link in set(links):
            assert link.startswith("/tailprune/"), link
            with http.stream("GET", httpx.URL(url).join(link), headers={"Prefer": "wait=0"}) as answer:
                assert answer.status_code in (200, 202, 409), (link, answer.status_code)  # 409: not ready
        assert http.get(f"{url}/openapi.json").json()["servers"] == [{"url": "/tailprune"}]


def test_what_is_stored_has_no_prefix(published: tuple[str, str], service: Server, done: Callable[[str], Job]) -> None:
    url, _ = published
    job = done(httpx.post(f"{url}/prune-sample", json=REQUEST, trust_env=False).json()["id"])
    # By the service of the same jobs that is published at the root.
    links = httpx.get(f"{service.url}/jobs/{job.id}", trust_env=False).json()["links"]
    assert links["self"] == f"/jobs/{job.id}"


def test_the_command_line_reaches_a_service_with_a_prefix_through_its_proxy_and_past_it(
    published: tuple[str, str], done: Callable[[str], Job], tmp_path: Path
) -> None:
    for number, url in enumerate(published):
        with Client(url, Console(file=io.StringIO())) as client:
            job = client.submit("prune-sample", REQUEST)
            if number == 0:
                done(job.id)
            grid = job.wait().artifacts["grid.png"]
            assert grid.save(tmp_path / f"grid-{number}.png").stat().st_size > 0


@pytest.mark.parametrize("options", [(), ("--workers", "2"), ("--workers", "2", "--root-path", "/tailprune")])
def test_the_service_stops_although_events_are_followed_and_jobs_are_waited_for(
    settings: Settings, store: JobStore, tmp_path: Path, options: tuple[str, ...]
) -> None:
    waited: list[httpx.Response] = []
    with running_service(settings, tmp_path, *options) as service:
        posted = httpx.post(f"{service.url}/prune-sample", json=REQUEST, trust_env=False)

        def wait() -> None:
            headers = {"Prefer": "wait=60"}
            url, other = f"{service.url}/prune-sample", {**REQUEST, "threshold": 0.2}
            waited.append(httpx.post(url, json=other, headers=headers, timeout=90, trust_env=False))

        waiting = threading.Thread(target=wait)
        waiting.start()
        eventually(lambda: len(store.page(status="queued").jobs) == 2, "the service has the request that waits")
        events = f"{service.url}{posted.json()['links']['events']}"
        with httpx.stream("GET", events, timeout=90, trust_env=False) as stream:
            lines = stream.iter_lines()
            assert next(lines) == "event: status"
            status = service.stop()
            rest = list(lines)  # ends as it should: no error
        waiting.join()
    assert status in (0, -15, 143), service.log.read_text()
    assert rest[-1] == ""
    assert "Cancel" not in service.log.read_text()
    assert [(answer.status_code, answer.json()["status"]) for answer in waited] == [(202, "queued")]


@pytest.fixture
def uncounted(settings: Settings, own_redis: RedisProcess) -> Settings:
    """Settings of a Redis server on which the services of other tests count nothing."""
    return settings.model_copy(update={"redis_url": own_redis.url})


def test_requests_are_counted_over_all_processes(uncounted: Settings, tmp_path: Path) -> None:
    line = re.compile(
        r'^tailprune_http_requests_total\{method="GET",route="/models",status="200"\} (\S+)$', re.MULTILINE
    )
    with running_service(uncounted, tmp_path, "--workers", "2") as service:
        for _ in range(20):  # a connection each, which any of the processes may take
            httpx.get(f"{service.url}/models", trust_env=False)

        def counted() -> set[float]:
            texts = [httpx.get(f"{service.url}/metrics", trust_env=False).text for _ in range(8)]
            return {float(match[1]) for text in texts if (match := line.search(text))}

        eventually(lambda: counted() == {20.0}, "every scrape counts the requests of both processes")


def test_a_service_that_was_stopped_has_counted_its_requests(uncounted: Settings, tmp_path: Path) -> None:
    with running_service(uncounted, tmp_path) as service:
        httpx.get(f"{service.url}/models", trust_env=False)
        service.stop()
    with redis.Redis.from_url(uncounted.redis_url) as client:
        counts = Telemetry(client).read()
    assert counts["tailprune_http_requests", "GET", "/models", "200"] == 1


def test_head_of_a_stream_does_not_hold_it(service: Server, store: JobStore) -> None:
    with httpx.Client(trust_env=False) as http:
        job = http.post(f"{service.url}/prune-sample", json=REQUEST).json()
        path = f"{service.url}{job['links']['events']}"
        for _ in range(3):  # on one connection, which each answer leaves usable
            head = http.head(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["Content-Type"].startswith("text/event-stream")
        assert "Traceback" not in service.log.read_text()
