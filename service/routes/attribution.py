"""`GET /metrics/{model}/attribution`: which components and directions carry which attribute of the classes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response

from jobs.attribution_results import AttributionResult
from jobs.records import Job
from jobs.requests.attribution import ATTRIBUTES, Attributes, AttributionRequest
from service.deps import ModelDep
from service.openapi import METRICS_DONE, NOT_MODIFIED, job_under_way, statistics_problems
from service.submission import ReaderDep, answer_by_job

__all__ = ["router"]

router = APIRouter(prefix="/metrics/{model}", tags=["metrics"])


async def _as_json(job: Job, headers: dict[str, str]) -> Response:
    return JSONResponse(job.result, headers=headers)


@router.get(
    "/attribution",
    summary="Get which attribute the variance is of",
    response_model=AttributionResult,
    responses={
        200: METRICS_DONE,
        202: job_under_way(AttributionRequest.kind),
        304: NOT_MODIFIED,
        **statistics_problems(),
    },
)
async def get_attribution(
    model: ModelDep,
    client: ReaderDep,
    attribute: Annotated[Attributes | None, Query(description=f"Repeatable: {ATTRIBUTES}")] = None,
) -> Response:
    """Get how the variance of the class part y divides among attributes of the classes, and by which components.

    It is that of the vectors, plain, and that of the shifts, scales and gates that they make in all blocks, weighted.
    The response waits for the result; if that takes too long, it is 202 and the job.
    """
    asked = AttributionRequest(model=model.name, attributes=attribute)
    return await answer_by_job(asked, model, client, _as_json, parameters={"attributes": "attribute"})
