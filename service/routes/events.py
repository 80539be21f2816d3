"""`/events`: what happens to all jobs, as it happens."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response, StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT as KEEPALIVE
from fastapi.sse import format_sse_event

from jobs.store.listeners import Change, Observer
from service.deps import AppStateDep, KeyDep, PrefixDep
from service.examples import JOB_ID, SUMMARY
from service.openapi import event_stream, problem_responses

__all__ = ["KEEPALIVE", "EventStream", "router"]

router = APIRouter(tags=["jobs"])

Seconds = Annotated[
    float | None,
    Query(
        gt=0,
        le=86_400,
        allow_inf_nan=False,
        description="End the stream after so many seconds; by default it goes on until the client leaves.",
    ),
]
EXAMPLE: dict[str, dict[str, Any]] = {
    "open": {},
    "job": SUMMARY,
    "progress": {"id": JOB_ID, "progress": SUMMARY["progress"]},
    "deleted": {"id": JOB_ID},
}


class EventStream(StreamingResponse):
    """Server-sent events, as bytes. FastAPI's own take ten times as long for each event and follower."""

    media_type = "text/event-stream"

    def __init__(self, content: AsyncIterator[bytes]) -> None:
        super().__init__(content, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})


async def _observer(state: AppStateDep) -> AsyncIterator[Observer]:
    """Who follows. Raises TooManyFollowers, and redis.ConnectionError where nothing can be heard.

    A dependency, since the status of a stream can no longer change once its body has begun; and it ends with the
    response, whether or not its body was sent.
    """
    async with state.events.observer() as observer:
        yield observer


@router.get(
    "/events",
    summary="Follow all jobs",
    response_class=Response,
    responses={
        200: {"description": "The events, as they happen.", "content": event_stream(EXAMPLE)},
        **problem_responses("invalid-request", "unavailable"),
    },
)
async def follow_all_jobs(
    state: AppStateDep,
    prefix: PrefixDep,
    key: KeyDep,
    observer: Annotated[Observer, Depends(_observer)],
    seconds: Seconds = None,
) -> EventStream:
    """Follow what happens to all jobs over one connection, from now on.

    The first event is `open`: from then on nothing is missed, so load `GET /jobs` after it. Then `job` has a job as in
    that list, when it is made and when its status changes; `progress` has the `id` of a job and its `progress`; and
    `deleted` has the `id` of a job that is gone. Events have no ids, since none are sent again: after an interruption
    begin anew, as an `EventSource` does. A client that reads too slowly is cut off, and so is one whose
    key is removed.
    """

    async def lines() -> AsyncIterator[bytes]:
        yield _line("open", {})
        async for change in state.events.observe(observer, seconds):
            if not state.keys.admits(key):
                return
            yield KEEPALIVE if change is None else _change(change, prefix)

    return EventStream(lines())


@lru_cache(maxsize=64)  # many follow, and each is sent the same
def _change(change: Change, prefix: str) -> bytes:
    if change.job is not None:
        return _line("job", change.job.summary(prefix))
    if change.progress is not None:
        return _line("progress", {"id": change.job_id, "progress": change.progress})
    return _line("deleted", {"id": change.job_id})


def _line(event: str, data: dict[str, Any]) -> bytes:
    return format_sse_event(event=event, data_str=json.dumps(data))
