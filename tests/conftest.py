"""The tiers of the tests, their order, and a real Redis server, started once on a free loopback port, with a store.

A test that starts a process has the marker `process`: it or one of its fixtures requests the fixture `processes`, or
it lies in one of the folders whose tests are about processes. Any other test that starts one fails.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from xdist.scheduler import LoadFileScheduling

from jobs.settings import Settings
from jobs.store.jobs import JobStore
from jobs.store.leases import LeaseStore
from tests.redis_process import RedisProcess
from tests.registry import write_registry

HERE = Path(__file__).parent
OF_PROCESSES = (HERE / "end_to_end", HERE / "docker", HERE / "pages")
"""Folders whose tests all have the marker `process`."""

SLOW_FIRST = (
    "documents/test_examples.py::test_the_examples_of_a_document_answer_as_printed[studies.md]",
    "documents/", "end_to_end/", "pages/", "workers/", "service/test_contract.py", "tailprune_client/",
)  # fmt: skip
"""Tests that several processes begin with, so that none of them ends long after the others."""
APART = ("documents/test_examples.py", "documents/test_notebooks.py")
"""Files whose tests several processes share, since each takes long; tests of any other file are of one process."""

NO_REDIS = "redis://127.0.0.1:1/0"
"""An address where nothing listens."""

EVENTS = ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.system")
"""What Python's audit events call the start of a process."""

PROBES = ("fc-list", "ldconfig", "lscpu", "uname")
"""Programs that libraries ask about the machine, once, whenever they are first used."""


class Guard:
    """Fails a test without the marker `process` in which a process is started."""

    def __init__(self) -> None:
        self.active = False
        sys.addaudithook(self._on_event)

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active or event not in EVENTS:
            return
        program = str(arguments[0]) if arguments else event
        if Path(program).name not in PROBES:
            pytest.fail(f"a test without the marker `process` starts {program}: request the fixture `processes`")


GUARD = Guard()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what starts a process."""
    requested = {"processes", "redis_url"} & set(getattr(item, "fixturenames", ()))
    if requested or any(item.path.is_relative_to(folder) for folder in OF_PROCESSES):
        item.add_marker("process")


class Distribution(LoadFileScheduling):
    """Gives processes a file at a time, or a test of those of `APART`, in the order of the tests."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return nodeid if file.endswith(APART) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Distribution:
    config.option.loadscopereorder = False  # which would begin with the files of many tests
    return Distribution(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the slow ones first where several processes run the tests."""
    if hasattr(config, "workerinput"):
        items.sort(
            key=lambda item: next(
                (n for n, slow in enumerate(SLOW_FIRST) if item.nodeid.startswith(f"tests/{slow}")), len(SLOW_FIRST)
            )
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Watch every test that is not so marked, its fixtures included."""
    GUARD.active = item.get_closest_marker("process") is None
    try:
        return (yield)
    finally:
        GUARD.active = False


@pytest.fixture(scope="session")
def processes() -> None:
    """Requested by each fixture that starts a process, and by each test that starts one itself."""


@pytest.fixture
def run_python(processes: None) -> Callable[[str], str]:
    """Runs code in an interpreter of its own, which has to end well; what it prints."""

    def run_python(code: str) -> str:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run_python


@pytest.fixture(scope="session")
def redis_server(processes: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """A server that lives as long as the test session."""
    server = RedisProcess(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_url(request: pytest.FixtureRequest) -> str:
    """The URL of the session's server, which an earlier test may have started, emptied before this test."""
    if request.node.get_closest_marker("process") is None:
        pytest.fail("a test without the marker `process` requests a Redis server at run time: request `redis_url`")
    server: RedisProcess = request.getfixturevalue("redis_server")
    server.empty()
    return server.url


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Any]:
    """A store of objects in this process that speaks S3, on a free loopback port."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3_url(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a folder in a new bucket, for the file systems of fsspec."""
    import boto3

    host, port = s3_server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    bucket = f"bucket-{uuid.uuid4().hex}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/tailprune"


@pytest.fixture
def own_redis(processes: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """A server of the test's own, which it may stop and start again."""
    server = RedisProcess(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of the server, emptied before the test."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings with a registry and a data folder of the test's own; on the server only where the test requests it."""
    server: str = request.getfixturevalue("redis_url") if "redis_url" in request.fixturenames else NO_REDIS
    return Settings(
        redis_url=server,
        broker_url=None,
        data_dir=tmp_path / "data",
        registry=write_registry(tmp_path / "models"),
        lease_seconds=5.0,
        allowed_hosts="testserver",  # the name under which FastAPI's client reaches the application
    )


@pytest.fixture
def store(settings: Settings, redis_client: redis.Redis) -> JobStore:
    """The store on the emptied test server."""
    return JobStore(redis_client, settings)


@pytest.fixture
def leases(settings: Settings, redis_client: redis.Redis) -> LeaseStore:
    """The same jobs, for the workers."""
    return LeaseStore(redis_client, settings)
