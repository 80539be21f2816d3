"""`GET /metrics/{model}/figures/{figure}`: figures of a model's condition vectors, samples, training and AdaLN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from jobs.figure_results import FigureTransformerResult
from jobs.problems import Fault, InvalidRequest
from jobs.records import ID_PATTERN, Job
from jobs.registry.transformers import TransformerEntry
from jobs.requests.attribution import ATTRIBUTES, Attributes
from jobs.requests.fields import (
    AnyFigureName,
    ColourRange,
    ErrorRule,
    FigureName,
    MeasuredDrift,
    Part,
    Seed,
    Thresholds,
    TransformerFigureName,
)
from jobs.requests.figure import FigureRequest
from jobs.requests.figure_transformer import FigureTransformerRequest
from jobs.results import FigureResult
from jobs.study_results import StudyResult
from service.deps import AnyModelDep, AppState
from service.headers import AcceptHeader, preferred_type
from service.openapi import FIGURE_DONE, NOT_MODIFIED, job_under_way, problem_responses
from service.problems import ProblemError
from service.routes.metrics import ConditionsQuery, Timestep
from service.submission import ReaderDep, answer_by_job, refuse_options
from tailprune.spec.prune import EVERY, PruneSpec, Side

__all__ = ["router", "rule_of"]

router = APIRouter(tags=["metrics"])

FORMATS = {
    "image/png": "png", "image/svg+xml": "svg", "application/octet-stream": "png", "application/json": "json",
}  # fmt: skip
"""The first is the default. The third is for clients that take only what they know to be bytes."""

Figure = Annotated[
    AnyFigureName, Path(description="Which figure to draw; of a large transformer `rank`, which no other model has.")
]
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
AttributeQuery = Annotated[Attributes | None, Query(description=f"For `attribution`, and repeatable: {ATTRIBUTES}")]
RangeQuery = Annotated[
    ColourRange | None,
    Query(
        alias="range",
        description="For `cosine`: the cosines at the two ends of the colours, the lower first, as in "
        "`range=0.9&range=1`; the same for figures to compare. By default from the least cosine drawn to 1.",
    ),
]
StudyQuery = Annotated[
    str | None,
    Query(
        pattern=ID_PATTERN,
        description="For `error`: the id of a study of the model, whose drifts are marked where it pruned by one of "
        "the rules of the figure, at every step and for all blocks.",
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
        202: job_under_way(FigureRequest.kind, FigureTransformerRequest.kind),
        304: NOT_MODIFIED,
        **problem_responses(
            "unknown-model", "unknown-conditions", "unknown-job", "not-acceptable", "model-not-ready", "job-cancelled",
            "invalid-request", "artifact-gone", "result-gone", "record-unreadable", "failed", "internal", "worker-lost",
            "time-limit", "too-many-jobs", "unavailable", "storage-full",
        ),
    },
)  # fmt: skip
async def draw_figure(
    model: AnyModelDep,
    figure: Figure,
    client: ReaderDep,
    part: PartQuery = None,
    timestep: Timestep = None,
    conditions: ConditionsQuery = None,
    classes: Classes = None,
    threshold: ThresholdList = None,
    side: SideQuery = None,
    attribute: AttributeQuery = None,
    colours: RangeQuery = None,
    study: StudyQuery = None,
    seed: SeedQuery = None,
    accept: AcceptHeader = None,
) -> Response:
    """Draw a figure as PNG or SVG: of the condition vectors over a model's classes, or over uploaded conditions.

    With `Accept: application/json` the answer is the numbers behind the figure.

    `removal` shows samples under pruning, `training` the record of a model's training; `error` and `attribution` read
    the tensors of AdaLN besides those of the condition, all others those of the condition alone. `rank` is the only
    one of a large transformer: the error of AdaLN's modulations against its rank. An option that a figure does not have
    is refused. The response waits for the figure; if that takes too long, it is 202 and the job.
    """
    media_type = preferred_type(accept, list(FORMATS))
    if media_type is None:
        raise ProblemError("not-acceptable", f"figures are available as {' or '.join(FORMATS)}; accept one of them")
    headers = {"Vary": "Accept"}
    tag = f"-{FORMATS[media_type]}"

    async def render(job: Job, headers: dict[str, str]) -> Response:
        content = await run_in_threadpool(_read, job, media_type, client.state)
        return Response(content, media_type=media_type, headers=headers)

    if isinstance(model, TransformerEntry):
        options = {
            "part": part, "timestep": timestep, "conditions": conditions, "classes": classes, "threshold": threshold,
            "side": side, "attribute": attribute, "range": colours, "study": study, "seed": seed,
        }  # fmt: skip
        of_its_adaln = _of_transformer(model.name, figure, options)
        return await answer_by_job(of_its_adaln, model, client, render, tag=tag, headers=headers)
    if figure == "rank":
        others = ", ".join(get_args(FigureName))
        message = f"'rank' is a figure of large transformers, and {model.name!r} is none; its figures are {others}"
        raise InvalidRequest([Fault(location="path.figure", message=message)])
    measured = None if study is None else await run_in_threadpool(_drifts, study, model.name, client.state)
    asked = FigureRequest(
        model=model.name,
        figure=figure,
        part=part,
        timestep=timestep,
        conditions=conditions,
        classes=classes,
        thresholds=threshold,
        side=side,
        attributes=attribute,
        range=colours,
        measured=measured,
        seed=seed,
    )
    return await answer_by_job(asked, model, client, render, tag=tag, headers=headers)


def _of_transformer(model: str, figure: AnyFigureName, options: Mapping[str, Any]) -> FigureTransformerRequest:
    """The request of a figure of a large transformer. options: by their names in the query, None if not given.

    Raises InvalidRequest for a figure of systems, and for options.
    """
    if figure != "rank":
        message = (
            f"{figure!r} is a figure of systems, and {model!r} is a large transformer; its figures are "
            f"{', '.join(get_args(TransformerFigureName))}"
        )
        raise InvalidRequest([Fault(location="path.figure", message=message)])
    refuse_options(options, f"{{}} is not an option of the figure {figure!r}; it has no options")
    return FigureTransformerRequest(model=model, figure=figure)


def _drifts(study: str, model: str, state: AppState) -> list[MeasuredDrift]:
    """The drifts of a study, of the prunes that the figure `error` has rules of.

    Raises UnknownJob, InvalidRequest for another job, one without drifts of these, or a study that is not finished.
    """
    job = state.store.get(study)
    result = StudyResult.model_validate(job.result) if job.kind == "study" and job.status == "succeeded" else None
    if result is None or job.model != model:
        message = f"{study} is no finished study of {model}; give the id of one, which GET /jobs?kind=study lists"
        raise InvalidRequest([Fault(location="query.study", message=message)])
    points = [
        MeasuredDrift(rule=rule, removed=variant.removed.fraction, drift=variant.scores["drift"].value)
        for variant in result.variants
        if variant.prune is not None
        and variant.removed is not None
        and (rule := rule_of(variant.prune)) is not None
        and "drift" in variant.scores
        and variant.scores["drift"].value is not None
    ]
    if not points:
        message = f"study {study} has no drift of a prune by one of the figure's rules at every step and for all blocks"
        raise InvalidRequest([Fault(location="query.study", message=message)])
    return points


def rule_of(prune: PruneSpec) -> ErrorRule | None:
    """The rule of the figure `error` that a resolved prune follows; None if there is none."""
    if prune.schedule != EVERY or prune.threshold_by_step is not None or prune.blocks is not None:
        return None
    if prune.keeps:
        if prune.fill != "mean" or prune.by == "magnitude":
            return None
        return "deviation, mean" if prune.by == "deviation" else "variance, mean"
    if prune.side != "tail" or prune.fill != "zero":
        return None
    return "|SiLU(c)|, zero" if prune.of == "read" else "|c|, zero"


def _read(job: Job, media_type: str, state: AppState) -> bytes:
    """The file of a figure. Raises ProblemError if it was deleted after the job was found."""
    kind = FigureResult if job.kind == FigureRequest.kind else FigureTransformerResult
    result = kind.model_validate(job.result)
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
