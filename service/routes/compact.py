"""`POST /compact`: a smaller model, from a system or from a large transformer, as the registry has it by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Body
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError

from jobs.registry.models import Registry
from jobs.requests.compact import CompactRequest
from jobs.requests.compact_transformer import CompactTransformerRequest
from service import examples
from service.checks import JsonRequest, JsonRoute
from service.openapi import OF_A_MODEL, job_answers, job_model
from service.submission import ClientDep, Posted, PostedOfTransformer, post_job, post_transformer_job

__all__ = ["router"]

KINDS = (CompactRequest.kind, CompactTransformerRequest.kind)


class CompactBody(Posted, CompactRequest):
    """The request of a job `compact`, and a webhook."""


class CompactTransformerBody(PostedOfTransformer, CompactTransformerRequest):
    """The request of a job `compact-transformer`, and a webhook."""


class _CompactRequest(JsonRequest):
    """A request whose body is validated as that of the model that it names."""

    async def json(self) -> Any:
        """The body. Raises RequestValidationError, and what reading JSON raises."""
        data = await super().json()
        return _body(data, self.app.state.app.models.registry) if isinstance(data, dict) else data


class _CompactRoute(JsonRoute):
    request_class = _CompactRequest


router = APIRouter(route_class=_CompactRoute)


@router.post(
    "/compact",
    summary="Make a smaller model",
    tags=["compact"],
    response_model=job_model(*KINDS),
    status_code=200,
    responses=job_answers(KINDS, *OF_A_MODEL),
)
async def compact(
    body: Annotated[CompactBody | CompactTransformerBody, Body(openapi_examples=examples.COMPACT)], client: ClientDep
) -> JSONResponse:
    """Make a smaller model from a model, whose AdaLN reads fewer columns of the condition.

    The response is a job. Of a system it is of the kind `compact`: its result has the name of the new model, which
    other requests can then use like any other; its checkpoint, a card and samples of both models are artifacts. Of a
    large transformer, which `GET /models` lists under `transformers`, it is of the kind `compact-transformer`: its
    artifacts are the files of a folder in diffusers' layout. Equal requests make the same model.
    """
    if isinstance(body, CompactTransformerBody):
        return await post_transformer_job(body, client)
    return await post_job(body, client)


def _body(data: dict[str, Any], registry: Registry) -> BaseModel:
    """A body as the request of its kind. Raises RequestValidationError."""
    kinds: list[type[BaseModel]] = [CompactBody, CompactTransformerBody]
    named = data.get("model")
    is_transformer = isinstance(named, str) and named in registry.transformers
    kind, other = reversed(kinds) if is_transformer else kinds
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        what = "for systems, and this is a large transformer" if is_transformer else "for large transformers alone"
        faults = [
            {**fault, "loc": ("body", *fault["loc"])} | _of_the_other(fault, other, what)
            for fault in error.errors(include_url=False)
        ]
        raise RequestValidationError(faults, body=data) from error


def _of_the_other(fault: Mapping[str, Any], other: type[BaseModel], what: str) -> dict[str, Any]:
    """What is said of a field that requests of this kind do not have, and those of the other do."""
    if fault["type"] != "extra_forbidden" or fault["loc"][0] not in other.model_fields:
        return {}
    return {"type": "value_error", "msg": f"this field is {what}; leave it out"}
