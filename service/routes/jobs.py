"""`/jobs`: look, list, cancel, follow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import redis
from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

from jobs.records import ID_PATTERN, JobSummary, JobView, Kind, Status
from jobs.store.events import EVENT_ID_PATTERN, START, follow, has_events
from service.deps import AppStateDep, JobDep, JobId
from service.openapi_responses import problem_responses
from service.problems import NothingMore

__all__ = ["router"]

router = APIRouter(prefix="/jobs", tags=["jobs"])


class JobList(BaseModel):
    """A page of jobs."""

    jobs: list[JobSummary]
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last one.")


@router.get("", response_model=JobList, responses=problem_responses("invalid-request", "unavailable"))
def jobs(
    state: AppStateDep,
    status: Annotated[Status | None, Query(description="Only these.")] = None,
    kind: Annotated[Kind | None, Query(description="Only these.")] = None,
    model: Annotated[str | None, Query(description="Only this model's.", max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(pattern=ID_PATTERN, description="`next_cursor` of a page.")] = None,
) -> JSONResponse:
    """Jobs, newest first."""
    page = state.store.page(status=status, kind=kind, model=model, limit=limit, cursor=cursor)
    return JSONResponse({"jobs": [job.summary() for job in page.jobs], "next_cursor": page.next_cursor})


@router.get(
    "/{id}", response_model=JobView, responses=problem_responses("unknown-job", "invalid-request", "unavailable")
)
def look(job: JobDep) -> JSONResponse:
    """A job: how far it is, and what came out."""
    return JSONResponse(job.public())


@router.delete(
    "/{id}",
    response_model=JobView,
    responses={
        200: {"description": "The job was queued, or its worker is lost; it is cancelled."},
        202: {"description": "The job is running; it stops at its next step.", "model": JobView},
        **problem_responses("unknown-job", "job-finished", "invalid-request", "unavailable"),
    },
)
def cancel(job_id: JobId, state: AppStateDep) -> JSONResponse:
    """Cancel a job that has not finished."""
    job = state.store.cancel(job_id)
    return JSONResponse(job.public(), 200 if job.is_finished else 202)


LastEventId = Annotated[
    str,
    Header(
        alias="Last-Event-ID",
        pattern=EVENT_ID_PATTERN,
        description="Go on after this event; from the first one unless said.",
        examples=[START],
    ),
]


async def _seen(job: JobDep, state: AppStateDep, last_event_id: LastEventId = START) -> str:
    """The event to go on after. Ends the request where it is the last; once a stream has begun, its status is out."""
    if job.is_finished and not await has_events(state.follower, job.id, last_event_id):
        raise NothingMore
    return last_event_id


@router.get(
    "/{id}/events",
    response_class=EventSourceResponse,
    responses={
        204: {"description": "The job has finished, and `Last-Event-ID` is its last event: do not come back."},
        **problem_responses("unknown-job", "invalid-request", "unavailable"),
    },
)
async def events(
    job: JobDep, state: AppStateDep, seen: Annotated[str, Depends(_seen)]
) -> AsyncIterator[ServerSentEvent]:
    """The job's `status` and `progress` events as they come; the stream ends when the job has finished.

    A client that was cut off goes on where it was by sending the last `id` it saw as `Last-Event-ID`.
    Once the job has finished and that is its last event, the answer is 204, which ends an `EventSource`.
    """
    try:
        async for event in follow(state.follower, job.id, seen):
            yield ServerSentEvent(event=event.name, data=event.data, id=event.id)
    except redis.RedisError:
        return  # the stream ends early, and the client comes back for the rest
