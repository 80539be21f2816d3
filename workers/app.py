"""The worker process: `celery --app workers.app worker --pool threads --concurrency 1`, one for each GPU."""

from __future__ import annotations

from typing import Any

from celery.signals import setup_logging, worker_init, worker_ready, worker_shutdown, worker_shutting_down

from jobs.logging import configure_logging
from jobs.queue import SHARD_TASK, TASK, celery_app
from jobs.settings import get_settings
from workers.lease import Heartbeat
from workers.worker import Worker

__all__ = ["app"]

app = celery_app


class _Process:
    """The worker of this process and its heartbeat, set when the process starts."""

    worker: Worker
    heartbeat: Heartbeat


@app.task(name=TASK)
def run_job(job_id: str) -> None:
    """Do the job with this id."""
    _Process.worker.run(job_id)


@app.task(name=SHARD_TASK)
def run_shard(job_id: str, part: dict[str, Any]) -> None:
    """Do a task of a study that another worker holds."""
    _Process.worker.help(job_id, part)


@setup_logging.connect
def _configure_logging(**_: Any) -> None:
    configure_logging(get_settings())


@worker_init.connect
def _create_worker(sender: Any, **_: Any) -> None:
    try:
        _Process.worker = Worker(get_settings(), sender.hostname)
    except Exception as error:  # Celery would log it and go on without a worker
        raise SystemExit(f"the worker cannot start: {error}") from error


@worker_ready.connect
def _start_heartbeat(**_: Any) -> None:
    worker = _Process.worker
    _Process.heartbeat = Heartbeat(worker.leases, worker.workers, worker.info)
    _Process.heartbeat.start()


@worker_shutting_down.connect
def _begin_shutdown(**_: Any) -> None:
    _Process.worker.shutdown.begin()


@worker_shutdown.connect
def _stop_heartbeat(**_: Any) -> None:
    _Process.heartbeat.stop()
