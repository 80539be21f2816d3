"""`/health/live` and `/health/ready`: probes for operators; `/metrics`: telemetry for Prometheus."""

from __future__ import annotations

from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from jobs.views import Live, Ready, WorkerInfo
from service.addresses import is_local
from service.deps import AppStateDep, KeyDep
from service.openapi import problem_responses

__all__ = ["router"]

router = APIRouter(tags=["health"])


@router.get(
    "/health/live",
    summary="Check that the process answers",
    response_description="It does.",
    responses=problem_responses("invalid-request"),
)
async def get_live() -> Live:
    """Check that the process answers, without asking Redis."""
    return Live()


@router.get(
    "/health/ready",
    summary="Check that jobs can be taken",
    response_description="They can: the queue, and its workers.",
    responses=problem_responses("invalid-request", "unavailable"),
)
async def get_ready(state: AppStateDep, key: KeyDep, request: Request) -> Ready:
    """Check that the service can take requests, which is when Redis answers.

    Workers are listed, but none is required: jobs are accepted and wait for one. Their hosts are named only to who has
    a key, or needs none.
    """
    may_know = state.keys.admits(key) and (key is not None or state.settings.open or is_local(request.scope))

    def look() -> Ready:
        queued, running = state.glance.under_way()
        workers = state.workers.alive()
        return Ready(queued=queued, running=running, workers=workers if may_know else list(map(_without_host, workers)))

    return await to_thread.run_sync(look, limiter=state.probes)


def _without_host(worker: WorkerInfo) -> WorkerInfo:
    return worker.model_copy(update={"name": worker.name.partition("@")[0]})


@router.get(
    "/metrics",
    summary="Get telemetry for Prometheus",
    response_class=Response,
    responses={
        200: {"description": "The counters and histograms.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **problem_responses("invalid-request"),
    },
)
async def get_telemetry(state: AppStateDep) -> Response:
    """Read the counters and histograms of the service and its workers, in the text format of Prometheus."""
    content = await to_thread.run_sync(generate_latest, state.telemetry, limiter=state.probes)
    return Response(content, media_type=CONTENT_TYPE_LATEST)
