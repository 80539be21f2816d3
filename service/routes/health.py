"""Probes for those who run the service, and its numbers for Prometheus."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from jobs.store.heartbeats import WorkerInfo
from service.deps import AppStateDep
from service.openapi_responses import problem_responses

__all__ = ["router"]

router = APIRouter(tags=["health"])


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class Ready(BaseModel):
    """The service can take requests."""

    status: Literal["ready"] = "ready"
    queued: int = Field(description="Jobs waiting.")
    running: int = Field(description="Jobs at a worker.")
    workers: list[WorkerInfo] = Field(description="The workers alive; with none, jobs wait for one.")


@router.get("/health/live")
async def live() -> Live:
    """Whether the process answers."""
    return Live()


@router.get("/health/ready", responses=problem_responses("unavailable"))
def ready(state: AppStateDep) -> Ready:
    """Whether requests can be taken: Redis answers. Workers are counted, not required."""
    queued, running = state.store.under_way()
    return Ready(queued=queued, running=running, workers=state.roll.alive())


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"description": "Counters and histograms.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    },
)
def prometheus(state: AppStateDep) -> Response:
    """The numbers of the service and its workers, for Prometheus."""
    return Response(state.telemetry.render(), media_type=CONTENT_TYPE_LATEST)
