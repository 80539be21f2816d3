"""`tailprune serve` and the commands that speak to it, as a person runs them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import httpx
import psutil
import pytest

from tests.end_to_end.stack import Child, eventually
from tests.tiny_model import write_tiny_model

COMMAND = [sys.executable, "-c", "from service.cli import app; app()"]


class Server(Child):
    """A running `tailprune serve`."""

    @property
    def url(self) -> str:
        """Where it is ready; empty until it says so."""
        said = re.search(r"^tailprune is ready at (\S+)", self.text, re.MULTILINE)
        return said[1] if said else ""

    def children(self, word: str) -> list[psutil.Process]:
        """Its child processes whose command line has this word."""
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if any(word in part for part in child.cmdline())]


Serve = Callable[..., Server]


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Starts `tailprune serve` on a data folder of these tests, with further options; it is ready on return."""
    folder = tmp_path_factory.mktemp("serve")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("TAILPRUNE_", "REDIS_URL"))},
        "TAILPRUNE_REGISTRY": str(write_tiny_model(folder / "models")),
    }
    servers: list[Server] = []

    def start(*options: str, data: str = "data") -> Server:
        log = folder / f"serve-{len(servers)}.log"
        with log.open("wb") as out:
            command = [*COMMAND, "serve", "--port", "0", "--data-dir", str(folder / data), *options]
            process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
        server = Server(process, log)
        servers.append(server)
        eventually(lambda: server.url or process.poll() is not None, "serve is ready", 60)
        assert server.url, server.text
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def first(serve: Serve) -> Server:
    """One that runs until a test stops it."""
    return serve()


@pytest.fixture(scope="module")
def second(first: Server, serve: Serve) -> Server:
    """One on the same data folder, started when the first was stopped."""
    first.stop()
    return serve()


def test_what_serve_writes_is_for_its_user_alone(first: Server) -> None:
    server, data = first, first.log.with_name("data")
    body = {"model": "tiny", "threshold": 0.5}
    job = httpx.post(f"{server.url}/prune-sample", json=body, headers={"Prefer": "wait=30"}, timeout=40).json()
    assert job["status"] == "succeeded"
    found = [data, *data.rglob("*")]
    assert len(found) > 10
    assert [str(path) for path in found if path.stat().st_mode & 0o077] == []
    processes = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
    url = next(process.environ()["REDIS_URL"] for process in processes if "celery" in " ".join(process.cmdline()))
    password = str(httpx.URL(url).password)
    assert password
    assert not any(password in part for process in processes for part in process.cmdline())
    logs = "".join(path.read_text() for path in (data / "logs").iterdir())
    assert password not in logs + server.text


def test_serve_stops_on_ctrl_c_and_shows_old_jobs_when_started_again(
    first: Server, request: pytest.FixtureRequest
) -> None:
    server = first
    children = psutil.Process(server.process.pid).children(recursive=True)
    body = {"model": "tiny", "threshold": 0.5}
    job = httpx.post(f"{server.url}/prune-sample", json=body, headers={"Prefer": "wait=30"}, timeout=40).json()
    assert job["status"] == "succeeded"
    begun = time.monotonic()
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(30) == 0
    print(f"stopped in {time.monotonic() - begun:.1f} s")
    assert not any(child.is_running() for child in children)
    assert server.text.count("\n") == 1  # the line that said it was ready

    server = request.getfixturevalue("second")
    assert httpx.get(f"{server.url}/jobs/{job['id']}").json() == job
    picture = httpx.get(server.url + job["links"]["artifacts"][job["result"]["grid"]])
    assert picture.headers["content-type"] == "image/png"
    again = httpx.post(f"{server.url}/prune-sample", json=body)
    assert (again.status_code, again.json()["id"]) == (200, job["id"])


def test_serve_starts_again_what_dies(second: Server) -> None:
    server = second
    body = {"model": "tiny", "threshold": 0.5}
    job = httpx.post(f"{server.url}/prune-sample", json=body, headers={"Prefer": "wait=30"}, timeout=40).json()
    time.sleep(2.0)  # by then the job is in Redis' file, which is written once a second
    (worker,), (redis_server,) = server.children("celery"), server.children("-server")
    worker.kill()
    redis_server.kill()

    def is_whole() -> bool:
        try:
            return httpx.get(f"{server.url}/health/ready").status_code == 200 and bool(server.children("celery"))
        except httpx.TransportError:
            return False

    eventually(lambda: server.text.count("and is started again") == 2, "both deaths are noticed")
    eventually(is_whole, "all is up again")
    assert httpx.get(f"{server.url}/jobs/{job['id']}").json() == job
    fresh = httpx.post(
        f"{server.url}/prune-sample", json={**body, "seed": 1}, headers={"Prefer": "wait=30"}, timeout=40
    ).json()
    assert fresh["status"] == "succeeded"


def test_serve_passes_the_prefix_of_a_proxy_on(serve: Serve) -> None:
    server = serve("--workers", "0", "--root-path", "/tailprune", data="other")
    models = httpx.get(f"{server.url}/models").json()["models"]
    assert models[0]["links"]["self"].startswith("/tailprune/models/")
