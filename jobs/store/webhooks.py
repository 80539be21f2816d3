"""The calls of webhooks: which are due, what became of each, and how they stand.

A call is recorded in the step that changes the status of its job, and stays in Redis until it was delivered or failed
for good: a process that is killed, or a message that is lost, loses none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import redis

from jobs.records import JobHead, JobWebhook, UnreadableRecord
from jobs.requests.subscriber import WEBHOOK_EVENTS
from jobs.store.connection import text
from jobs.store.scripts import PREFIX, load_scripts, record_key
from jobs.webhooks.hosts import shown

__all__ = ["MOST_PENDING", "MOST_WEBHOOKS", "Call", "Outcome", "WebhookStore", "webhooks_of"]

MOST_WEBHOOKS = 8
"""How many URLs may wait to hear of one job."""
MOST_PENDING = 10_000
"""With so many calls pending no new webhook is taken: a receiver that is down keeps them for hours."""
PENDING = PREFIX + "webhooks"

Outcome = Literal["delivered", "failed", "again", "busy"]
"""Of a try: the last two are followed by another; `busy` means that it was not made, and does not count."""


@dataclass(frozen=True)
class Call:
    """A call that is to be made now, and has been claimed for that."""

    id: str
    """The same in every try; a receiver that has seen it before need not look again."""
    job_id: str
    url: str
    event: str
    time: datetime
    """When it happened."""
    job: JobHead
    """The job as it was then."""
    attempts: int
    """The number of this try, from 1."""


class WebhookStore:
    """The calls of one Redis server. Methods raise redis.RedisError if it does not answer."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._scripts = load_scripts(client)

    def due(self, lapse: float, longest: float) -> list[tuple[str, int]]:
        """The calls that are due, up to a hundred, each with how often it was tried.

        lapse: seconds after which a call is due again if it is not settled before.
        longest: the longest pause between two tries, in seconds.
        """
        found = self._scripts["deliveries"](args=[lapse, longest])
        return [(text(call), int(attempts)) for call, attempts in found]

    def begin(self, call_id: str, attempts: int, lapse: float) -> Call | None:
        """Begin a try. None where it has begun already, or none is needed: messages may come twice or late.

        attempts: how often the call was tried when it was found due.
        lapse: see `due`.
        """
        parts = iter(self._scripts["deliver"](args=[call_id, attempts, lapse]))
        record = {text(name): text(value) for name, value in zip(parts, parts, strict=True)}
        if not record:
            return None
        try:
            return _call(record)
        except (KeyError, ValueError, AttributeError, UnreadableRecord):
            self.settle(call_id, attempts + 1, "failed", fault="its record is damaged")
            return None

    def settle(
        self,
        call_id: str,
        attempts: int,
        outcome: Outcome,
        *,
        pause: float = 0.0,
        status: int | None = None,
        fault: str = "",
    ) -> bool:
        """Record what became of a try. False where another try began meanwhile.

        call_id, attempts: those of the Call.
        outcome: see `Outcome`.
        pause: seconds until the next try, where one follows; 0 by default.
        status: of the answer; None, the default, without one.
        fault: what failed, in words; empty by default.
        """
        answered = "" if status is None else status
        return bool(self._scripts["settle"](args=[call_id, attempts, outcome, pause, answered, fault]) == 1)

    def pending(self) -> int:
        """How many calls are neither delivered nor failed for good."""
        return int(self._redis.zcard(PENDING))


def webhooks_of(client: redis.Redis, job: JobHead) -> list[JobWebhook]:
    """The webhooks of a job, whose each is, and how its calls stand. Raises redis.RedisError."""
    job_id = job.id
    found = {
        text(whose): text(wanted).split() for whose, wanted in client.hgetall(f"{record_key(job_id)}:webhooks").items()
    }
    calls = [
        (whose, event, f"{job_id}-{number}-{event}")
        for whose, (number, *events) in sorted(found.items(), key=lambda each: int(each[1][0]))
        for event in WEBHOOK_EVENTS
        if event in events
    ]
    pipeline = client.pipeline(transaction=False)
    for _, _, call in calls:
        pipeline.hmget(f"{PREFIX}webhook:{call}", "state", "attempts", "status", "fault")
        pipeline.zscore(PENDING, call)
    answers = iter(pipeline.execute())
    views = []
    for (whose, event, _), record, due in zip(calls, answers, answers, strict=False):
        state, attempts, status, fault = (None if value is None else text(value) for value in record)
        if state is None and job.is_finished:
            continue  # what did not happen
        owner, _, url = whose.partition(" ")
        views.append(
            JobWebhook.model_validate(
                {
                    "owner": owner,
                    "url": shown(url),
                    "event": event,
                    "state": state or "waiting",
                    "attempts": int(attempts or 0),
                    "last_status": int(status) if status else None,
                    "last_fault": fault or None,
                    "next_attempt": None if due is None else datetime.fromtimestamp(due, UTC),
                }
            )
        )
    return views


def _call(record: Mapping[str, str]) -> Call:
    """A call from its record. Raises KeyError, ValueError, AttributeError or UnreadableRecord for a damaged one."""
    head = json.loads(record["head"])
    fields = {name: str(value) for name, value in head.items() if name != "place"}
    return Call(
        id=record["id"],
        job_id=record["job"],
        url=record["url"],
        event=record["event"],
        time=datetime.fromtimestamp(float(record["time"]), UTC),
        job=JobHead.from_hash(fields | {"id": record["job"]}),
        attempts=int(record["attempts"]),
    )
