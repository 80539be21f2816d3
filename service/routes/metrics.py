"""`GET /metrics/{model}`: statistics of a model's condition vectors."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import Field
from structlog.contextvars import bind_contextvars

from jobs.records import Job
from jobs.registry.digests import file_states
from jobs.registry.transformers import TransformerEntry
from jobs.requests.fields import CONDITIONS, ConditionsId, Part, Thresholds
from jobs.requests.metrics import MetricsRequest
from jobs.requests.metrics_transformer import MetricsTransformerRequest, Scales
from jobs.requests.transformer_inputs import Classes
from jobs.requests.transformer_schedule import SchedulerName
from jobs.results import MetricsResult
from jobs.store.telemetry import REQUESTED
from jobs.transformer_results import MetricsTransformerResult
from service.deps import AnyModelDep, AppState
from service.headers import etag_matches, preferred_wait
from service.openapi import METRICS_DONE, NOT_MODIFIED, job_under_way, statistics_problems
from service.response_cache import CachedResponse
from service.submission import (
    ReaderDep,
    answer_by_job,
    cache_headers,
    from_query,
    refuse_options,
    wait_header,
)
from tailprune.spec.transformers import MOST_COVERED

__all__ = [
    "PARAMETERS",
    "ClassQuery",
    "ConditionsQuery",
    "Guidance",
    "Population",
    "Resolution",
    "Timestep",
    "of_systems",
    "of_transformers",
    "router",
    "sides",
]


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
Steps = Annotated[
    int | None,
    Query(ge=1, le=MOST_COVERED, description="Of a large transformer: at the times of how many steps; 50 by default."),
]
Scheduler = Annotated[
    SchedulerName | None,
    Query(
        description="Of a large transformer: whose times those are, the `plain` ones, sigmas from 1 to 1/N, or those "
        "of its `own` scheduler, which lies in `scheduler/` beside it. `plain` by default, but for a model without."
    ),
]
Resolution = Annotated[
    Annotated[list[Annotated[str, Field(pattern=r"^[0-9]{2,5}x[0-9]{2,5}$")]], Field(min_length=1, max_length=64)]
    | None,
    Query(
        description="Of a large transformer: a width and a height in pixels, as in `1024x768`, where it takes the size "
        "of the picture, or its own scheduler shifts the times by it; repeatable."
    ),
]
Guidance = Annotated[
    Scales | None,
    Query(
        description="Of a large transformer that takes one: a guidance scale; repeatable. By default the pipeline's."
    ),
]
ClassQuery = Annotated[
    Classes | None,
    Query(
        alias="class",
        description="Of a large transformer that takes a class: its number, from 0; repeatable. By default the one "
        "that stands for none.",
    ),
]
Population = Annotated[
    ConditionsId | None,
    Query(
        description="Of a large transformer that takes a pooled text: the id of uploaded ones, as `POST /conditions` "
        "returned it; zeros by default."
    ),
]
PARAMETERS = {"resolutions": "resolution", "thresholds": "threshold", "classes": "class"}
"""The query parameters of fields that have another name."""


def sides(resolutions: list[str] | None) -> list[list[int]] | None:
    """Widths and heights from texts such as 1024x768."""
    return None if resolutions is None else [[int(side) for side in each.split("x")] for each in resolutions]


def of_systems(name: str) -> str:
    """What is wrong with an option of systems alone, for `refuse_options`. name: of a large transformer."""
    return f"{{}} is an option of systems, and {name!r} is a large transformer; leave it out"


def of_transformers(name: str) -> str:
    """What is wrong with an option of large transformers alone, for `refuse_options`. name: of a system."""
    return f"{{}} is an option of large transformers, and {name!r} is none; leave it out"


@router.get(
    "/metrics/{model}",
    summary="Get statistics",
    response_model=MetricsResult | MetricsTransformerResult,
    responses={
        200: METRICS_DONE,
        202: job_under_way(MetricsRequest.kind, MetricsTransformerRequest.kind),
        304: NOT_MODIFIED,
        **statistics_problems(),
    },
)
async def get_metrics(
    asking: Request,
    model: AnyModelDep,
    client: ReaderDep,
    part: PartQuery = "c",
    conditions: ConditionsQuery = None,
    timestep: Timestep = None,
    threshold: ThresholdList = None,
    steps: Steps = None,
    scheduler: Scheduler = None,
    resolution: Resolution = None,
    guidance: Guidance = None,
    classes: ClassQuery = None,
    population: Population = None,
) -> Response:
    """Get statistics of the condition vectors over a model's classes, or over uploaded conditions.

    Of a large transformer they are over the times of a schedule, with those of each part of c; options that cannot mean
    anything for a model are refused. Only the tensors of the condition are read. The response waits for the result; if
    that takes too long, it is 202 and the job.
    """
    if isinstance(model, TransformerEntry):
        refuse_options({"conditions": conditions, "timestep": timestep}, of_systems(model.name))
        of_times = from_query(
            MetricsTransformerRequest,
            PARAMETERS,
            model=model.name,
            part=part,
            steps=steps,
            scheduler=scheduler,
            resolutions=sides(resolution),
            guidance=guidance,
            classes=classes,
            population=population,
            thresholds=threshold,
        )
        return await answer_by_job(of_times, model, client, _as_json, parameters=PARAMETERS)
    refuse_options(
        {
            "steps": steps, "scheduler": scheduler, "resolution": resolution, "guidance": guidance, "class": classes,
            "population": population,
        },
        of_transformers(model.name),
    )  # fmt: skip
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


async def _as_json(job: Job, headers: dict[str, str]) -> Response:
    return JSONResponse(job.result, headers=headers)


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
