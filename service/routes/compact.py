"""`POST /compact`: a smaller model, from a system or from a large transformer, as the registry has it by its name."""

from __future__ import annotations

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
from service.deps import AppState, model_of
from service.openapi import OF_A_MODEL, job_answers, job_model
from service.submission import ClientDep, Posted, PostedOfTransformer, post_job, post_transformer_job

__all__ = ["router"]

OF_THE_OTHER = "of_the_other_kind"
"""The type of the faults of fields that requests of one kind do not have, and those of the other do."""
KINDS = (CompactRequest.kind, CompactTransformerRequest.kind)


class CompactBody(Posted, CompactRequest, defer_build=False):
    """The request of a job `compact`, and a webhook."""


class CompactTransformerBody(PostedOfTransformer, CompactTransformerRequest, defer_build=False):
    """The request of a job `compact-transformer`, and a webhook."""


class _CompactRequest(JsonRequest):
    """A request whose body is validated as that of the model that it names."""

    async def json(self) -> Any:
        """The body. Raises RequestValidationError, UnknownModel, and what reading JSON raises."""
        data, state = await super().json(), self.app.state.app
        try:
            return _body(data, state.models.registry)
        except RequestValidationError as error:
            if any(fault["type"] == OF_THE_OTHER for fault in error.errors()):
                await _check_known(data, state)
            raise


async def _check_known(data: dict[str, Any], state: AppState) -> None:
    """Raise UnknownModel for a body that names a model that there is not."""
    named = data.get("model")
    if isinstance(named, str) and named not in state.models.registry.transformers:
        await model_of(named, state)


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


def _body(data: Any, registry: Registry) -> BaseModel:
    """A body as the request of its kind. Raises RequestValidationError."""
    kinds: list[type[BaseModel]] = [CompactBody, CompactTransformerBody]
    named = data.get("model") if isinstance(data, dict) else None
    is_transformer = isinstance(named, str) and named in registry.transformers
    kind, other = reversed(kinds) if is_transformer else kinds
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        faults: list[dict[str, Any]] = [
            {**fault, "loc": ("body", *fault["loc"])} for fault in error.errors(include_url=False)
        ]
        for fault in faults:
            if fault["type"] == "extra_forbidden" and fault["loc"][1] in other.model_fields:
                what = "systems, and this is a large transformer" if is_transformer else "large transformers alone"
                fault |= {"type": OF_THE_OTHER, "msg": f"this field is for {what}; leave it out"}
        raise RequestValidationError(faults, body=data) from error
