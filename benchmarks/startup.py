"""How long is it from start to ready?

The service is ready when `/health/ready` answers 200, a worker when it is in the registry of workers, and `tailprune
serve` when it says so: its Redis runs, and its service sees its worker. The other side is what anybody starts who uses
the same libraries: a FastAPI application of one route under uvicorn, a Celery worker whose application imports torch,
with the options of ours, and both with a Redis server, all started at once. Each is started once before, so that files
are in the page cache and modules have their bytecode; then in turn with ours. CPU time is that of all processes until
then.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import redis

from benchmarks.processes import HOST, MEMORY_BYTES, Child, Processes, free_port, processes
from benchmarks.report import Aim, Section, ratio, shown
from jobs.store.connection import server_command
from jobs.store.heartbeats import WorkerRegistry
from service.cli.serve import service_program, worker_programs

ROUNDS = 7
LOOK_SECONDS = 0.01
LONGEST_SECONDS = 120.0
ROUTE = """from fastapi import FastAPI

app = FastAPI()


@app.get("/")
def live() -> dict[str, str]:
    return {"status": "live"}
"""
TASKS = """import os

import redis
import torch
from celery import Celery
from celery.signals import worker_ready

app = Celery("tasks", broker=os.environ["REDIS_URL"])


@worker_ready.connect
def say(**_):
    redis.Redis.from_url(os.environ["REDIS_URL"]).set(f"ready-{os.getpid()}", 1)
"""


@dataclass(frozen=True)
class Start:
    """What a start took until all was ready, in seconds."""

    seconds: float
    cpu_seconds: float


class Starts:
    """Starts each side in a folder, on the Redis of a stack.

    stack: of which only Redis runs.
    """

    def __init__(self, stack: Processes) -> None:
        self._stack = stack
        self._registry = WorkerRegistry(stack.store, 1.0)
        (stack.folder / "route.py").write_text(ROUTE)
        (stack.folder / "tasks.py").write_text(TASKS)

    def service(self) -> Start:
        """Our service."""
        port = free_port()
        return self._started([service_program(HOST, port, {}).command], lambda _: self._answers(port, "/health/ready"))

    def route(self) -> Start:
        """One route."""
        port = free_port()
        return self._started([self._route(port)], lambda _: self._answers(port, "/"))

    def worker(self) -> Start:
        """Our worker."""

        def ready(children: Sequence[Child]) -> bool:
            name = f"-{children[0].process.pid}@"
            return any(name in worker.name for worker in self._registry.alive())

        return self._started([worker_programs(1, {})[0].command], ready)

    def tasks(self) -> Start:
        """A worker that imports torch."""
        return self._started([self._tasks()], lambda children: _is_set(self._stack.store, children[0]))

    def serve(self) -> Start:
        """Our command, on a new data folder."""
        with tempfile.TemporaryDirectory(prefix="tailprune-benchmark-") as folder:
            command = [sys.executable, "-m", "service", "serve", "--port", "0", "--data-dir", folder]
            hidden = ("REDIS_URL", "TAILPRUNE_DATA_DIR")
            return self._started(
                [command], lambda children: "tailprune is ready" in children[0].log.read_text(), hidden
            )

    def by_hand(self) -> Start:
        """Redis, one route and a worker that imports torch."""
        port, server = free_port(), free_port()
        with tempfile.TemporaryDirectory(prefix="tailprune-benchmark-") as folder:
            url = f"redis://{HOST}:{server}/0"
            commands = [server_command(server, Path(folder), MEMORY_BYTES), self._tasks(), self._route(port)]

            def ready(children: Sequence[Child]) -> bool:
                with suppress(redis.ConnectionError), redis.Redis.from_url(url) as client:
                    return _is_set(client, children[1]) and self._answers(port, "/")
                return False

            return self._started(commands, ready, REDIS_URL=url)

    def _answers(self, port: int, path: str) -> bool:
        with suppress(httpx.TransportError):
            return self._stack.http.get(f"http://{HOST}:{port}{path}").is_success
        return False

    def _route(self, port: int) -> list[str]:
        folder = str(self._stack.folder)
        return [sys.executable, "-m", "uvicorn", "--app-dir", folder, "--host", HOST, "--port", str(port), "route:app"]

    def _tasks(self) -> list[str]:
        ours = worker_programs(1, {})[0].command
        celery = ours[: ours.index("--app")]
        options = ours[ours.index("worker") :]
        return [*celery, "--workdir", str(self._stack.folder), "--app", "tasks", *options]

    def _started(
        self,
        commands: Sequence[Sequence[str]],
        ready: Callable[[Sequence[Child]], bool],
        hidden: Sequence[str] = (),
        **variables: str,
    ) -> Start:
        """Start commands at once, wait until they are ready, and stop them. Raises RuntimeError where one ends first.

        hidden: variables that they do not have; variables: those that they have besides.
        """
        environment = {name: value for name, value in self._stack.environment.items() if name not in hidden} | variables
        log = self._stack.folder / "start.log"
        log.unlink(missing_ok=True)
        begun = time.perf_counter()
        children = [Child("start", command, environment, log) for command in commands]
        try:
            while not ready(children):
                if not all(child.runs for child in children) or time.perf_counter() - begun > LONGEST_SECONDS:
                    raise RuntimeError(f"{' '.join(commands[0])} did not become ready:\n{log.read_text()}")
                time.sleep(LOOK_SECONDS)
            return Start(time.perf_counter() - begun, sum(child.cpu_seconds for child in children))
        finally:
            for child in reversed(children):
                child.stop()


def run() -> Section:
    """One table: the service, a worker and the whole, each beside what is started without it."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # bytecode is kept, as it is for whoever starts twice
    found: dict[str, tuple[list[Start], list[Start]]] = {}
    with processes() as stack:
        stack.start_redis()
        starts = Starts(stack)
        sides = {
            "the service": (starts.route, starts.service),
            "a worker": (starts.tasks, starts.worker),
            "`tailprune serve`": (starts.by_hand, starts.serve),
        }
        for name, (start_theirs, start_ours) in sides.items():
            start_theirs(), start_ours()
            pairs = [(start_theirs(), start_ours()) for _ in range(ROUNDS)]
            found[name] = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    lines = [
        "## From start to ready\n",
        f"{ROUNDS} starts of each side, in turn. Median (least to most).\n",
        "| | without tailprune | tailprune | ratio |",
        "|---|---|---|---|",
    ]
    aims = []
    for name, (theirs, ours) in found.items():
        times = [[start.seconds for start in side] for side in (theirs, ours)]
        cpu = [[start.cpu_seconds for start in side] for side in (theirs, ours)]
        lines += [_row(name, *times), _row(f"{name}, CPU", *cpu)]
        aims.append(Aim(f"from start to ready, of {name}", "", ratio(*times).partition(" ")[0], None))
    return Section("\n".join(lines) + "\n", aims)


def _row(name: str, theirs: Sequence[float], ours: Sequence[float]) -> str:
    return f"| {name} | {shown(theirs, _seconds)} | {shown(ours, _seconds)} | {ratio(theirs, ours)} |"


def _seconds(value: float) -> str:
    return f"{value:.2f} s"


def _is_set(client: redis.Redis, child: Child) -> bool:
    return bool(client.exists(f"ready-{child.process.pid}"))
