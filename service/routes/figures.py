"""`GET /metrics/{model}/figures/{figure}`: figures of a model's condition vectors, samples and training."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from jobs.records import Job
from jobs.requests.fields import ColourRange, FigureName, Part, Seed, Thresholds
from jobs.requests.figure import FigureRequest
from jobs.results import FigureResult
from service.deps import AppState, ModelDep
from service.headers import AcceptHeader, preferred_type
from service.openapi import FIGURE_DONE, NOT_MODIFIED, job_under_way, problem_responses
from service.problems import ProblemError
from service.routes.metrics import ConditionsQuery, Timestep
from service.submission import ReaderDep, answer_by_job
from tailprune.spec.prune import Side

__all__ = ["router"]

router = APIRouter(tags=["metrics"])

FORMATS = {
    "image/png": "png", "image/svg+xml": "svg", "application/octet-stream": "png", "application/json": "json",
}  # fmt: skip
"""The first is the default. The third is for clients that take only what they know to be bytes."""

Figure = Annotated[FigureName, Path(description="Which figure to draw.")]
PartQuery = Annotated[
    Part | None,
    Query(description="What to draw: the condition c = y + t (the default), its input part y, or its time part t."),
]
Classes = Annotated[
    int | None,
    Query(
        ge=1,
        le=4096,
        description="How many classes, or conditions, to draw; the seed selects them. `cosine` draws all by default, "
        "`vectors` 5 (at most 12), `removal` the model's default labels or 8 conditions (at most 16).",
    ),
]
ThresholdList = Annotated[
    Thresholds | None,
    Query(
        description="A magnitude at which to prune (`removal`) or which to mark (`sparsity`); repeatable. By default "
        "chosen from the model's own magnitudes."
    ),
]
SideQuery = Annotated[
    Side | None,
    Query(
        description="For `removal`: prune the components below the thresholds (`tail`, the default) or above (`head`)."
    ),
]
RangeQuery = Annotated[
    ColourRange | None,
    Query(
        alias="range",
        description="For `cosine`: the cosines at the two ends of the colours, the lower first, as in "
        "`range=0.9&range=1`; the same for figures to compare. By default from the least cosine drawn to 1.",
    ),
]
SeedQuery = Annotated[
    Seed | None,
    Query(description="The seed that selects classes, initialises t-SNE, and makes the noise; 0 by default."),
]


@router.get(
    "/metrics/{model}/figures/{figure}",
    summary="Draw a figure",
    response_class=Response,
    responses={
        200: FIGURE_DONE,
        202: job_under_way(FigureRequest.kind),
        304: NOT_MODIFIED,
        **problem_responses(
            "unknown-model", "unknown-conditions", "not-acceptable", "model-not-ready", "job-cancelled",
            "invalid-request", "artifact-gone", "result-gone", "record-unreadable", "failed", "internal", "worker-lost",
            "time-limit", "too-many-jobs", "unavailable", "storage-full",
        ),
    },
)  # fmt: skip
async def draw_figure(
    model: ModelDep,
    figure: Figure,
    client: ReaderDep,
    part: PartQuery = None,
    timestep: Timestep = None,
    conditions: ConditionsQuery = None,
    classes: Classes = None,
    threshold: ThresholdList = None,
    side: SideQuery = None,
    colours: RangeQuery = None,
    seed: SeedQuery = None,
    accept: AcceptHeader = None,
) -> Response:
    """Draw a figure as PNG or SVG: of the condition vectors over a model's classes, or over uploaded conditions.

    With `Accept: application/json` the answer is the numbers behind the figure.

    `removal` shows samples under pruning, `training` the record of a model's training; all others read only the tensors
    of the condition. An option that a figure does not have is refused. The response waits for the figure; if that takes
    too long, it is 202 and the job.
    """
    media_type = preferred_type(accept, list(FORMATS))
    if media_type is None:
        raise ProblemError("not-acceptable", f"figures are available as {' or '.join(FORMATS)}; accept one of them")
    asked = FigureRequest(
        model=model.name,
        figure=figure,
        part=part,
        timestep=timestep,
        conditions=conditions,
        classes=classes,
        thresholds=threshold,
        side=side,
        range=colours,
        seed=seed,
    )

    async def render(job: Job, headers: dict[str, str]) -> Response:
        content = await run_in_threadpool(_read, job, media_type, client.state)
        return Response(content, media_type=media_type, headers=headers)

    return await answer_by_job(asked, model, client, render, tag=f"-{FORMATS[media_type]}", headers={"Vary": "Accept"})


def _read(job: Job, media_type: str, state: AppState) -> bytes:
    """The file of a figure. Raises ProblemError if it was deleted after the job was found."""
    result = FigureResult.model_validate(job.result)
    name = {"png": result.png, "svg": result.svg, "json": result.data}[FORMATS[media_type]]
    if name is None:
        raise ProblemError(
            "not-acceptable",
            "this figure has the cosines of too many vectors for JSON: ask for fewer `classes`, or for the file of "
            "GET /metrics/{model}/cosine",
        )
    try:
        return state.store.artifacts.read(job.artifacts[name])
    except FileNotFoundError:
        raise ProblemError("artifact-gone", f"{name!r} is no longer stored; ask again, and it is drawn anew") from None
