"""What the containers run, run here: the same commands and the same health checks, without an engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import redis

from jobs.store.connection import find_server
from tests.docker.containers import NEEDED, ROOT, SERVICE, SERVICES, WORKER, Dockerfile
from tests.redis_process import free_port

START_SECONDS = 120.0  # a worker imports torch first, on a machine that may be busy
STOP_SECONDS = 60.0


@pytest.fixture(scope="module")
def composed_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server that runs by the command of docker-compose.yml."""
    port, folder = free_port(), tmp_path_factory.mktemp("redis")
    (folder / "redis-server").symlink_to(find_server())
    command = [*SERVICES["redis"]["entrypoint"], *SERVICES["redis"]["command"]]
    here = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    path = os.pathsep.join([str(folder), os.environ["PATH"]])
    server = subprocess.Popen([*command, *here], stdout=subprocess.DEVNULL, env={"PATH": path, **NEEDED})
    assert not any(NEEDED["REDIS_PASSWORD"] in part for part in psutil.Process(server.pid).cmdline())
    url = f"redis://:{NEEDED['REDIS_PASSWORD']}@127.0.0.1:{port}/0"
    _wait_until(lambda: _answers(url), server)
    yield url
    server.terminate()
    server.wait(10)


def test_redis_keeps_its_data_and_evicts_only_what_expires(composed_redis: str) -> None:
    with redis.Redis.from_url(composed_redis) as client:
        told = client.config_get("appendonly", "appendfsync", "maxmemory", "maxmemory-policy")
    told = {name.decode() if isinstance(name, bytes) else name: _text(value) for name, value in told.items()}
    assert told == {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory": str(512 * 2**20),
        "maxmemory-policy": "volatile-lru",
    }


def test_the_service_is_healthy_when_redis_and_a_worker_are_there(composed_redis: str, tmp_path: Path) -> None:
    port = str(free_port())
    with (
        _running(WORKER, composed_redis, tmp_path) as worker,
        _running(SERVICE, composed_redis, tmp_path, port) as service,
    ):
        _wait_until(lambda: _is_healthy(WORKER, composed_redis), worker)
        _wait_until(lambda: _is_healthy(SERVICE, composed_redis, port), service)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(STOP_SECONDS) == 0
        assert not _is_healthy(WORKER, composed_redis)
        service.send_signal(signal.SIGTERM)
        service.wait(STOP_SECONDS)
        assert not _is_healthy(SERVICE, composed_redis, port)


def test_redis_answers_nobody_without_the_password(composed_redis: str) -> None:
    with (
        redis.Redis.from_url(composed_redis.replace(f":{NEEDED['REDIS_PASSWORD']}@", "")) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()


def test_a_worker_without_redis_is_not_healthy() -> None:
    assert not _is_healthy(WORKER, f"redis://127.0.0.1:{free_port()}/0")


@contextmanager
def _running(dockerfile: Dockerfile, redis_url: str, data: Path, port: str = "") -> Iterator[subprocess.Popen[bytes]]:
    environment = _environment(redis_url) | {"TAILPRUNE_DATA_DIR": str(data), "TAILPRUNE_DEVICE": "cpu"}
    process = subprocess.Popen(_here(dockerfile.command, port), cwd=ROOT, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def _is_healthy(dockerfile: Dockerfile, redis_url: str, port: str = "") -> bool:
    command = _here(dockerfile.health_command, port)
    done = subprocess.run(command, cwd=ROOT, env=_environment(redis_url), capture_output=True, timeout=30)
    return done.returncode == 0


def _here(command: list[str], port: str) -> list[str]:
    """A container's command as it runs here: this Python, a free port, the files where they lie."""
    assert command[0] == "python"
    swap = {"worker_health.py": "docker/worker_health.py", "8000": port, "0.0.0.0": "127.0.0.1"}
    rest = [swap.get(part, part).replace("127.0.0.1:8000", f"127.0.0.1:{port}") for part in command[1:]]
    return [sys.executable, *rest]


def _environment(redis_url: str) -> dict[str, str]:
    return {**os.environ, "REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)}


def _answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def _wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
        assert time.monotonic() < deadline, f"{process.args!r} is not ready after {START_SECONDS} s"
        time.sleep(0.2)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
