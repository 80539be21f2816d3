"""Redis, workers and the service as single processes, each of which a benchmark may stop, kill and start again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import redis

from benchmarks.stacks import SETTINGS
from demo import ROOT
from jobs.records import FINISHED
from jobs.store.connection import server_command
from service.cli.serve import service_program, worker_programs

__all__ = ["HOST", "Child", "Processes", "free_port", "processes", "until"]

HOST = "127.0.0.1"
START_SECONDS, STOP_SECONDS = 90.0, 15.0
MEMORY_BYTES = 512 * 2**20
PAUSE_SECONDS = 0.05


def free_port() -> int:
    """A loopback port that nothing listens on."""
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])


def until(condition: Callable[[], Any], what: str, seconds: float = START_SECONDS) -> float:
    """Wait for a condition; return the seconds it took. Raises TimeoutError with `what` after so many seconds."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > seconds:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(PAUSE_SECONDS)
    return time.monotonic() - begun


class Child:
    """A process that leads a group of its own, and its log."""

    def __init__(self, name: str, command: Sequence[str], environment: dict[str, str], log: Path) -> None:
        self.name, self.log = name, log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    @property
    def family(self) -> list[psutil.Process]:
        """The process, and those that it started."""
        try:
            itself = psutil.Process(self.process.pid)
            return [itself, *itself.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    @property
    def memory(self) -> int:
        """The resident memory of all of them, in bytes."""
        return sum(process.memory_info().rss for process in self.family)

    @property
    def cpu_seconds(self) -> float:
        """The processor time of all of them so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self.family)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once, as a crash would, with those that it started."""
        if self.runs:
            os.killpg(self.process.pid, signal.SIGKILL)  # its own group
        self.process.wait()

    def ask_to_stop(self) -> None:
        """Ask it to end, even if it is stopped."""
        if self.runs:
            self.process.terminate()
            self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ask it to end; kill it where it does not."""
        self.ask_to_stop()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()


class Processes:
    """A stack with the shipped models, on loopback ports and a folder of its own.

    folder: where its data and logs are.
    settings: environment variables of every process.
    """

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.redis_url = f"redis://{HOST}:{free_port()}/0"
        self.url = f"http://{HOST}:{free_port()}"
        given = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
        self.environment = given | {
            "REDIS_URL": self.redis_url, "TAILPRUNE_DATA_DIR": str(self.data_dir), "TAILPRUNE_THREADS": "1", **settings,
        }  # fmt: skip
        self.http = httpx.Client(base_url=self.url, timeout=60.0, trust_env=False)
        self.store = redis.Redis.from_url(self.redis_url, decode_responses=True)
        self.workers: list[Child] = []
        self.service: Child
        self.redis: Child
        self._children: list[Child] = []

    def start_redis(self, environment: dict[str, str] | None = None) -> None:
        """Start Redis on its folder, and wait until it answers. environment: variables of its own."""
        folder = self.folder / "redis"
        folder.mkdir(exist_ok=True)
        port = int(self.redis_url.rpartition(":")[2].partition("/")[0])
        self.redis = self._start("redis", server_command(port, folder, MEMORY_BYTES), environment or {})
        until(self._redis_answers, "Redis answers")

    def start_worker(self) -> Child:
        """Start one more worker; it is not waited for."""
        index = len([child for child in self._children if child.name.startswith("worker")])
        program = worker_programs(index + 1, {})[-1]
        child = self._start(f"worker-{index + 1}", program.command, {"TAILPRUNE_WORKER_INDEX": "0"})
        self.workers = [*(worker for worker in self.workers if worker.runs), child]
        return child

    def start_service(self, count: int = 1) -> None:
        """Start the HTTP service with so many processes, and wait until it is ready."""
        command = service_program(HOST, httpx.URL(self.url).port or 0, {}).command
        self.service = self._start("service", [*command, *(["--workers", str(count)] if count > 1 else [])], {})
        until(self.is_ready, "the service is ready")

    def start(self, workers: int = 1, service: int = 1) -> None:
        """Start all, and wait until the service is ready and sees the workers."""
        self.start_redis()
        for _ in range(workers):
            self.start_worker()
        self.start_service(service)
        self.await_workers(workers)

    def stop(self) -> None:
        """Stop all that still runs."""
        self.http.close()
        others = [child for child in self._children if not child.name.startswith("redis")]
        for child in others:
            child.ask_to_stop()
        for child in [*others, *self._children]:
            child.stop()

    def is_ready(self) -> bool:
        """Whether /health/ready answers 200."""
        try:
            return self.http.get("/health/ready").is_success
        except httpx.TransportError:
            return False

    def await_workers(self, count: int) -> None:
        """Wait until the service sees so many workers."""
        until(lambda: len(self.http.get("/health/ready").json().get("workers", [])) >= count, f"{count} workers")

    def post(self, seed: int, wait: float = 0, **body: Any) -> httpx.Response:
        """POST a small job: two samples of shapes-sit, the baseline and one prune."""
        small = {"model": "shapes-sit", "labels": [0], "samples_per_label": 2, "threshold": 0.05, "steps": 20}
        headers = {"Prefer": f"wait={wait:g}"} if wait else {}
        return self.http.post("/prune-sample", json=small | {"seed": seed} | body, headers=headers)

    def job(self, job_id: str) -> dict[str, Any]:
        """GET /jobs/{id}."""
        return dict(self.http.get(f"/jobs/{job_id}").raise_for_status().json())

    def await_finished(self, ids: Iterable[str], seconds: float = 300.0) -> dict[str, str]:
        """Wait until jobs are finished; the status of each, as it is then or after so many seconds."""
        ids, statuses, begun = list(ids), dict[str, str](), time.monotonic()
        while len(statuses) < len(ids) and time.monotonic() - begun < seconds:
            for job_id in ids:
                if job_id not in statuses and (status := self._status(job_id)) in FINISHED:
                    statuses[job_id] = status
            time.sleep(4 * PAUSE_SECONDS)
        return {job_id: statuses.get(job_id) or self._status(job_id) for job_id in ids}

    def samples_made(self) -> float:
        """How many samples the service has counted."""
        lines = self.http.get("/metrics").raise_for_status().text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("tailprune_samples_total"))

    def _status(self, job_id: str) -> str:
        try:
            answer = self.http.get(f"/jobs/{job_id}")
        except httpx.TransportError:
            return "no answer"
        return str(answer.json()["status"]) if answer.is_success else str(answer.status_code)

    def _redis_answers(self) -> bool:
        try:
            return bool(self.store.ping())
        except redis.RedisError:
            return False

    def _start(self, name: str, command: Sequence[str], environment: dict[str, str]) -> Child:
        child = Child(name, command, self.environment | environment, self.folder / f"{name}.log")
        self._children.append(child)
        return child


@contextmanager
def processes(settings: dict[str, str] | None = None, folder: Path | None = None) -> Iterator[Processes]:
    """A stack of which nothing runs yet; all that was started is ended at the end, and its folder deleted.

    settings: environment variables of every process; none by default.
    folder: an existing folder to use in place of a temporary one, which is not deleted.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the stack is ended then too
    with tempfile.TemporaryDirectory(prefix="tailprune-faults-", ignore_cleanup_errors=True) as temporary:
        stack = Processes(folder or Path(temporary), settings or {})
        try:
            yield stack
        finally:
            stack.stop()
