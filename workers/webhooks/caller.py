"""Finds the calls of webhooks that are due, makes them, and tries again those that fail."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import redis
import structlog
from structlog.contextvars import bound_contextvars

from jobs.queue import BrokerUnavailable, JobQueue
from jobs.settings import Settings, retry_pauses
from jobs.store.telemetry import WEBHOOK_SECONDS, Telemetry
from jobs.store.webhooks import Call, Outcome, WebhookStore
from jobs.webhooks.hosts import Endpoint, endpoint_of, host_rules, shown
from jobs.webhooks.secret import headers_of, read_secrets
from workers.webhooks.outgoing import WHOLE_SECONDS, Answer, Resolve, post, resolve

__all__ = ["Caller", "body_of"]

LAPSE_SECONDS = 2 * WHOLE_SECONDS
"""A call that is not heard of for so long is due again: its message was lost, or its worker."""
JITTER = 0.2
"""By which share a pause may be longer or shorter, so that calls that failed together do not all come back at once."""
LONGEST_ASKED_SECONDS = 6 * 3600.0
"""How long a receiver may ask to be left alone for."""
MOST_OF_A_HOST = 4
"""How many calls of one host are made at a time by a process, so that one that hangs does not hold up the others."""
BUSY_SECONDS = 1.0
GONE = 410

log = structlog.get_logger(__name__)


class Caller:
    """Makes the calls of one process.

    settings: the hosts that may be called, the secret and the pauses.
    client: of Redis.
    queue: where calls that are due are put.
    resolve: finds the addresses of a host; by default as the machine does.
    Raises ValueError and OSError where the secret cannot be read.
    """

    def __init__(self, settings: Settings, client: redis.Redis, queue: JobQueue, resolve: Resolve = resolve) -> None:
        self._store = WebhookStore(client)
        self._telemetry = Telemetry(client)
        self._queue = queue
        self._resolve = resolve
        self._rules = host_rules(settings.webhook_hosts)
        self._secrets = read_secrets(settings.webhook_secret, settings.data_dir)
        self._pauses = retry_pauses(settings.webhook_retry_seconds)
        self._longest = max(*self._pauses, LONGEST_ASKED_SECONDS, LAPSE_SECONDS) * (1 + JITTER)
        self._prefix = quote(settings.root_path)
        self._busy: Counter[str] = Counter()
        self._lock = threading.Lock()

    def send_due(self) -> None:
        """Put the calls that are due on the queue. Never raises redis.RedisError."""
        try:
            for call_id, attempts in self._store.due(LAPSE_SECONDS, self._longest):
                self._queue.call(call_id, attempts)
        except (redis.RedisError, BrokerUnavailable) as error:  # what is due stays so, or is again after the lapse
            log.warning("calls of webhooks wait: Redis or the broker does not answer", reason=str(error))

    def make(self, call_id: str, attempts: int) -> None:
        """Make a call, unless this try was begun before, or needs none. attempts: how often it was tried."""
        try:
            call = self._store.begin(call_id, attempts, LAPSE_SECONDS)
        except redis.RedisError as error:
            log.warning("call of a webhook not begun; it is due again soon", call=call_id, reason=str(error))
            return
        if call is None:
            return
        with bound_contextvars(job_id=call.job_id, call=call.id, url=shown(call.url)):
            if call.attempts > len(self._pauses) + 1:
                self._settle(call, Answer(fault="each try ended with its process"))
                return
            try:
                endpoint = endpoint_of(call.url, self._rules)
            except ValueError as error:  # what may be called has changed since
                self._settle(call, Answer(fault=str(error)))
                return
            with self._place(endpoint) as is_free:
                if is_free:
                    self._settle(call, self._try(call, endpoint))
                    return
            with contextlib.suppress(redis.RedisError):
                self._store.settle(call.id, call.attempts, "busy", pause=_spread(BUSY_SECONDS))

    def _try(self, call: Call, endpoint: Endpoint) -> Answer:
        body = body_of(call, self._prefix)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "tailprune-webhooks",
            **headers_of(self._secrets, call.id, int(time.time()), body),
        }
        begun = time.monotonic()
        try:
            answer = post(endpoint, headers, body, self._resolve)
        except Exception as error:  # a bug, which must not be tried in a circle
            log.exception("call of a webhook broke")
            answer = Answer(fault=f"an internal error: {type(error).__name__}")
        kind = "none" if answer.status is None else f"{answer.status // 100}xx"
        self._telemetry.observe(WEBHOOK_SECONDS, kind, value=time.monotonic() - begun)
        return answer

    def _settle(self, call: Call, answer: Answer) -> None:
        pause = 0.0
        outcome: Outcome
        if answer.is_good:
            outcome = "delivered"
        elif answer.status == GONE or call.attempts > len(self._pauses):
            outcome = "failed"
        else:
            outcome = "again"
            pause = _spread(self._pauses[call.attempts - 1])
            pause = max(pause, min(answer.retry_after or 0.0, LONGEST_ASKED_SECONDS))
        facts = {"webhook_event": call.event, "attempt": call.attempts, "status": answer.status}
        if answer.is_good:
            log.info("webhook called", **facts)
        else:
            log.warning("call of a webhook failed", **facts, reason=answer.fault, again_in=round(pause, 1) or None)
        try:
            self._store.settle(call.id, call.attempts, outcome, pause=pause, status=answer.status, fault=answer.fault)
        except redis.RedisError as error:
            log.warning("what became of the call is not written; it is due again soon", reason=str(error))

    @contextmanager
    def _place(self, endpoint: Endpoint) -> Iterator[bool]:
        """Hold one of the places of a host, if there is one."""
        host = endpoint.authority
        with self._lock:
            is_free = self._busy[host] < MOST_OF_A_HOST
            self._busy[host] += is_free
        try:
            yield is_free
        finally:
            with self._lock:
                self._busy[host] -= is_free
                self._busy += Counter()  # drops those without a call


def body_of(call: Call, prefix: str = "") -> bytes:
    """The body of a call, the same in every try. prefix: what the paths in it begin with; empty by default."""
    time_ = call.time.isoformat().replace("+00:00", "Z")
    content = {"event": call.event, "job": call.job.summary(prefix), "time": time_, "delivery": call.id}
    return json.dumps(content, separators=(",", ":")).encode()


def _spread(seconds: float) -> float:
    return seconds * random.uniform(1 - JITTER, 1 + JITTER)
