"""`POST /studies`: a model under many prunes, scored by measures of quality."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from jobs.records import JobView
from jobs.requests.study import StudyRequest
from jobs.requests.study_resolution import resolve_study
from service.deps import AppStateDep, model_of
from service.headers import IdempotencyKey, PreferHeader, preferred_wait
from service.openapi_responses import JOB_ANSWERS
from service.submission import conditions_of, post_job

__all__ = ["router"]

router = APIRouter(tags=["studies"])


@router.post("/studies", response_model=JobView, status_code=200, responses=JOB_ANSWERS)
async def study(
    body: StudyRequest,
    parts: AppStateDep,
    prefer: PreferHeader = None,
    idempotency_key: IdempotencyKey = None,
) -> JSONResponse:
    """Sample a model under many prunes from the same noise, and score the samples beside the unpruned ones.

    The answer is a job. While it runs, its result has the scores of the samples that are there. The same request again
    is the same job, as long as what it is measured with is the same too.
    """
    wait = preferred_wait(prefer, parts.settings.max_wait_seconds)
    entry = await model_of(body.model, parts)
    conditions = await conditions_of(body, parts)
    # In a thread: the images of a reference may be counted for it.
    request = await run_in_threadpool(resolve_study, body, entry, parts.settings, parts.instruments, conditions)
    return await post_job("study", body, request, entry, wait, idempotency_key, parts)
