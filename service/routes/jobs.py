"""`/jobs`: list jobs, look at one, cancel or delete it, follow its events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, NamedTuple

import redis
from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import JSONResponse, Response

from jobs.records import ID_PATTERN, AnyJob, Kind, Status
from jobs.store.events import EVENT_ID_PATTERN, START
from jobs.store.listeners import Follower
from jobs.views import JobList
from service.auth import check_scope
from service.deps import AppStateDep, JobDep, JobId, KeyDep, PrefixDep, ViewerDep
from service.examples import SCORES, SUMMARY
from service.openapi import event_stream, problem_responses
from service.problems import NothingMore
from service.routes.events import KEEPALIVE, EventStream

__all__ = ["router"]

router = APIRouter(prefix="/jobs", tags=["jobs"])


@router.get(
    "",
    summary="List jobs",
    response_description="A page of jobs.",
    response_model=JobList,
    responses=problem_responses("invalid-request", "unavailable"),
)
def list_jobs(
    state: AppStateDep,
    prefix: PrefixDep,
    status: Annotated[Status | None, Query(description="Only jobs with this status.")] = None,
    kind: Annotated[
        list[Kind] | None, Query(max_length=50, description="Only jobs of this kind, or of one of several.")
    ] = None,
    model: Annotated[str | None, Query(description="Only jobs of this model.", max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="The most jobs on a page.")] = 50,
    cursor: Annotated[str | None, Query(pattern=ID_PATTERN, description="`next_cursor` of the previous page.")] = None,
) -> JSONResponse:
    """List jobs, newest first, a page at a time."""
    page = state.store.page(status=status, kind=kind, model=model, limit=limit, cursor=cursor)
    return JSONResponse({"jobs": [job.summary(prefix) for job in page.jobs], "next_cursor": page.next_cursor})


@router.get(
    "/{id}",
    summary="Get a job",
    response_description="The job.",
    response_model=AnyJob,
    responses=problem_responses("unknown-job", "result-gone", "record-unreadable", "invalid-request", "unavailable"),
)
def get_job(job: JobDep, prefix: PrefixDep, viewer: ViewerDep) -> JSONResponse:
    """Look at a job: its status and progress, and its result once there is one."""
    return JSONResponse(job.public(prefix, viewer))


Purge = Annotated[
    bool,
    Query(description="Delete a job that has finished: its record, its events, and its files unless others need them."),
]


@router.delete(
    "/{id}",
    summary="Cancel or delete a job",
    response_model=AnyJob,
    responses={
        200: {
            "description": "The job is cancelled: it was still queued, or its worker was lost. Or it goes on for "
            "others who asked for it."
        },
        202: {"description": "The job is running, and stops at its next step.", "model": AnyJob},
        204: {"description": "With `purge`: the finished job is deleted."},
        **problem_responses(
            "unknown-job", "job-finished", "job-unfinished", "record-unreadable", "invalid-request", "unavailable"
        ),
    },
)
def cancel_job(
    job_id: JobId, state: AppStateDep, prefix: PrefixDep, key: KeyDep, viewer: ViewerDep, purge: Purge = False
) -> Response:
    """Cancel a job that has not finished yet; or, with `purge`, which needs the scope `admin`, delete one that has.

    A key cancels jobs that were asked for with it. One that was also asked for with others goes on for them until the
    last has cancelled it, and the webhooks of a key that has are called no more. A key with the scope `admin` cancels
    any job, for all.
    """
    if purge:
        if key is not None:
            check_scope(key, "admin")
        state.store.purge(job_id)
        return Response(status_code=204)
    if key is None or key.may("admin"):
        job, goes_on = state.store.cancel(job_id), False
    else:
        job, goes_on = state.store.withdraw(job_id, key.name)
    return JSONResponse(job.public(prefix, viewer), 200 if job.is_finished or goes_on else 202)


EVENTS = {"progress": SUMMARY["progress"], "result": SCORES, "status": {"status": "succeeded"}}


class _Followed(NamedTuple):
    follower: Follower
    seen: str


LastEventId = Annotated[
    str,
    Header(
        alias="Last-Event-ID",
        pattern=EVENT_ID_PATTERN,
        description="Resume after this event; by default the stream starts at the first.",
        examples=[START],
    ),
]


async def _followed(job: JobDep, state: AppStateDep, last_event_id: LastEventId = START) -> AsyncIterator[_Followed]:
    """Who follows, and the event after which to resume. Raises NothingMore if it is the last, and TooManyFollowers.

    A dependency, since the status of a stream can no longer change once its body has begun; and it ends with the
    response, whether or not its body was sent.
    """
    if job.is_finished and not await state.events.has_events(job.id, last_event_id):
        raise NothingMore
    with state.events.follower(job.id) as follower:
        yield _Followed(follower, last_event_id)


@router.get(
    "/{id}/events",
    summary="Follow a job's events",
    response_class=Response,
    responses={
        200: {"description": "The events, as they happen.", "content": event_stream(EVENTS)},
        204: {"description": "The job has finished, and `Last-Event-ID` was its last event: nothing follows."},
        **problem_responses("unknown-job", "result-gone", "record-unreadable", "invalid-request", "unavailable"),
    },
)
async def follow_job(
    state: AppStateDep, key: KeyDep, followed: Annotated[_Followed, Depends(_followed)]
) -> EventStream:
    """Follow a job's `status` and `progress` events as they happen, until the job has finished.

    A study has `result` events besides: its scores so far, now and then. Of these only the latest is sent again, and
    progress that is followed by later progress already may be left out.

    After an interruption, resume by sending the `id` of the last event you received as `Last-Event-ID`. Once the job
    has finished and that was its last event, the answer is 204, at which an `EventSource` stops reconnecting. A stream
    ends when the key is removed with which it was asked for.
    """

    async def lines() -> AsyncIterator[bytes]:
        if followed.seen != START:
            # No event, but clients know from it where they are, and some notice comments only then.
            yield f"id: {followed.seen}\n\n".encode()
        try:
            async for event in state.events.follow(*followed):
                if not state.keys.admits(key):
                    return
                yield KEEPALIVE if event is None else event.line
        except redis.RedisError:
            return  # the stream ends early, as it does when the service stops, and the client reconnects for the rest

    return EventStream(lines())
