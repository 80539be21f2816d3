"""`GET /metrics/{model}`: statistics of a model's condition vectors."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response

from jobs.requests.fields import CONDITIONS, ConditionsId, Part, Thresholds
from jobs.requests.metrics import MetricsRequest, resolve_metrics
from jobs.results import MetricsResult
from service.deps import ModelDep, PartsDep
from service.documents import JOB_UNDER_WAY, METRICS_DONE, NOT_MODIFIED
from service.headers import IfNoneMatch, PreferHeader, etag_matches, preferred_wait
from service.problems import describe
from service.submission import applied, conditions_of, key_of, no_result, submit, wait_for

__all__ = ["ConditionsQuery", "Timestep", "router"]

router = APIRouter(tags=["metrics"])

PartQuery = Annotated[Part, Query(description="The condition c, or its input part y or time part t.")]
Timestep = Annotated[
    float | None,
    Query(
        allow_inf_nan=False,
        description="The time at which c is measured; where sampling starts, unless said. Part c alone.",
    ),
]
ConditionsQuery = Annotated[ConditionsId | None, Query(description=CONDITIONS)]
ThresholdList = Annotated[
    Thresholds | None, Query(description="Magnitudes at which sparsity is measured; may be repeated.")
]


@router.get(
    "/metrics/{model}",
    response_model=MetricsResult,
    responses={
        200: METRICS_DONE,
        202: JOB_UNDER_WAY,
        304: NOT_MODIFIED,
        **describe(
            "unknown-model", "unknown-conditions", "model-not-ready", "job-cancelled", "invalid-request", "failed",
            "internal", "worker-lost", "unavailable",
        ),
    },
)  # fmt: skip
async def metrics(
    model: ModelDep,
    parts: PartsDep,
    part: PartQuery = "c",
    conditions: ConditionsQuery = None,
    timestep: Timestep = None,
    threshold: ThresholdList = None,
    prefer: PreferHeader = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Statistics of the condition vectors over a model's classes, or over uploaded conditions.

    No block of the network is loaded. Waits for the result by itself; 202 and the job where that takes longer.
    """
    wait = preferred_wait(prefer, parts.settings.max_wait_seconds)
    asked = MetricsRequest(model=model.name, part=part, timestep=timestep, conditions=conditions)
    if threshold is not None:
        asked.thresholds = threshold
    request = resolve_metrics(asked, model, await conditions_of(asked, parts))
    key = await key_of("metrics", request, model, parts)
    # Weak: two workers may differ in the last digits.
    headers = {"ETag": f'W/"{key}"', "Cache-Control": "no-cache"}
    if etag_matches(headers["ETag"], if_none_match):
        return Response(status_code=304, headers=headers)
    job = await submit("metrics", request, key, parts)
    job = await wait_for(job, parts.settings.metrics_wait_seconds if wait is None else wait, parts)
    if job.status == "succeeded":
        return JSONResponse(job.result, headers=headers | applied(wait))
    return no_result(job, wait)
