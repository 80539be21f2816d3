"""`/conditions`: upload the inputs of models that take conditions in place of class labels."""

from __future__ import annotations

import tempfile
from typing import IO, Annotated, Any, Literal

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from jobs.storage.uploads import ConditionInfo, parse
from service.deps import AppState, AppStateDep, PrefixDep
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
"""
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": FILE,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
HEADERS = {"Location": header("The path of the conditions.")}
LINKS = {"get_conditions": {"operationId": "get_conditions", "parameters": {"id": "$response.body#/id"}}}


class ConditionView(ConditionInfo):
    """Conditions that are stored under an id."""

    links: dict[Literal["self"], str] = Field(description="The path of the conditions.")


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
        **problem_responses("malformed-request", "body-too-large", "unsupported-media-type", "invalid-request"),
    },
)
async def upload_conditions(request: Request, state: AppStateDep, prefix: PrefixDep) -> JSONResponse:
    """Upload a file of conditions, and get the `id` by which other requests name them.

    The id is a digest of the numbers as float32: equal numbers have the same id, whatever file they come in.
    """
    data_dir = state.settings.data_dir
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES, dir=str(data_dir)) as body:  # uploads wait on the disk
        try:
            async for chunk in request.stream():
                body.write(chunk)
        except ClientDisconnect:
            raise ProblemError("malformed-request", "the connection ended before the body did") from None
        async with state.intake:
            return await run_in_threadpool(_keep, body, state, prefix)


def _keep(body: IO[bytes], state: AppState, prefix: str) -> JSONResponse:
    body.seek(0)
    conditions = parse(body.read(), state.settings)
    known = state.conditions.has(conditions.id)
    view = _view(state.conditions.put(conditions), prefix)
    return JSONResponse(view.model_dump(), 200 if known else 201, {"Location": view.links["self"]})


@router.get(
    "/conditions/{id}",
    summary="Describe conditions",
    response_description="The conditions.",
    responses=problem_responses("unknown-conditions", "invalid-request"),
)
def get_conditions(
    id: Annotated[str, Path(description="The id that the upload returned.")], state: AppStateDep, prefix: PrefixDep
) -> ConditionView:
    """Describe stored conditions: how many there are, their shapes, and the family of models they are for."""
    return _view(state.conditions.get(id), prefix)
