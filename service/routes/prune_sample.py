"""`POST /prune-sample`: sample a model with its condition vectors pruned."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from jobs.records import JobView
from jobs.requests.prune_sample import PruneSampleRequest, resolve
from service.deps import AppStateDep, model_of
from service.headers import IdempotencyKey, PreferHeader, preferred_wait
from service.openapi_responses import JOB_ANSWERS
from service.submission import conditions_of, post_job

__all__ = ["router"]

router = APIRouter(tags=["prune and sample"])


@router.post("/prune-sample", response_model=JobView, status_code=200, responses=JOB_ANSWERS)
async def prune_sample(
    body: PruneSampleRequest,
    parts: AppStateDep,
    prefer: PreferHeader = None,
    idempotency_key: IdempotencyKey = None,
) -> JSONResponse:
    """Sample a model with its condition vectors pruned, and unpruned from the same noise.

    The answer is a job. The same request again, also at the same moment, is the same job, done once.
    """
    wait = preferred_wait(prefer, parts.settings.max_wait_seconds)
    entry = await model_of(body.model, parts)
    request = resolve(body, entry, parts.settings, await conditions_of(body, parts))
    return await post_job("prune-sample", body, request, entry, wait, idempotency_key, parts)
