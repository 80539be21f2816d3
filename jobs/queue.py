"""The queues of the broker: the service and the sweep put ids of jobs in, workers take them out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import Celery, group
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError, TimeoutError

from jobs.requests.base import QUEUES, Queue
from jobs.settings import Settings
from jobs.tracing import HEADER, current_traceparent

__all__ = ["SHARD_TASK", "TASK", "WEBHOOKS", "WEBHOOK_TASK", "BrokerUnavailable", "JobQueue", "make_celery"]

TASK = "tailprune.run_job"
SHARD_TASK = "tailprune.run_shard"
WEBHOOK_TASK = "tailprune.call_webhook"
WEBHOOKS = "webhooks"
"""The queue of calls of webhooks, which workers of its own serve: a job takes minutes, and a call must not wait for it,
nor it for a receiver that does not answer."""

VISIBILITY_SECONDS = 6 * 3600  # leases detect lost workers much sooner; this only removes what such a worker left


class BrokerUnavailable(Exception):
    """The broker cannot be reached."""


def make_celery(settings: Settings, queues: Sequence[str] = QUEUES) -> Celery:
    """A Celery application on the broker of these settings. Results are stored in job records, not in Celery.

    queues: what its workers serve; those of jobs by default.
    """
    app = Celery("tailprune", broker=settings.broker, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_queues={name: {} for name in queues},
        task_default_queue="sampling" if "sampling" in queues else queues[0],
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        broker_connection_timeout=2,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a worker waits for its broker however long that takes
        broker_channel_error_retry=True,  # and for one that refuses writes, as while its disk is full
        broker_transport_options=_transport_options(settings.broker),
    )
    return app


def _transport_options(broker: str) -> dict[str, Any]:
    # For publishers: how often to try to connect before the broker counts as unavailable.
    options: dict[str, Any] = {"max_retries": 1, "interval_start": 0.1, "interval_max": 0.5}
    if broker.startswith(("redis", "valkey")):
        options |= {
            "queue_order_strategy": "priority",
            "visibility_timeout": VISIBILITY_SECONDS,
            "socket_connect_timeout": 2,
            "socket_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,
        }
    return options


class JobQueue:
    """Puts jobs on the broker's queues."""

    def __init__(self, celery: Celery) -> None:
        self._celery = celery

    def put(self, job_id: str, queue: Queue) -> None:
        """Put a job on a queue. Raises BrokerUnavailable within seconds if the broker does not answer."""
        try:
            self._celery.send_task(TASK, args=[job_id], queue=queue, retry=False)
        except (OperationalError, ConnectionError, TimeoutError, OSError) as error:
            raise BrokerUnavailable(f"the broker cannot be reached: {error}") from error

    def offer(self, job_id: str, parts: Sequence[dict[str, Any]]) -> None:
        """Offer parts of a running job to idle workers, as one Celery group. Raises BrokerUnavailable."""
        headers = {HEADER: current_traceparent()}  # Celery passes it on as the task's own
        offers = group(
            self._celery.signature(SHARD_TASK, args=[job_id, part], queue="shards", headers=headers) for part in parts
        )
        try:
            offers.apply_async(retry=False)
        except (OperationalError, ConnectionError, TimeoutError, OSError) as error:
            raise BrokerUnavailable(f"the broker cannot be reached: {error}") from error

    def call(self, call_id: str, attempts: int) -> None:
        """Have a webhook called. Raises BrokerUnavailable.

        call_id: of the call.
        attempts: how often it was tried.
        """
        try:
            self._celery.send_task(WEBHOOK_TASK, args=[call_id, attempts], queue=WEBHOOKS, retry=False)
        except (OperationalError, ConnectionError, TimeoutError, OSError) as error:
            raise BrokerUnavailable(f"the broker cannot be reached: {error}") from error

    def depth(self, queue: Queue) -> int:
        """How many messages wait in a queue of the broker. Raises BrokerUnavailable."""
        try:
            with self._celery.connection_for_write() as connection:
                bound = self._celery.amqp.queues[queue](connection.default_channel)
                return int(bound.queue_declare().message_count)
        except (OperationalError, ConnectionError, TimeoutError, OSError) as error:
            raise BrokerUnavailable(f"the broker cannot be reached: {error}") from error
