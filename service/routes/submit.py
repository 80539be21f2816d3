"""The POST routes: each takes the request of a kind of job, and answers with the job."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from jobs.records import JobView
from jobs.requests.compact import CompactRequest
from jobs.requests.extract import ExtractRequest
from jobs.requests.prune_sample import PruneSampleRequest
from jobs.requests.study import StudyRequest
from service.openapi import JOB_ANSWERS
from service.submission import ClientDep, post_job

__all__ = ["router"]

router = APIRouter()

JOB: dict[str, Any] = {"response_model": JobView, "status_code": 200, "responses": JOB_ANSWERS}


@router.post("/prune-sample", tags=["prune and sample"], **JOB)
async def prune_sample(body: PruneSampleRequest, client: ClientDep) -> JSONResponse:
    """Sample a model with its condition vectors pruned, and unpruned from the same noise.

    The answer is a job. The same request again, also at the same moment, is the same job, done once.
    """
    return await post_job(body, client)


@router.post("/studies", tags=["studies"], **JOB)
async def study(body: StudyRequest, client: ClientDep) -> JSONResponse:
    """Sample a model under many prunes from the same noise, and score the samples beside the unpruned ones.

    The answer is a job. While it runs, its result has the scores of the samples that are there. The same request again
    is the same job, as long as what it is measured with is the same too.
    """
    return await post_job(body, client)


@router.post("/compact", tags=["compact"], **JOB)
async def compact(body: CompactRequest, client: ClientDep) -> JSONResponse:
    """Make a smaller model of a model, whose AdaLN reads fewer columns of the condition.

    The answer is a job. Its result names the new model, which other requests may then name as any other; its
    checkpoint, a card and samples of both models are artifacts. The same request again is the same model.
    """
    return await post_job(body, client)


@router.post("/extract", tags=["metrics"], **JOB)
async def extract(body: ExtractRequest, client: ClientDep) -> JSONResponse:
    """Extract the condition vectors of a model's classes, or of uploaded conditions, at some of its times.

    The answer is a job, whose artifact is a safetensors file. No block of the network is loaded.
    """
    return await post_job(body, client)
