"""How processes start: what they say where they cannot, and two stacks beside each other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import redis

from tests.end_to_end.stack import Child, Stack, eventually
from tests.end_to_end.test_serve import COMMAND, Server
from tests.redis_process import RedisProcess, free_port
from tests.tiny_model import write_tiny_model

WORKER = ("celery", "--app", "workers.app", "worker", "--pool", "threads", "--concurrency", "1")
SERVICE = ("uvicorn", "service.app:app", "--port", "0")
QUIET = {"PYTHONWARNINGS": "ignore"}  # of Celery, about root

Start = Callable[..., Child]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a program with these variables besides those of this test, and with none of its own settings."""
    ours = ("TAILPRUNE_", "REDIS_URL", "BROKER_URL")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= QUIET | {
        "TAILPRUNE_REGISTRY": str(write_tiny_model(tmp_path / "models")),
        "TAILPRUNE_DATA_DIR": str(tmp_path / "data"),
    }
    children: list[Child] = []

    def start(command: list[str], **variables: str) -> Child:
        log = tmp_path / f"{len(children)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(command, env={**environment, **variables}, stdout=out, stderr=out)
        children.append(Server(process, log))
        return children[-1]

    yield start
    for child in children:
        child.process.terminate()
    for child in children:
        child.stop()


def said_by(child: Child, seconds: float = 90) -> str:
    """What a process that cannot start says, without what uvicorn says besides."""
    eventually(lambda: child.process.poll() is not None, "the process ends", seconds)
    assert child.process.returncode != 0
    besides = re.compile(r"Started server process|Waiting for application startup|Application startup failed")
    return "\n".join(line for line in child.text.splitlines() if not besides.search(line))


@pytest.mark.parametrize("program", [WORKER, SERVICE], ids=["worker", "service"])
@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        # One that is found when the program is imported, and one when it starts.
        ("BROKER_URL", "redis://:s3cret@host:port", "BROKER_URL=redis://:***@host:port: the port is not a number"),
        ("TAILPRUNE_REGISTRY", "/", "/ cannot be read: Is a directory"),
    ],
)
def test_a_process_that_cannot_start_says_why_in_one_line(
    start: Start, program: tuple[str, ...], variable: str, value: str, reason: str
) -> None:
    said = said_by(start([sys.executable, "-m", *program], **{variable: value}))
    assert reason in said
    assert said.count("\n") == 0, said


def test_a_device_that_is_not_there_ends_serve_with_the_reason(start: Start, tmp_path: Path) -> None:
    child = start([*COMMAND, "serve", "--port", "0"], TAILPRUNE_DEVICE="xyz")
    assert said_by(child).startswith("tailprune serve: worker-1 cannot start: TAILPRUNE_DEVICE=xyz is not a device")


def test_processes_wait_for_a_redis_that_does_not_answer_and_say_so(
    start: Start, own_redis: RedisProcess, tmp_path: Path
) -> None:
    own_redis.stop()
    child = start([*COMMAND, "serve", "--port", "0"], REDIS_URL=own_redis.url)
    reason = f"Redis at {own_redis.url}: connection refused"
    eventually(lambda: child.text == f"waiting: {reason}\n", "serve says what it waits for", 60)
    port = free_port()
    service = start([sys.executable, "-m", "uvicorn", "service.app:app", "--port", str(port)], REDIS_URL=own_redis.url)
    worker = start([sys.executable, "-m", *WORKER], REDIS_URL=own_redis.url)
    eventually(lambda: reason in service.text and reason in worker.text, "the others say so too", 60)
    own_redis.start()
    eventually(lambda: isinstance(child, Server) and child.url, "serve is ready", 90)

    def both_work() -> bool:
        try:
            return len(httpx.get(f"http://127.0.0.1:{port}/health/ready").json()["workers"]) == 2
        except (httpx.TransportError, KeyError):
            return False

    eventually(both_work, "the worker is up beside that of serve", 60)


def test_a_service_that_finds_the_jobs_of_another_store_later_stops(
    start: Start, own_redis: RedisProcess, tmp_path: Path
) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        client.set("tailprune:artifacts-store", '{"id": "theirs", "location": "s3://theirs"}')
    own_redis.stop()
    service = start([sys.executable, "-m", "uvicorn", "service.app:app", "--port", "0"], REDIS_URL=own_redis.url)
    eventually(lambda: "connection refused" in service.text, "the service waits", 60)
    own_redis.start()
    said = said_by(service)
    assert "the jobs of another store of artifacts, s3://theirs" in said


def test_a_second_stack_with_another_folder_on_the_same_redis_is_refused(stack: Stack, start: Start) -> None:
    theirs = stack.folder / "data" / "artifacts"
    reason = f"Redis at {stack.redis.url} has the jobs of another store of artifacts, {theirs}"
    programs = ([*COMMAND, "serve", "--port", "0"], [sys.executable, "-m", *WORKER], [sys.executable, "-m", *SERVICE])
    for command in programs:
        said = said_by(start(command, REDIS_URL=stack.redis.url))
        assert reason in said
        assert said.count("\n") == 0, said


def test_workers_of_one_machine_with_one_name_are_counted_each(stack: Stack, start: Start) -> None:
    before = len(stack.worker_names())
    variables = {name: stack.environment[name] for name in ("REDIS_URL", "TAILPRUNE_DATA_DIR")}
    start([sys.executable, "-m", *WORKER, "--hostname", "worker-1@%h"], **variables)
    stack.await_workers(before + 1)


def test_a_socket_of_redis_is_used_for_jobs_and_queue(start: Start, own_redis: RedisProcess) -> None:
    own_redis.stop()
    own_redis.start("--unixsocket", str(own_redis.folder / "socket"))
    server = start([*COMMAND, "serve", "--port", "0"], REDIS_URL=f"unix://{own_redis.folder}/socket?db=1")
    assert isinstance(server, Server)
    eventually(lambda: server.url or server.process.poll() is not None, "serve is ready", 90)
    body = {"model": "tiny", "threshold": 0.5}
    job = httpx.post(f"{server.url}/prune-sample", json=body, headers={"Prefer": "wait=30"}, timeout=40).json()
    assert job["status"] == "succeeded"
