"""`GET /models/{model}/anatomy`: what a large transformer's AdaLN takes, and what could stand in its place."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from jobs.anatomy_results import AnatomyResult
from jobs.records import Job
from jobs.requests.anatomy import AnatomyRequest
from service.deps import TransformerDep
from service.openapi import METRICS_DONE, NOT_MODIFIED, job_under_way, statistics_problems
from service.submission import ReaderDep, answer_by_job

__all__ = ["router"]

router = APIRouter(tags=["models"])


async def _as_json(job: Job, headers: dict[str, str]) -> Response:
    return JSONResponse(job.result, headers=headers)


@router.get(
    "/models/{model}/anatomy",
    summary="Get the anatomy of a large transformer",
    response_model=AnatomyResult,
    responses={
        200: METRICS_DONE | {"description": "The anatomy."},
        202: job_under_way(AnatomyRequest.kind),
        304: NOT_MODIFIED,
        **statistics_problems(),
    },
)
async def get_anatomy(model: TransformerDep, client: ReaderDep) -> Response:
    """Get what a large transformer's AdaLN takes, what its condition depends on, and what could stand in its place.

    `GET /models` lists the large transformers under `transformers`. The headers of the files and some thousand rows of
    their weights are read. The response waits for the result; if that takes too long, it is 202 and the job.
    """

    return await answer_by_job(AnatomyRequest(model=model.name), model, client, _as_json)
