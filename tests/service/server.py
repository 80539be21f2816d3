"""The service in a process of its own, and nginx in front of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from jobs.settings import Settings
from tests.redis_process import free_port

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0
STOP_SECONDS = 60.0

NGINX = """
daemon off;
master_process off;
error_log stderr;
pid nginx.pid;
events {{}}
http {{
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {{
    listen 127.0.0.1:{port};
{location}
  }}
}}
"""


@dataclass
class Server:
    """A process that answers at a URL."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def stop(self) -> int:
        """Asks it to end, waits until it has, and returns its exit status."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_SECONDS)
        finally:
            self.process.kill()


@contextmanager
def running_service(settings: Settings, folder: Path, *options: str, **environment: str) -> Iterator[Server]:
    """The service with these settings, options of uvicorn and variables, once it is ready."""
    variables = {
        **os.environ,
        "REDIS_URL": settings.redis_url,
        "TAILPRUNE_DATA_DIR": str(settings.data_dir),
        "TAILPRUNE_REGISTRY": str(settings.registry),
        **environment,
    }
    port = free_port()
    command = [sys.executable, "-m", "service.server", "--port", str(port), *options]
    with _running(command, f"http://127.0.0.1:{port}", "/health/ready", folder / "service.log", variables) as server:
        yield server


@contextmanager
def running_nginx(location: str, folder: Path) -> Iterator[Server]:
    """nginx with this location block, in a folder of its own; the test is skipped where there is no nginx."""
    nginx = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    if nginx is None:
        pytest.skip("nginx is neither on the PATH nor in /usr/sbin")
    folder.mkdir()
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(port=port, location=location))
    command = [nginx, "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"]
    with _running(command, f"http://127.0.0.1:{port}", "/", folder / "log", dict(os.environ)) as server:
        yield server


@contextmanager
def _running(command: list[str], url: str, path: str, log: Path, environment: dict[str, str]) -> Iterator[Server]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    server = Server(url, process, log)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(url + path):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"{command[0]} did not start: {log.read_text()}"
            time.sleep(0.05)
        yield server
    finally:
        server.stop()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code < 500
    except httpx.TransportError:
        return False


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Waits for a condition."""
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
