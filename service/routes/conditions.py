"""`/conditions`: upload, list and delete the inputs of models that take conditions, and pooled texts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import fastapi
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from jobs.storage.condition_info import ConditionInfo
from jobs.storage.files import translated_errors
from jobs.storage.uploads import CURSOR_PATTERN
from jobs.views import ConditionList, ConditionView, StoredConditions
from service.deps import AppState, AppStateDep, KeyDep, PrefixDep
from service.keys import Key
from service.openapi import header, problem_responses
from service.problems import ProblemError

__all__ = ["router"]

router = APIRouter(tags=["conditions"])

IN_MEMORY_BYTES = 2**20
EXAMPLE: dict[str, Any] = {
    "id": "5f1c4d0e9a7b3c2d8e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d",
    "count": 4,
    "inputs": {"video": [32, 512]},
    "family": "mdsgen",
    "bytes": 262224,
}
EXAMPLE["links"] = {"self": f"/conditions/{EXAMPLE['id']}"}

FILE = """A safetensors file (`safetensors.numpy.save_file`) or an npz file (`numpy.savez`), recognised by its first
bytes; `Content-Type` is ignored.

For models of the family x-mdpt it holds the arrays `pose` (257 x 768), `image` (257 x 1536) and `latents`
(4 x 32 x 32), for mdsgen the array `video` (32 x 512). Arrays of these shapes hold one condition; N conditions have a
leading dimension N, the same in all arrays of the file. Types may be float16, bfloat16 (only in safetensors), float32
and float64.

For `population` of requests of large transformers it holds the array `pooled`, N pooled texts as the pipeline passes
them to the transformer (N x their width); its family is `transformer`.
"""
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": FILE,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
HEADERS = {"Location": header("The path of the conditions.")}
LISTED = {
    "conditions": [EXAMPLE | {"uploaded": "2026-01-31T12:00:00Z"}],
    "next_cursor": f"001769860800250-{EXAMPLE['id']}",
}
LINKS = {
    operation: {"operationId": operation, "parameters": {"id": "$response.body#/id"}}
    for operation in ("get_conditions", "delete_conditions")
}


def _view(info: ConditionInfo, prefix: str) -> ConditionView:
    return ConditionView(**info.model_dump(), links={"self": f"{prefix}/conditions/{info.id}"})


@router.post(
    "/conditions",
    summary="Upload conditions",
    response_model=ConditionView,
    status_code=201,
    openapi_extra=BODY,
    responses={
        200: {
            "description": "The same conditions had been stored before.",
            "model": ConditionView,
            "headers": HEADERS,
            "links": LINKS,
        },
        201: {
            "description": "The conditions have been stored.",
            "headers": HEADERS,
            "content": {"application/json": {"example": EXAMPLE}},
            "links": LINKS,
        },
        **problem_responses(
            "malformed-request", "body-too-large", "unsupported-media-type", "invalid-request", "unavailable",
            "storage-full",
        ),
    },
)  # fmt: skip
async def upload_conditions(request: Request, state: AppStateDep, prefix: PrefixDep, key: KeyDep) -> JSONResponse:
    """Upload a file of conditions, and get the `id` by which other requests name them.

    The id is a digest of the numbers as float32: equal numbers have the same id, whatever file they come in.
    """
    with _spool(state.settings.data_dir) as body:
        try:
            async for chunk in request.stream():
                body.write(chunk)
        except ClientDisconnect:
            raise ProblemError("malformed-request", "the connection ended before the body did") from None
        async with state.intake:
            return await run_in_threadpool(_keep, body, state, prefix, key)


@contextmanager
def _spool(folder: Path) -> Iterator[IO[bytes]]:
    """A file in which an upload waits, on the disk if it is large. Raises ArtifactsFull where that is full."""
    with translated_errors(str(folder), writes=True):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES, dir=str(folder)) as file:
            yield file


def _keep(body: IO[bytes], state: AppState, prefix: str, key: Key | None) -> JSONResponse:
    from jobs.storage.upload_parsing import parse  # NumPy: slow to import, and only needed here

    body.seek(0)
    conditions = parse(body.read(), state.settings)
    known = state.conditions.has(conditions.id)
    view = _view(state.conditions.put(conditions, "" if key is None else key.name), prefix)
    return JSONResponse(view.model_dump(), 200 if known else 201, {"Location": view.links["self"]})


@router.get(
    "/conditions",
    summary="List conditions",
    responses={
        200: {"description": "A page of conditions.", "content": {"application/json": {"example": LISTED}}},
        **problem_responses("invalid-request", "unavailable"),
    },
)
def list_conditions(
    state: AppStateDep,
    prefix: PrefixDep,
    limit: Annotated[int, Query(ge=1, le=200, description="The most conditions on a page.")] = 50,
    cursor: Annotated[
        str | None, Query(pattern=CURSOR_PATTERN, description="`next_cursor` of the previous page.")
    ] = None,
) -> ConditionList:
    """List stored conditions, the latest uploads first, a page at a time."""
    page = state.conditions.page(limit, cursor)
    listed = [
        StoredConditions(**_view(info, prefix).model_dump(), uploaded=uploaded) for info, uploaded in page.conditions
    ]
    return ConditionList(conditions=listed, next_cursor=page.next_cursor)


@router.get(
    "/conditions/{id}",
    summary="Describe conditions",
    response_description="The conditions.",
    responses=problem_responses("unknown-conditions", "invalid-request", "unavailable"),
)
def get_conditions(
    id: Annotated[str, fastapi.Path(description="The id that the upload returned.")],
    state: AppStateDep,
    prefix: PrefixDep,
) -> ConditionView:
    """Describe stored conditions: how many there are, their shapes, and the family of models they are for."""
    return _view(state.conditions.get(id), prefix)


@router.delete(
    "/conditions/{id}",
    summary="Delete conditions",
    status_code=204,
    responses={
        204: {"description": "The conditions have been deleted, or stay for other keys that uploaded them."},
        **problem_responses("unknown-conditions", "conditions-in-use", "invalid-request", "unavailable"),
    },
)
def delete_conditions(
    id: Annotated[str, fastapi.Path(description="The id that the upload returned.")], state: AppStateDep, key: KeyDep
) -> None:
    """Delete stored conditions. Refused while a job that is queued or running needs them.

    A key deletes what was uploaded with it, which stays until the last key that uploaded it has deleted it. One with
    the scope `admin` deletes any. Finished jobs keep their results. Uploading the same file again gives the same id.
    """
    state.conditions.remove(id, "" if key is None or key.may("admin") else key.name)
