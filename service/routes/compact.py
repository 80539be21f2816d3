"""`POST /compact`: a physically smaller model, served under a name of its own."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from jobs.records import JobView
from jobs.requests.compact import CompactRequest, resolve_compact
from service.deps import AppStateDep, model_of
from service.headers import IdempotencyKey, PreferHeader, preferred_wait
from service.openapi_responses import JOB_ANSWERS
from service.submission import conditions_of, post_job

__all__ = ["router"]

router = APIRouter(tags=["compact"])


@router.post("/compact", response_model=JobView, status_code=200, responses=JOB_ANSWERS)
async def compact(
    body: CompactRequest,
    parts: AppStateDep,
    prefer: PreferHeader = None,
    idempotency_key: IdempotencyKey = None,
) -> JSONResponse:
    """Make a smaller model of a model, whose AdaLN reads fewer columns of the condition.

    The answer is a job. Its result names the new model, which other requests may then name as any other; its
    checkpoint, a card and samples of both models are artifacts. The same request again is the same model.
    """
    wait = preferred_wait(prefer, parts.settings.max_wait_seconds)
    entry = await model_of(body.model, parts)
    request = resolve_compact(body, entry, parts.settings, await conditions_of(body, parts))
    return await post_job("compact", body, request, entry, wait, idempotency_key, parts)
