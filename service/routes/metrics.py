"""`GET /metrics/{model}`: statistics of a model's condition vectors."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from structlog.contextvars import bind_contextvars

from jobs.records import Job
from jobs.registry.digests import file_states
from jobs.requests.fields import CONDITIONS, ConditionsId, Part, Thresholds
from jobs.requests.metrics import MetricsRequest
from jobs.results import MetricsResult
from jobs.store.telemetry import REQUESTED
from service.deps import AppState, ModelDep
from service.headers import etag_matches, preferred_wait
from service.openapi import METRICS_DONE, NOT_MODIFIED, job_under_way, statistics_problems
from service.response_cache import CachedResponse
from service.submission import ReaderDep, answer_by_job, cache_headers, wait_header

__all__ = ["ConditionsQuery", "Timestep", "router"]


class _Recalled(APIRoute):
    """A route that first looks for a kept answer, before the request is parsed."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The function that handles a request."""
        ask = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return _recall(request) or await ask(request)

        return handler


router = APIRouter(tags=["metrics"], route_class=_Recalled)

PartQuery = Annotated[
    Part, Query(description="What to measure: the condition c = y + t, its input part y, or its time part t.")
]
Timestep = Annotated[
    float | None,
    Query(
        allow_inf_nan=False,
        description="The time of c, in the model's own time; by default where sampling starts. Only for part c.",
    ),
]
ConditionsQuery = Annotated[ConditionsId | None, Query(description=CONDITIONS)]
ThresholdList = Annotated[
    Thresholds | None,
    Query(description="A magnitude at which to measure sparsity; repeatable. By default ten from 0.001 to 5."),
]


@router.get(
    "/metrics/{model}",
    summary="Get statistics",
    response_model=MetricsResult,
    responses={
        200: METRICS_DONE,
        202: job_under_way(MetricsRequest.kind),
        304: NOT_MODIFIED,
        **statistics_problems(),
    },
)
async def get_metrics(
    asking: Request,
    model: ModelDep,
    client: ReaderDep,
    part: PartQuery = "c",
    conditions: ConditionsQuery = None,
    timestep: Timestep = None,
    threshold: ThresholdList = None,
) -> Response:
    """Get statistics of the condition vectors over a model's classes, or over uploaded conditions.

    Only the tensors of the condition are read. The response waits for the result; if that takes too long, it is 202
    and the job.
    """
    thresholds = {} if threshold is None else {"thresholds": threshold}
    asked = MetricsRequest(model=model.name, part=part, timestep=timestep, conditions=conditions, **thresholds)

    files = file_states(model)  # before the key is computed: if one changes meanwhile, the answer is not used again

    async def render(job: Job, headers: dict[str, str]) -> Response:
        answer = JSONResponse(job.result, headers=headers)
        if model.in_file and files is not None:  # any other may change in Redis, which kept answers do not ask
            kept = CachedResponse(_question(asking), bytes(answer.body), job.id, job.key, model, files)
            client.state.answers.keep(kept)
        return answer

    return await answer_by_job(asked, model, client, render)


def _recall(request: Request) -> Response | None:
    """The kept answer to a request, unless a file of the model changed, which takes microseconds to see."""
    state: AppState = request.app.state.app
    question = _question(request)
    answer = state.answers.get(question)
    if answer is None:
        return None
    if file_states(answer.entry) != answer.files:
        state.answers.pop(question, None)
        return None
    wait = preferred_wait(request.headers.get("Prefer"), state.settings.max_wait_seconds)
    headers = cache_headers(answer.key)
    if etag_matches(headers["ETag"], request.headers.get("If-None-Match")):
        return Response(status_code=304, headers=headers)
    state.store.telemetry.note(REQUESTED, "metrics", "cached")
    bind_contextvars(job_id=answer.job_id)
    return Response(answer.body, media_type="application/json", headers=headers | wait_header(wait))


def _question(request: Request) -> bytes:
    """The model and the query of a request, which identify its answer."""
    model: str = request.path_params["model"]
    return b"%s?%s" % (model.encode(), request.scope["query_string"])
