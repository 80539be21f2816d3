"""Following a job until it has finished: by its events, or by asking again and again where these do not arrive."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from jobs.records import FINISHED, JobView, Progress
from service.cli.api import Calls, NoEvents, ServiceAway

__all__ = ["Update", "follow"]

PATIENCE_SECONDS = 60.0
"""How long to wait for a service that stopped answering while a job runs."""
RETRY_SECONDS = 1.0
"""The pause before a stream is opened again, and between two looks where there are no events."""
EVENT_ID = re.compile(r"(\d+)-\d+")
"""The id of an event is that of an entry of a Redis stream, which begins with its time in milliseconds."""


@dataclass(frozen=True)
class Update:
    """A job as it is now. at: the time of the event that said so, in seconds; None if no event did."""

    job: JobView
    at: float | None = None


def follow(calls: Calls, job: JobView) -> Iterator[Update]:
    """A job at each of its changes, at last when it has finished, then as the service describes it.

    A stream of events that breaks is resumed after its last event. Raises ServiceAway if the service does not answer
    for PATIENCE_SECONDS.
    """
    yield Update(job)
    last_event_id, has_events = "", True
    heard = time.monotonic()
    while job.status not in FINISHED:
        try:
            if has_events:
                for event in calls.events(job, last_event_id):
                    last_event_id, heard = event.id, time.monotonic()
                    if event.name == "progress":
                        job = job.model_copy(update={"progress": Progress.model_validate(event.data)})
                    elif event.name == "status":
                        job = job.model_copy(update={"status": event.data["status"], "progress": None})
                    if job.status in FINISHED:
                        break
                    yield Update(job, _time_of(event.id))
            job = calls.job(job.id)
            heard = time.monotonic()
            if has_events and job.status not in FINISHED:
                time.sleep(RETRY_SECONDS)
        except NoEvents:
            has_events = False
        except ServiceAway as error:
            if time.monotonic() - heard > PATIENCE_SECONDS:
                raise
            time.sleep(error.retry_after or RETRY_SECONDS)
        else:
            if not has_events or job.status in FINISHED:
                yield Update(job)
            if not has_events and job.status not in FINISHED:
                time.sleep(RETRY_SECONDS)


def _time_of(event_id: str) -> float | None:
    found = EVENT_ID.fullmatch(event_id)
    return None if found is None else int(found[1]) / 1000
