"""The worker process: `celery --app workers.app worker --pool threads --concurrency 1`, one for each GPU."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import structlog
from celery.signals import setup_logging, worker_init, worker_ready, worker_shutdown, worker_shutting_down

from jobs.logging import configure_logging
from jobs.queue import SHARD_TASK, TASK, make_celery
from jobs.registry.models import Registry
from jobs.settings import get_settings
from jobs.startup import await_servers, check_folder, ending_on_reasons
from jobs.storage.artifacts import ArtifactStore
from jobs.storage.retention import Collector
from jobs.store.connection import connect
from jobs.store.heartbeats import PeriodicThread
from jobs.tracing import HEADER, configure_tracing, span
from workers.lease import Heartbeat

if TYPE_CHECKING:
    from workers.worker import Worker

__all__ = ["app"]

log = structlog.get_logger(__name__)

with ending_on_reasons():
    app = make_celery(get_settings())


class _Process:
    """The worker of this process, its heartbeat and its collector of files, set when the process starts."""

    worker: Worker
    heartbeat: Heartbeat
    collector: Collector
    collection: PeriodicThread


@app.task(name=TASK)
def run_job(job_id: str) -> None:
    """Do the job with this id."""
    _Process.worker.run(job_id)


@app.task(name=SHARD_TASK, bind=True)
def run_shard(task: Any, job_id: str, part: dict[str, Any]) -> None:
    """Do a task of a study that another worker holds."""
    headers = task.request.headers or {}
    with span("help", headers.get(HEADER, ""), tailprune__job_id=job_id):
        _Process.worker.help(job_id, part)


@setup_logging.connect
def _configure_logging(**_: Any) -> None:
    configure_logging(get_settings())


@worker_init.connect
def _create_worker(sender: Any, **_: Any) -> None:
    settings = get_settings()
    configure_logging(settings)  # Celery asks for it only later
    node, _, host = sender.hostname.partition("@")
    try:
        with ending_on_reasons():
            configure_tracing(settings.traces, "tailprune-worker")
            check_folder(settings.data_dir, "TAILPRUNE_DATA_DIR")
            Registry.read(settings.registry, settings.hub_cache)
            await_servers(settings, ArtifactStore(settings, connect(settings)), log.warning)
            from workers.worker import Worker  # with torch: seconds, for which nothing that is wrong above has to wait

            # The process id tells workers of one machine apart that have the same name, as of two stacks.
            worker = Worker(settings, f"{node}-{os.getpid()}@{host}")
            worker.context.catalogue.warn_of_hidden()
    except Exception as error:  # Celery would log it and go on without a worker
        raise SystemExit(f"the worker cannot start: {error}") from error
    _Process.worker = worker


@worker_ready.connect
def _start_heartbeat(**_: Any) -> None:
    worker = _Process.worker
    _Process.heartbeat = Heartbeat(worker.leases, worker.workers, worker.info, lambda: worker.batch)
    _Process.heartbeat.start()
    settings = worker.store.settings
    _Process.collector = Collector(settings, connect(settings), worker.store)
    _Process.collection = PeriodicThread(
        _Process.collector.collect_if_due, settings.collect_seconds, "collector", at_once=True
    )
    _Process.collection.start()


@worker_shutting_down.connect
def _begin_shutdown(**_: Any) -> None:
    _Process.worker.shutdown.begin()


@worker_shutdown.connect
def _stop_heartbeat(**_: Any) -> None:
    _Process.collector.stop()
    _Process.collection.stop()
    _Process.heartbeat.stop()
