"""The POST routes: each takes the request of one kind of job, and returns the job."""

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

    The response is a job. Equal requests, also at the same time, are one job, which is done once.
    """
    return await post_job(body, client)


@router.post("/studies", tags=["studies"], **JOB)
async def study(body: StudyRequest, client: ClientDep) -> JSONResponse:
    """Sample a model under many prunes from the same noise, and score the samples against the unpruned ones.

    The response is a job. While it runs, its result has the scores of the samples made so far. Equal requests are one
    job, as long as the registered extractors and references do not change.
    """
    return await post_job(body, client)


@router.post("/compact", tags=["compact"], **JOB)
async def compact(body: CompactRequest, client: ClientDep) -> JSONResponse:
    """Make a smaller model from a model, whose AdaLN reads fewer columns of the condition.

    The response is a job. Its result has the name of the new model, which other requests can then use like any other;
    its checkpoint, a card and samples of both models are artifacts. Equal requests make the same model.
    """
    return await post_job(body, client)


@router.post("/extract", tags=["metrics"], **JOB)
async def extract(body: ExtractRequest, client: ClientDep) -> JSONResponse:
    """Extract the condition vectors of a model's classes, or of uploaded conditions, at some of its times.

    The response is a job, whose artifact is a safetensors file. Only the tensors of the condition are read.
    """
    return await post_job(body, client)
