"""Redis, workers and the service as processes of a test's own, each started, stopped and killed by its id."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.end_to_end.preloaded import SERVICE, WORKER, Process, preloader
from tests.redis_process import RedisProcess, free_port
from tests.tiny_model import NAME, write_tiny_model

START_SECONDS = 120.0
STOP_SECONDS = 20.0
KERNELS = tempfile.TemporaryDirectory(prefix="kernels-")
"""Which kernels are fastest here, for all stacks of one run: measured twice, close ones may be chosen otherwise."""


def eventually(condition: Callable[[], Any], what: str, seconds: float = 30.0) -> float:
    """Waits for a condition, and returns how long that took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - begun


@dataclass
class Child:
    """A process and its log."""

    process: Process | subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """Ends it at once, as a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Asks it to end, and waits until it has."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    @property
    def text(self) -> str:
        """What it has logged so far."""
        return self.log.read_text()

    @property
    def memory(self) -> int:
        """Its resident memory in bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)


class Stack:
    """A whole service on loopback ports, with a very small model; `settings` go to every process's environment."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "redis").mkdir()
        (folder / "data").mkdir(mode=0o700, exist_ok=True)
        (folder / "data" / "kernels").symlink_to(KERNELS.name)
        self.redis = RedisProcess(folder / "redis")
        self.registry = write_tiny_model(folder / "models")
        self.url = f"http://127.0.0.1:{free_port()}"
        self.environment = {
            "REDIS_URL": self.redis.url,
            "TAILPRUNE_DATA_DIR": str(folder / "data"),
            "TAILPRUNE_REGISTRY": str(self.registry),
            "TAILPRUNE_THREADS": "1",
            **settings,
        }
        self.http = httpx.Client(base_url=self.url, timeout=60.0, trust_env=False)
        self.workers: list[Child] = []
        self.callers: list[Child] = []
        self.service: Child | None = None

    def start(self, workers: int = 1) -> None:
        """Starts all; returns when the service is ready and Redis has the heartbeats of the workers."""
        self.redis.start()
        for _ in range(workers):
            self.start_worker(wait=False)
        self.start_service()
        self.await_workers(workers)

    def stop(self) -> None:
        """Ends all that still runs, at once; how processes end that are asked to is a matter of tests of its own."""
        self.http.close()
        for child in (self.service, *self.workers, *self.callers):
            if child is not None:
                child.kill()
        self.redis.kill()

    def start_worker(self, wait: bool = True, **settings: str) -> Child:
        """One more worker."""
        name = f"worker-{len(self.workers) + 1}"
        options = ["--pool", "threads", "--concurrency", "1", "--hostname", f"{name}@%h"]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        command = ["celery", "--app", "workers.app", "worker", *options, *quiet]
        before = len(self.worker_names()) if wait else 0
        child = self._start(name, command, settings)
        self.workers.append(child)
        if wait:
            self.await_workers(before + 1)
        return child

    def start_caller(self) -> Child:
        """What calls webhooks; returns when it does."""
        options = ["--pool", "threads", "--concurrency", "32", "--hostname", "webhooks@%h"]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        name = f"webhooks-{len(list(self.folder.glob('webhooks-*.log'))) + 1}"
        child = self._start(name, ["celery", "--app", "workers.webhooks.app", "worker", *options, *quiet], {})
        self.callers.append(child)
        eventually(lambda: " ready." in child.text, "webhooks are called", START_SECONDS)
        return child

    def start_service(self) -> None:
        """The HTTP service; returns when it is ready."""
        port = str(httpx.URL(self.url).port)
        self.service = self._start("service", ["uvicorn", "service.app:app", "--port", port], {})
        eventually(self.is_ready, "the service is ready", START_SECONDS)

    @contextmanager
    def another_service(self, **settings: str) -> Iterator[str]:
        """One more service on the same Redis, with other settings; the URL of its port."""
        port = free_port()
        child = self._start(f"service-{port}", ["uvicorn", "service.app:app", "--port", str(port)], settings)
        eventually(lambda: "Uvicorn running on" in child.text, "the service is ready", START_SECONDS)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            child.stop()

    def await_workers(self, count: int) -> None:
        """Returns when the service sees so many workers."""
        eventually(lambda: len(self.worker_names()) >= count, f"{count} workers are alive", START_SECONDS)

    def is_ready(self) -> bool:
        """Whether /health/ready answers 200."""
        try:
            return self.http.get("/health/ready").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def worker_names(self) -> list[str]:
        """The workers that the service sees."""
        return [worker["name"] for worker in self.http.get("/health/ready").json()["workers"]]

    def worker(self, name: str) -> Child:
        """The worker of this name."""
        (child,) = [child for child in self.workers if f"-{child.process.pid}@" in name]
        return child

    def post(self, wait: float = 0, **body: Any) -> httpx.Response:
        """POST /prune-sample for the small model, with a threshold unless one, or `keep`, is given."""
        if "keep" not in body:
            body.setdefault("threshold", 0.5)
        headers = {"Prefer": f"wait={wait:g}"} if wait else {}
        answer = self.http.post("/prune-sample", json={"model": NAME, **body}, headers=headers)
        assert answer.is_success, answer.text
        return answer

    def job(self, job_id: str) -> dict[str, Any]:
        """GET /jobs/{id}."""
        answer = self.http.get(f"/jobs/{job_id}")
        assert answer.is_success, answer.text
        return dict(answer.json())

    def finished(self, job_id: str, seconds: float = 60.0) -> dict[str, Any]:
        """The job, once it is finished."""
        over = ("succeeded", "failed", "cancelled")
        eventually(lambda: self.job(job_id)["status"] in over, f"job {job_id} finishes", seconds)
        return self.job(job_id)

    def await_progress(self, job_id: str) -> None:
        """Returns when a job is in the middle of its sampling."""

        def is_under_way() -> bool:
            progress = self.job(job_id)["progress"]
            return progress is not None and 0 < progress["done"] < progress["total"]

        eventually(is_under_way, f"job {job_id} is under way")

    def artifact(self, job: dict[str, Any], name: str) -> bytes:
        """GET an artifact of a job."""
        return self.http.get(job["links"]["artifacts"][name]).raise_for_status().content

    def series(self) -> dict[str, float]:
        """GET /metrics: values by name and labels, as Prometheus reads them."""
        lines = self.http.get("/metrics").text.splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}

    def _start(self, name: str, module: list[str], settings: dict[str, str]) -> Child:
        log = self.folder / f"{name}.log"
        log.touch()
        modules = WORKER if module[0] == "celery" else SERVICE
        return Child(preloader(*modules).start(module, {**os.environ, **self.environment, **settings}, log), log)


@contextmanager
def running(folder: Path, workers: int = 1, **settings: str) -> Iterator[Stack]:
    """A stack that is stopped at the end, whatever happens."""
    stack = Stack(folder, **settings)
    try:
        stack.start(workers)
        yield stack
    finally:
        stack.stop()
