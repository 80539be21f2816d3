"""The worker that calls webhooks: `celery --app workers.webhooks.app worker --pool threads --concurrency 32`."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import redis
import structlog
from celery.signals import setup_logging, worker_init, worker_ready, worker_shutdown

from jobs.logging import configure_logging
from jobs.queue import WEBHOOK_TASK, WEBHOOKS, JobQueue, make_celery
from jobs.settings import get_settings
from jobs.startup import await_servers, check_folder, ending_on_reasons
from jobs.storage.artifacts import ArtifactStore
from jobs.store.connection import connect
from jobs.store.heartbeats import PeriodicThread, WorkerRegistry
from jobs.views import WorkerInfo
from workers.webhooks.caller import Caller

__all__ = ["app"]

LOOK_SECONDS = 0.5

log = structlog.get_logger(__name__)

with ending_on_reasons():
    app = make_celery(get_settings(), queues=[WEBHOOKS])


class _Process:
    """The caller of this process, the thread that looks for calls that are due, and the one that says it is alive."""

    caller: Caller
    looking: PeriodicThread
    registry: WorkerRegistry
    info: WorkerInfo
    beating: PeriodicThread


@app.task(name=WEBHOOK_TASK)
def call_webhook(call_id: str, attempts: int) -> None:
    """Make the call of this id."""
    _Process.caller.make(call_id, attempts)


@setup_logging.connect
def _configure_logging(**_: Any) -> None:
    configure_logging(get_settings())


@worker_init.connect
def _create_caller(sender: Any, **__: Any) -> None:
    settings = get_settings()
    node, _, host = sender.hostname.partition("@")
    configure_logging(settings)  # Celery asks for it only later
    try:
        with ending_on_reasons():
            check_folder(settings.data_dir, "TAILPRUNE_DATA_DIR")
            client = connect(settings)
            await_servers(settings, ArtifactStore(settings, client), log.warning)
        _Process.caller = Caller(settings, client, JobQueue(app))
        _Process.registry = WorkerRegistry(client, settings.sweep_seconds, "callers")
        _Process.info = WorkerInfo(name=f"{node}-{os.getpid()}@{host}", device="none")
    except Exception as error:  # Celery would log it and go on without a caller
        raise SystemExit(f"the worker of webhooks cannot start: {error}") from error


@worker_ready.connect
def _start(**_: Any) -> None:
    def beat() -> None:
        with contextlib.suppress(redis.RedisError):
            _Process.registry.beat(_Process.info)

    _Process.looking = PeriodicThread(_Process.caller.send_due, LOOK_SECONDS, "webhooks", at_once=True, vital=True)
    _Process.beating = PeriodicThread(beat, get_settings().sweep_seconds, "upkeep", at_once=True, vital=True)
    _Process.looking.start()
    _Process.beating.start()


@worker_shutdown.connect
def _stop(**_: Any) -> None:
    _Process.looking.stop()
    _Process.beating.stop()
    with contextlib.suppress(redis.RedisError):
        _Process.registry.leave(_Process.info)
