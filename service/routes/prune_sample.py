"""`POST /prune-sample`: sample a model with its condition vectors pruned."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import JSONResponse

from jobs.keys import digest
from jobs.records import JobView
from jobs.requests import PruneSampleRequest, resolve
from service.deps import PartsDep
from service.documents import JOB_DONE, JOB_UNDER_WAY
from service.headers import PreferHeader, preferred_wait
from service.problems import describe
from service.submission import conditions_of, job_response, key_of, submit, wait_for

__all__ = ["router"]

router = APIRouter(tags=["prune and sample"])

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,255}$",
        description="A client's own name for this request: sent again, it is the same job, whatever became of it.",
    ),
]


@router.post(
    "/prune-sample",
    response_model=JobView,
    status_code=200,
    responses={
        200: JOB_DONE,
        202: JOB_UNDER_WAY,
        **describe(
            "malformed-request", "unknown-model", "unknown-conditions", "model-not-ready", "body-too-large",
            "invalid-request", "idempotency-key-reused", "unavailable",
        ),
    },
)  # fmt: skip
async def prune_sample(
    body: PruneSampleRequest,
    parts: PartsDep,
    prefer: PreferHeader = None,
    idempotency_key: IdempotencyKey = None,
) -> JSONResponse:
    """Sample a model with its condition vectors pruned, and unpruned from the same noise.

    The answer is a job. The same request again, also at the same moment, is the same job, done once.
    """
    wait = preferred_wait(prefer, parts.settings.max_wait_seconds)
    entry = parts.registry.get(body.model)
    request = resolve(body, entry, parts.settings, await conditions_of(body, parts))
    key = await key_of("prune-sample", request, entry, parts)
    job = await submit(
        "prune-sample",
        request,
        key,
        parts,
        idempotency_key=idempotency_key or "",
        fingerprint=digest(body.model_dump()),
    )
    job = await wait_for(job, wait or 0, parts)
    return job_response(job, wait)
