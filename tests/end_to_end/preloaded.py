"""Processes that begin with their modules imported, as forks of one that has imported them.

An interpreter takes seconds to import what the service or a worker is made of, and the tests start many of them. What
reads the environment, `service.app` and `workers.app`, each process imports itself.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
POLL_SECONDS = 0.01
SERVICE = ("uvicorn.main", "uvicorn.protocols.http.auto", "uvicorn.lifespan.on", "service.routes.*", "service.contract")
WORKER = (
    "celery.bin.celery", "celery.apps.worker", "celery.concurrency.thread", "kombu.transport.redis",
    "workers.worker", "workers.handlers.*", "torch._dynamo",
    "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg",
)  # fmt: skip
"""What a worker imports at its start, for its first samples and for its first figure."""


class Process:
    """A process that was forked elsewhere, with the methods of `subprocess.Popen`."""

    def __init__(self, preloader: Preloader, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._preloader = preloader

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        if self.returncode is None:
            self.returncode = self._preloader.ask(poll=self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, once it has ended; raises subprocess.TimeoutExpired after so many seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            time.sleep(POLL_SECONDS)
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class Preloader:
    """A process that has imported modules, and forks on request; it ends with this one."""

    def __init__(self, modules: Sequence[str]) -> None:
        command = [sys.executable, "-m", __name__, *modules]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, module: Sequence[str], environment: Mapping[str, str], log: Path) -> Process:
        """Runs `python -m` with these arguments, in this environment, with its output at the end of a file."""
        return Process(self, self.ask(module=list(module), environment=dict(environment), log=str(log)))

    def ask(self, **request: Any) -> Any:
        """The answer to a request."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@cache
def preloader(*modules: str) -> Preloader:
    """The one process of these tests that has imported these modules; `package.*` are all of a package."""
    return Preloader(modules)


def _named(modules: Sequence[str]) -> Iterator[str]:
    for name in modules:
        if name.endswith(".*"):
            package = importlib.import_module(name.removesuffix(".*"))
            yield from (found.name for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."))
        else:
            yield name


def _status(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _fork(module: list[str], environment: dict[str, str], log: str) -> int:
    """The id of a new process; in that process, 0."""
    pid = os.fork()
    if pid == 0:
        for number, (path, mode) in enumerate([(os.devnull, os.O_RDONLY)] + 2 * [(log, os.O_WRONLY | os.O_APPEND)]):
            file = os.open(path, mode)
            os.dup2(file, number)
            os.close(file)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = module
    return pid


def _serve(modules: Sequence[str]) -> None:
    """Answers requests until there are no more; in a new process, returns at once."""
    for name in _named(modules):
        importlib.import_module(name)
    while line := sys.stdin.readline():
        request = json.loads(line)
        answer = _status(request["poll"]) if "poll" in request else _fork(**request)
        if answer == 0 and "poll" not in request:
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
            return
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1:])
