"""`POST /extract`: condition vectors of a model as tensors."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from jobs.records import JobView
from jobs.requests.extract import ExtractRequest, resolve_extract
from service.deps import AppStateDep, model_of
from service.headers import IdempotencyKey, PreferHeader, preferred_wait
from service.openapi_responses import JOB_ANSWERS
from service.submission import conditions_of, post_job

__all__ = ["router"]

router = APIRouter(tags=["metrics"])


@router.post("/extract", response_model=JobView, status_code=200, responses=JOB_ANSWERS)
async def extract(
    body: ExtractRequest,
    parts: AppStateDep,
    prefer: PreferHeader = None,
    idempotency_key: IdempotencyKey = None,
) -> JSONResponse:
    """Extract the condition vectors of a model's classes, or of uploaded conditions, at some of its times.

    The answer is a job, whose artifact is a safetensors file. No block of the network is loaded.
    """
    wait = preferred_wait(prefer, parts.settings.max_wait_seconds)
    entry = await model_of(body.model, parts)
    request = resolve_extract(body, entry, parts.settings, await conditions_of(body, parts))
    return await post_job("extract", body, request, entry, wait, idempotency_key, parts)
