"""`GET /metrics/{model}/vectors` and `/cosine`: the condition vectors themselves, and the cosine of every pair."""

from __future__ import annotations

import math
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import AfterValidator, BaseModel, Field
from starlette.concurrency import run_in_threadpool

from jobs.keys import digest
from jobs.records import Job
from jobs.registry.models import ModelEntry
from jobs.requests.cosine import MOST_COSINES_IN_JSON, CosineRequest, Order
from jobs.requests.extract import ExtractRequest, Parts
from jobs.requests.fields import UNIQUE, ConditionsId, Part, Timesteps, all_different
from jobs.requests.labels import ClassName
from jobs.results import CosineMatrix, CosineResult, ExtractResult, ModelUsed
from service.deps import AppState, ModelDep
from service.headers import AcceptHeader, preferred_type
from service.openapi import NOT_MODIFIED, job_under_way, of_both_types, statistics_problems
from service.problems import ProblemError
from service.routes.artifacts import chunks_of
from service.routes.metrics import ConditionsQuery, Timestep
from service.submission import ReaderDep, answer_by_job, from_query

__all__ = ["LabelQuery", "labels_of", "router"]

router = APIRouter(prefix="/metrics/{model}", tags=["metrics"])

BYTES, JSON = "application/octet-stream", "application/json"
MOST_IN_JSON = 2**18
"""The most numbers that are sent as JSON, which takes several times as many bytes as the file."""
PARAMETERS = {"parts": "part", "timesteps": "timestep", "labels": "label"}
"""The query parameters of fields that have another name."""

LabelQuery = Annotated[
    Annotated[
        list[ClassName], Field(min_length=1, max_length=4096, json_schema_extra=UNIQUE), AfterValidator(all_different)
    ]
    | None,
    Query(
        description="A class, by its number, counted from 0, or by its name (`class_names` of the model); repeatable. "
        "All by default."
    ),
]


def labels_of(given: list[str] | None) -> list[int | str] | None:
    """Labels as requests have them: numbers, and the names of classes."""
    return None if given is None else [int(label) if label.isdecimal() else label for label in given]


class VectorsView(BaseModel):
    """Condition vectors as numbers; parts that were not asked for are left out."""

    model: ModelUsed
    dim: int = Field(description="The width d of the vectors.")
    timesteps: list[float] | None = Field(description="The times of c and t; null for part y alone.")
    labels: list[int] | None = Field(
        description="The labels of c and y; null for part t alone, and for a model that takes conditions."
    )
    conditions: list[int] | None = Field(
        description="The rows of the conditions of c and y; null for part t alone, and for a model that takes labels."
    )
    names: list[str] | None = Field(description="The names of the labels; null if they have none.")
    c: list[list[list[float]]] | None = Field(default=None, description="The condition, by time, then by label.")
    y: list[list[float]] | None = Field(default=None, description="Its input part, by label.")
    t: list[list[float]] | None = Field(default=None, description="Its time part, by time.")


@router.get(
    "/vectors",
    summary="Get condition vectors",
    response_class=Response,
    responses={
        200: of_both_types("The vectors, in the format that `Accept` prefers; a file by default.", VectorsView),
        202: job_under_way(ExtractRequest.kind),
        304: NOT_MODIFIED,
        **statistics_problems("not-acceptable", "artifact-gone"),
    },
)
async def get_vectors(
    model: ModelDep,
    client: ReaderDep,
    part: Annotated[
        Parts | None,
        Query(
            description="What to get: the condition c = y + t (the default), its input part y, or its time part t; "
            "repeatable."
        ),
    ] = None,
    timestep: Annotated[
        Timesteps | None,
        Query(description="A time of c and t, in the model's own time; repeatable. By default where sampling starts."),
    ] = None,
    label: LabelQuery = None,
    conditions: ConditionsQuery = None,
    accept: AcceptHeader = None,
) -> Response:
    """Get the condition vectors of a model's classes, or of uploaded conditions, as tensors or as JSON.

    The file is that of `POST /extract` (safetensors): c (T, N, d), y (N, d), t (T, d), timesteps (T), and labels or
    conditions (N). The response waits for it; if that takes too long, it is 202 and the job, of the kind `extract`.
    """
    media_type = _chosen(accept, [BYTES, JSON])
    asked = from_query(
        ExtractRequest,
        PARAMETERS,
        model=model.name,
        parts=part or ["c"],
        timesteps=timestep,
        labels=labels_of(label),
        conditions=conditions,
    )

    async def render(job: Job, headers: dict[str, str]) -> Response:
        result = ExtractResult.model_validate(job.result)
        if media_type == BYTES:
            return await run_in_threadpool(_file, job, result.artifact, client.state, headers)
        numbers = sum(math.prod(shape) for name, shape in result.shapes.items() if name in ("c", "y", "t"))
        if numbers > MOST_IN_JSON:
            raise ProblemError(
                "not-acceptable",
                f"these vectors are {numbers} numbers, and JSON has at most {MOST_IN_JSON}: accept {BYTES}, or ask for "
                "fewer classes or times",
            )
        content = await run_in_threadpool(_read, job, result.artifact, client.state)
        return await run_in_threadpool(lambda: JSONResponse(_vectors(content, result, model), headers=headers))

    tag = "-file" if media_type == BYTES else f"-json-{digest(model.names)[:16]}"
    return await answer_by_job(asked, model, client, render, tag=tag, headers={"Vary": "Accept"}, parameters=PARAMETERS)


@router.get(
    "/cosine",
    summary="Get the cosine of every pair",
    response_class=Response,
    responses={
        200: of_both_types(
            f"The cosines, in the format that `Accept` prefers: JSON by default of up to {MOST_COSINES_IN_JSON} "
            "vectors, which is the most that it has, else a file.",
            CosineMatrix,
        ),
        202: job_under_way(CosineRequest.kind),
        304: NOT_MODIFIED,
        **statistics_problems("not-acceptable", "artifact-gone"),
    },
)
async def get_cosine(
    model: ModelDep,
    client: ReaderDep,
    part: Annotated[
        Part, Query(description="Of what: the condition c = y + t, its input part y, or its time part t.")
    ] = "c",
    timestep: Timestep = None,
    conditions: ConditionsQuery = None,
    order: Annotated[
        Order,
        Query(
            description="The order of rows and columns: by `class`, that of the labels, conditions or times; by "
            "`likeness`, so that vectors that are alike are near one another; by `name`."
        ),
    ] = "class",
    accept: AcceptHeader = None,
) -> Response:
    """Get the cosine of every pair of condition vectors, over a model's classes or over uploaded conditions.

    The file (safetensors) has `cosine` (N, N), float16, and `labels` (N), int64, in the same order. The response waits
    for the result; if that takes too long, it is 202 and the job.
    """
    few = await run_in_threadpool(_are_few, part, model, conditions, client.state)
    media_type = _chosen(accept, [JSON, BYTES] if few else [BYTES, JSON])
    asked = from_query(
        CosineRequest, {}, model=model.name, part=part, timestep=timestep, conditions=conditions, order=order
    )

    async def render(job: Job, headers: dict[str, str]) -> Response:
        result = CosineResult.model_validate(job.result)
        if media_type == BYTES:
            return await run_in_threadpool(_file, job, result.artifact, client.state, headers)
        if result.matrix is None:
            raise ProblemError(
                "not-acceptable",
                f"the cosines of {result.count} vectors are too many for JSON, which has those of at most "
                f"{MOST_COSINES_IN_JSON}: accept {BYTES}",
            )
        content = await run_in_threadpool(_read, job, result.matrix, client.state)
        return Response(content, media_type=JSON, headers=headers)

    tag = "-file" if media_type == BYTES else "-json"
    return await answer_by_job(asked, model, client, render, tag=tag, headers={"Vary": "Accept"})


def _chosen(accept: str | None, offered: list[str]) -> str:
    """The media type to answer with. Raises ProblemError if none is acceptable."""
    media_type = preferred_type(accept, offered)
    if media_type is None:
        raise ProblemError("not-acceptable", f"this is available as {BYTES} or {JSON}; accept one of them")
    return media_type


def _are_few(part: Part, model: ModelEntry, conditions: ConditionsId | None, state: AppState) -> bool:
    """Whether there are so few vectors that their cosines are sent as JSON. Raises UnknownConditions."""
    if part == "t":
        return False
    count = model.classes if conditions is None else state.conditions.get(conditions).count
    return (count or 0) <= MOST_COSINES_IN_JSON


def _file(job: Job, name: str, state: AppState, headers: dict[str, str]) -> Response:
    """A file of a job, however large. Raises ProblemError if it was deleted after the job was found."""
    file = job.artifacts[name]
    try:
        chunks = chunks_of(state.store.artifacts, file, 0, file.size)
    except FileNotFoundError:
        raise _gone(name) from None
    return StreamingResponse(chunks, headers=headers | {"Content-Length": str(file.size)}, media_type=BYTES)


def _read(job: Job, name: str, state: AppState) -> bytes:
    try:
        return state.store.artifacts.read(job.artifacts[name])
    except FileNotFoundError:
        raise _gone(name) from None


def _gone(name: str) -> ProblemError:
    return ProblemError("artifact-gone", f"{name!r} is no longer stored; ask again, and it is made anew")


def _vectors(content: bytes, result: ExtractResult, model: ModelEntry) -> dict[str, Any]:
    """A file of vectors as a VectorsView. Numbers have as many digits as tell float32 apart."""
    from safetensors.numpy import load  # NumPy: slow to import, and only needed here

    tensors = load(content)
    labels, rows = tensors.get("labels"), tensors.get("conditions")
    numbers = None if labels is None else labels.tolist()
    named = numbers is not None and bool(model.names)
    view: dict[str, Any] = {
        "model": result.model.model_dump(),
        "dim": result.counts.dim,
        "timesteps": tensors["timesteps"].tolist() if "timesteps" in tensors else None,
        "labels": numbers,
        "conditions": None if rows is None else rows.tolist(),
        "names": [model.names[n] if n < len(model.names) else str(n) for n in numbers or []] if named else None,
    }
    return view | {name: _short(tensors[name].tolist()) for name in ("c", "y", "t") if name in tensors}


def _short(values: Any) -> Any:
    return list(map(_short, values)) if isinstance(values, list) else float(f"{values:.9g}")
