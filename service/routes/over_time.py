"""`GET /metrics/{model}/over-time` and `/removal`: condition vectors over a sampling run, and what prunes remove."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response
from pydantic import AfterValidator, Discriminator, Field, Tag

from jobs.problems import Fault, InvalidRequest
from jobs.records import Job
from jobs.registry.transformers import TransformerEntry
from jobs.requests.fields import UNIQUE, Counts, Rows, Shares, Threshold, Thresholds, all_different
from jobs.requests.metrics_transformer import OverTimeTransformerRequest
from jobs.requests.over_time import MOST_POINTS, OverTimeRequest
from jobs.requests.removal import RemovalRequest, Sampler
from jobs.results import OverTimeResult, RemovalResult
from jobs.transformer_results import OverTimeTransformerResult
from service.deps import AnyModelDep, ModelDep
from service.openapi import METRICS_DONE, NOT_MODIFIED, job_under_way, statistics_problems
from service.routes.metrics import (
    PARAMETERS,
    ClassQuery,
    ConditionsQuery,
    Guidance,
    Population,
    Resolution,
    of_systems,
    of_transformers,
    sides,
)
from service.routes.vectors import LabelQuery, labels_of
from service.submission import ReaderDep, answer_by_job, from_query, refuse_options
from tailprune.spec import InputError
from tailprune.spec.prune import MOST_BLOCKS, MOST_STEPS, STEPS, By, Fill, Of, Schedule, Side, When

__all__ = ["router"]

router = APIRouter(prefix="/metrics/{model}", tags=["metrics"])

OF_REMOVAL = {
    "labels": "label",
    "rows": "row",
    "blocks": "block",
    "schedule.when": "when",
    "schedule.count": "count",
    "schedule.steps": "step",
}
"""The query parameters of fields that have another name."""
FIELDS = RemovalRequest.model_fields


def _number_or_word(value: object) -> str:
    """Which form a value of a query is meant for: a number, `one`, or a `word`."""
    return "word" if isinstance(value, str) and value.isalpha() else "one"


def _or_none(threshold: float | str) -> float | None:
    return None if isinstance(threshold, str) else threshold


StepThresholds = Annotated[
    list[
        Annotated[
            Annotated[Threshold, Tag("one")] | Annotated[Literal["none"], Tag("word")], Discriminator(_number_or_word)
        ]
    ],
    Field(min_length=2, max_length=MOST_STEPS),
]
QueryBlocks = Annotated[
    list[
        Annotated[
            Annotated[Annotated[int, Field(ge=0)], Tag("one")] | Annotated[Literal["final"], Tag("word")],
            Discriminator(_number_or_word),
        ]
    ],
    Field(min_length=1, max_length=MOST_BLOCKS, json_schema_extra=UNIQUE),
    AfterValidator(all_different),
]


async def _as_json(job: Job, headers: dict[str, str]) -> Response:
    return JSONResponse(job.result, headers=headers)


@router.get(
    "/over-time",
    summary="Get statistics over time",
    response_model=OverTimeResult | OverTimeTransformerResult,
    responses={
        200: METRICS_DONE,
        202: job_under_way(OverTimeRequest.kind, OverTimeTransformerRequest.kind),
        304: NOT_MODIFIED,
        **statistics_problems(),
    },
)
async def get_over_time(
    model: AnyModelDep,
    client: ReaderDep,
    points: Annotated[
        int,
        Query(
            ge=1,
            le=MOST_POINTS,
            description="At how many times, evenly spaced from noise to data; rounded, of a model whose times are "
            "whole.",
        ),
    ] = 50,
    threshold: Annotated[
        Thresholds | None,
        Query(
            description="A magnitude below which components are counted; repeatable. By default ten from 0.001 to 5."
        ),
    ] = None,
    conditions: ConditionsQuery = None,
    resolution: Resolution = None,
    guidance: Guidance = None,
    classes: ClassQuery = None,
    population: Population = None,
) -> Response:
    """Get statistics of the condition c at many times, from noise to data, over all classes or uploaded conditions.

    Of a large transformer they are over its guidance scales, resolutions, classes or pooled texts. `removed` is what
    prunes of the tail remove at each time, and on average. Only the tensors of the condition are read. The response
    waits for the result; if that takes too long, it is 202 and the job.
    """
    if isinstance(model, TransformerEntry):
        refuse_options({"conditions": conditions}, of_systems(model.name))
        of_times = from_query(
            OverTimeTransformerRequest,
            PARAMETERS,
            model=model.name,
            points=points,
            resolutions=sides(resolution),
            guidance=guidance,
            classes=classes,
            population=population,
            thresholds=threshold,
        )
        return await answer_by_job(of_times, model, client, _as_json, parameters=PARAMETERS)
    options = {"resolution": resolution, "guidance": guidance, "class": classes, "population": population}
    refuse_options(options, of_transformers(model.name))
    asked = from_query(
        OverTimeRequest, PARAMETERS, model=model.name, points=points, thresholds=threshold, conditions=conditions
    )
    return await answer_by_job(asked, model, client, _as_json, parameters=PARAMETERS)


@router.get(
    "/removal",
    summary="Get what prunes remove",
    response_model=RemovalResult,
    responses={
        200: METRICS_DONE,
        202: job_under_way(RemovalRequest.kind),
        304: NOT_MODIFIED,
        **statistics_problems(),
    },
)
async def get_removal(
    model: ModelDep,
    client: ReaderDep,
    threshold: Annotated[Thresholds | None, Query(description=FIELDS["threshold"].description)] = None,
    threshold_by_step: Annotated[
        StepThresholds | None,
        Query(
            description="In place of a threshold, one for each step of the run, the step at pure noise first; "
            "`none` for a step that is not pruned. Repeat it for each step."
        ),
    ] = None,
    remove_fraction: Annotated[Shares | None, Query(description=FIELDS["remove_fraction"].description)] = None,
    keep: Annotated[Counts | None, Query(description=FIELDS["keep"].description)] = None,
    keep_fraction: Annotated[Shares | None, Query(description=FIELDS["keep_fraction"].description)] = None,
    by: Annotated[By | None, Query(description=FIELDS["by"].description)] = None,
    of: Annotated[Of | None, Query(description=FIELDS["of"].description)] = None,
    side: Annotated[Side | None, Query(description=FIELDS["side"].description)] = None,
    fill: Annotated[Fill | None, Query(description=FIELDS["fill"].description)] = None,
    when: Annotated[
        When, Query(description="Prune at every step, only at the first or last steps, or at any steps.")
    ] = "every",
    count: Annotated[
        int | None, Query(ge=1, description="How many first or last steps; 1 by default for `first`.")
    ] = None,
    step: Annotated[Rows | None, Query(description=f"{STEPS} Repeatable.")] = None,
    block: Annotated[
        QueryBlocks | None,
        Query(
            description="A block that sees the pruned c, by its number, counted from 0, or `final`, the final layer; "
            "repeatable. What is removed from c is the same for all."
        ),
    ] = None,
    label: LabelQuery = None,
    conditions: ConditionsQuery = None,
    row: Annotated[Rows | None, Query(description=FIELDS["rows"].description)] = None,
    sampler: Annotated[Sampler | None, Query(description=FIELDS["sampler"].description)] = None,
    steps: Annotated[int | None, Query(ge=2, description=FIELDS["steps"].description)] = None,
    timestep_shift: Annotated[
        float | None,
        Query(
            gt=0,
            le=1000,
            allow_inf_nan=False,
            description=FIELDS["timestep_shift"].description,
        ),
    ] = None,
    guidance_scale: Annotated[
        float | None,
        Query(
            ge=1,
            le=1000,
            allow_inf_nan=False,
            description="The guidance scale, on which condition vectors depend only in a model that takes it as an "
            "input; its default if not given.",
        ),
    ] = None,
) -> Response:
    """Get what prunes remove from the condition vectors of all classes over a sampling run, without sampling.

    The numbers are those of `removed` and `embedding` in the result of `POST /prune-sample` with the same options and
    labels. They are over the steps of the run, and not at one time as `sparsity` of `GET /metrics/{model}`. The
    response waits for the result; if that takes too long, it is 202 and the job.
    """
    try:
        schedule = Schedule(when, count, None if step is None else tuple(step))
    except InputError as error:
        field = "count" if step is None and when != "at" else "step"
        raise InvalidRequest([Fault(location=f"query.{field}", message=str(error))]) from error
    asked = from_query(
        RemovalRequest,
        OF_REMOVAL,
        model=model.name,
        threshold=threshold,
        threshold_by_step=None if threshold_by_step is None else [_or_none(each) for each in threshold_by_step],
        remove_fraction=remove_fraction,
        keep=keep,
        keep_fraction=keep_fraction,
        by=by,
        of=of,
        side=side,
        fill=fill,
        schedule=schedule,
        blocks=block,
        labels=labels_of(label),
        conditions=conditions,
        rows=row,
        sampler=sampler,
        steps=steps,
        timestep_shift=timestep_shift,
        guidance_scale=guidance_scale,
    )
    return await answer_by_job(asked, model, client, _as_json, parameters=OF_REMOVAL)
