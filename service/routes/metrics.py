"""`GET /metrics/{model}`: statistics of a model's condition vectors."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from structlog.contextvars import bind_contextvars

from jobs.requests.fields import CONDITIONS, ConditionsId, Part, Thresholds
from jobs.requests.metrics import MetricsRequest, resolve_metrics
from jobs.results import MetricsResult
from jobs.store.telemetry import REQUESTED
from service.deps import AppState, AppStateDep, ModelDep
from service.headers import IfNoneMatch, PreferHeader, etag_matches, preferred_wait
from service.openapi_responses import JOB_UNDER_WAY, METRICS_DONE, NOT_MODIFIED, problem_responses
from service.response_cache import CachedResponse
from service.submission import applied, conditions_of, key_at_once, key_of, no_result, submit, wait_for

__all__ = ["ConditionsQuery", "Timestep", "router"]


class _Recalled(APIRoute):
    """A route that gives a kept answer where it has one, before the question is read as a request is."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request."""
        ask = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return _recall(request) or await ask(request)

        return handler


router = APIRouter(tags=["metrics"], route_class=_Recalled)

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
        **problem_responses(
            "unknown-model", "unknown-conditions", "model-not-ready", "job-cancelled", "invalid-request", "failed",
            "internal", "worker-lost", "unavailable",
        ),
    },
)  # fmt: skip
async def metrics(
    asking: Request,
    model: ModelDep,
    parts: AppStateDep,
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
    headers = _headers(key)
    if etag_matches(headers["ETag"], if_none_match):
        return Response(status_code=304, headers=headers)
    job = await submit("metrics", request, key, parts)
    job = await wait_for(job, parts.settings.metrics_wait_seconds if wait is None else wait, parts)
    if job.status != "succeeded":
        return no_result(job, wait)
    answer = JSONResponse(job.result, headers=headers | applied(wait))
    if model.compacted is None:  # what a compacted one is may change in Redis, at which a kept answer does not look
        parts.answers.keep(CachedResponse(_question(asking), bytes(answer.body), job.id, key, job.request, model))
    return answer


def _recall(request: Request) -> Response | None:
    """The answer that is kept of a question, if its key is still what it was; None where there is none."""
    parts: AppState = request.app.state.parts
    question = _question(request)
    answer = parts.answers.get(question)
    if answer is None:
        return None
    if key_at_once("metrics", answer.request, answer.entry) != answer.key:
        parts.answers.pop(question, None)
        return None
    wait = preferred_wait(request.headers.get("Prefer"), parts.settings.max_wait_seconds)
    headers = _headers(answer.key)
    if etag_matches(headers["ETag"], request.headers.get("If-None-Match")):
        return Response(status_code=304, headers=headers)
    parts.store.telemetry.note(REQUESTED, "metrics", "cached")
    bind_contextvars(job_id=answer.job_id)
    return Response(answer.body, media_type="application/json", headers=headers | applied(wait))


def _question(request: Request) -> bytes:
    """A request as it was asked, but for its headers."""
    model: str = request.path_params["model"]
    return b"%s?%s" % (model.encode(), request.scope["query_string"])


def _headers(key: str) -> dict[str, str]:
    """Of an answer, from its job's key. Its tag is weak: two workers may differ in the last digits."""
    return {"ETag": f'W/"{key}"', "Cache-Control": "no-cache"}
