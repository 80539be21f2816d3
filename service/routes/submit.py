"""The POST routes: each takes the request of one kind of job, and returns the job."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body
from fastapi.responses import JSONResponse

from jobs.records import JOBS
from jobs.requests.base import ModelRequest
from jobs.requests.edit import EditRequest
from jobs.requests.extract import ExtractRequest
from jobs.requests.prune_sample import PruneSampleRequest
from jobs.requests.study import StudyRequest
from service import examples
from service.checks import JsonRoute
from service.openapi import OF_A_MODEL, job_answers
from service.submission import ClientDep, Posted, post_job

__all__ = ["router"]

router = APIRouter(route_class=JsonRoute)


class PruneSampleBody(Posted, PruneSampleRequest, defer_build=False):
    """The request of a job `prune-sample`, and a webhook."""


class EditBody(Posted, EditRequest, defer_build=False):
    """The request of a job `edit`, and a webhook."""


class StudyBody(Posted, StudyRequest, defer_build=False):
    """The request of a job `study`, and a webhook."""


class ExtractBody(Posted, ExtractRequest, defer_build=False):
    """The request of a job `extract`, and a webhook."""


def _job_of(kind: type[ModelRequest]) -> dict[str, Any]:
    """How a route answers that starts a job of this kind."""
    return {"response_model": JOBS[kind.kind], "status_code": 200, "responses": job_answers(kind.kind, *OF_A_MODEL)}


@router.post("/prune-sample", summary="Prune and sample", tags=["prune and sample"], **_job_of(PruneSampleRequest))
async def prune_sample(
    body: Annotated[PruneSampleBody, Body(openapi_examples=examples.PRUNE_SAMPLE)], client: ClientDep
) -> JSONResponse:
    """Sample a model with its condition vectors pruned, and unpruned from the same noise.

    The response is a job. Equal requests, also at the same time, are one job, which is done once.
    """
    return await post_job(body, client)


@router.post("/edit", summary="Move a class towards another", tags=["edit"], **_job_of(EditRequest))
async def edit(body: Annotated[EditBody, Body(openapi_examples=examples.EDIT)], client: ClientDep) -> JSONResponse:
    """Sample a model with its condition moved from some classes towards others, a row for each strength.

    All strengths start from the same noise. Where the model has a classifier, each image has its verdict. The response
    is a job. Equal requests, also at the same time, are one job, which is done once.
    """
    return await post_job(body, client)


@router.post("/studies", summary="Study many prunes", tags=["studies"], **_job_of(StudyRequest))
async def study(body: Annotated[StudyBody, Body(openapi_examples=examples.STUDY)], client: ClientDep) -> JSONResponse:
    """Sample a model under many prunes from the same noise, and score the samples against the unpruned ones.

    The response is a job. While it runs, its result has the scores of the samples made so far. Equal requests are one
    job, as long as the registered extractors and references do not change.
    """
    return await post_job(body, client)


@router.post("/extract", summary="Extract condition vectors", tags=["metrics"], **_job_of(ExtractRequest))
async def extract(
    body: Annotated[ExtractBody, Body(openapi_examples=examples.EXTRACT)], client: ClientDep
) -> JSONResponse:
    """Extract the condition vectors of a model's classes, or of uploaded conditions, at some of its times.

    The response is a job, whose artifact is a safetensors file. Only the tensors of the condition are read.
    """
    return await post_job(body, client)
