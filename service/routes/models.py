"""`/models`: the models of the registry's file, those added to it and the compacted ones; these two can be deleted."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import Annotated, Any, Literal

import redis
import structlog
from fastapi import APIRouter, Body, Path
from fastapi.responses import JSONResponse, Response

from jobs.keys import job_key
from jobs.records import JOBS
from jobs.registry.digests import weights_digest
from jobs.registry.evaluation import EvaluationAssets
from jobs.registry.models import ModelEntry
from jobs.registry.transformers import TransformerEntry
from jobs.requests.base import Reads, Request
from jobs.requests.register import RegisterRequest
from jobs.views import AssetRole, Instrument, JobLimits, ModelList, ModelSummary, ModelView, Times, TransformerSummary
from service import examples
from service.checks import JsonRoute
from service.deps import AppState, AppStateDep, ModelDep, PrefixDep
from service.headers import IfNoneMatch, etag_matches
from service.openapi import NOT_MODIFIED, header, job_answers, problem_responses
from service.problems import ProblemError
from service.submission import ClientDep, check_training, start_job

__all__ = ["router"]

router = APIRouter(tags=["models"], route_class=JsonRoute)

log = structlog.get_logger(__name__)

TRAINING: dict[str, Any] = {"steps": 200, "curve": [{"step": 100, "loss": 0.9, "cosine": 0.42, "npr": 0.58}]}


@router.get(
    "/models",
    summary="List models",
    response_description="The models.",
    responses=problem_responses("invalid-request"),
)
def list_models(state: AppStateDep, prefix: PrefixDep) -> ModelList:
    """List the models of the registry's file, after them the added and then the compacted ones, both oldest first.

    While Redis does not answer, only those of the file are listed. Large transformers have a list of their own.
    """
    entries = list(state.models.registry)
    with suppress(redis.RedisError):
        entries = list(state.models)
    return ModelList(
        models=[_summary(entry, state.evaluation, prefix) for entry in entries],
        transformers=[_transformer(entry, prefix) for entry in state.models.registry.transformers.values()],
    )


@router.get(
    "/models/{model}",
    summary="Describe a model",
    response_description="The model.",
    responses=problem_responses("unknown-model", "invalid-request", "unavailable"),
)
def get_model(model: ModelDep, state: AppStateDep, prefix: PrefixDep) -> ModelView:
    """Describe a model: its shapes, samplers and defaults, and whether it is ready."""
    facts, settings = model.facts, state.settings
    return ModelView(
        **_summary(model, state.evaluation, prefix).model_dump(),
        classes=model.classes,
        null_condition=model.null_condition,
        key=model.key,
        num_heads=model.num_heads,
        num_heads_assumed=model.num_heads_assumed,
        digest=_digest("model", model, state),
        condition_digest=_digest("condition", model, state),
        modulation_digest=_digest("modulation", model, state),
        class_names=model.names,
        condition_dim=model.condition_dim,
        depth=model.depth,
        latent_shape=list(model.latent_shape),
        samplers=list(facts.samplers),
        times=Times(first=facts.noise_time, last=facts.data_time, whole=facts.whole_times),
        defaults=model.defaults,
        limits=JobLimits(
            samples=settings.max_samples,
            variants=settings.max_variants,
            study_samples=settings.max_study_samples,
            study_variants=settings.max_study_variants,
            steps=settings.max_steps,
        ),
        licence=model.licence,
        source=model.source,
    )


@router.get(
    "/models/{model}/training",
    summary="Get the record of a training",
    response_class=Response,
    responses={
        200: {
            "description": "The record, as training wrote it.",
            "content": {"application/json": {"schema": {"type": "object"}, "example": TRAINING}},
            "headers": {
                "ETag": header("The SHA-256 digest of the record."),
                "Cache-Control": header("`no-cache`: revalidate with `If-None-Match`."),
            },
        },
        304: NOT_MODIFIED,
        **problem_responses("unknown-model", "model-not-ready", "invalid-request", "unavailable"),
    },
)
def get_training(model: ModelDep, if_none_match: IfNoneMatch = None) -> Response:
    """Get the record of a model's training, `training.json` beside its card: its settings, and its curve.

    `curve` has a point for each time that it was measured: `step`, and the cosine and nPR of c over all classes.
    """
    check_training(model)
    assert model.training is not None, "checked above"
    try:
        content = model.training.read_bytes()
        record = json.loads(content, parse_constant=_no_number)
    except (OSError, ValueError) as error:
        log.warning("record of a training cannot be read", model=model.name, reason=str(error))
        raise ProblemError(
            "model-not-ready", f"{model.training.name} of {model.name!r} cannot be read as JSON: replace or remove it"
        ) from error
    if not isinstance(record, dict):
        raise ProblemError("model-not-ready", f"{model.training.name} of {model.name!r} is no object: replace it")
    headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "Cache-Control": "no-cache"}
    if etag_matches(headers["ETag"], if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="application/json", headers=headers)


@router.post(
    "/models",
    summary="Add a model",
    response_model=JOBS[RegisterRequest.kind],
    status_code=200,
    responses=job_answers(RegisterRequest.kind, "model-exists"),
)
async def add_model(
    body: Annotated[RegisterRequest, Body(openapi_examples=examples.REGISTER)], client: ClientDep
) -> JSONResponse:
    """Add a model, which every process then serves without a restart.

    The response is a job: it fetches the checkpoint where that is on the hub, reads it whole, and refuses one that is
    damaged or that no family has; only then is the model there. It stays until it is deleted.
    """
    state = client.state

    def resolve() -> tuple[Request, str, None]:
        request = body.resolve(state.models.folders, state.evaluation)
        key = job_key(request.kind, request.model_dump(), "", {})
        state.models.check_free(request.name, key)
        return request, key, None

    return await start_job(resolve, client)


@router.delete(
    "/models/{model}",
    summary="Delete an added or compacted model",
    status_code=204,
    responses={
        204: {"description": "The model has been deleted."},
        **problem_responses("unknown-model", "model-registered", "invalid-request", "unavailable"),
    },
)
def delete_model(
    model: Annotated[str, Path(description="The name of an added or compacted model.")], state: AppStateDep
) -> None:
    """Delete a model that `POST /models` added or `POST /compact` made, which is then no longer listed or served.

    The files of an added model stay, and the job that made a compacted one keeps its artifacts: the same request adds
    or makes it again. Models that were compacted from a deleted one cannot be used until it is there again.
    """
    state.models.remove(model)


def _no_number(name: str) -> None:
    """Raise ValueError for NaN and infinity, which Python's JSON has."""
    raise ValueError(f"{name} is no number")


def _summary(entry: ModelEntry, assets: EvaluationAssets, prefix: str) -> ModelSummary:
    missing = entry.missing
    path = f"{prefix}/models/{entry.name}"
    links: dict[Literal["self", "metrics", "training"], str] = {
        "self": path,
        "metrics": f"{prefix}/metrics/{entry.name}",
    }
    if entry.training is not None and entry.training.is_file():
        links["training"] = f"{path}/training"
    return ModelSummary(
        name=entry.name,
        title=entry.title,
        family=entry.family,
        size=entry.size,
        parameters=entry.parameters,
        ready=not missing,
        missing=missing,
        obtain=entry.obtain,
        decoder=entry.decoding.shown,
        added=entry.added,
        compacted=entry.compacted,
        measured_with=_measured_with(entry, assets),
        conditions={name: list(shape) for name, shape in entry.facts.features.items()},
        links=links,
    )


def _transformer(entry: TransformerEntry, prefix: str) -> TransformerSummary:
    missing = entry.missing
    return TransformerSummary(
        name=entry.name,
        title=entry.title,
        ready=not missing,
        missing=missing,
        obtain=entry.obtain,
        licence=entry.licence,
        source=entry.source,
        links={
            "anatomy": f"{prefix}/models/{entry.name}/anatomy",
            "metrics": f"{prefix}/metrics/{entry.name}",
            "rank": f"{prefix}/metrics/{entry.name}/figures/rank",
        },
    )


def _digest(reads: Reads, entry: ModelEntry, state: AppState) -> str | None:
    """The digest of a part of a model; None if files are missing or unreadable. A file is read again if it changed."""
    if not entry.ready:
        return None
    try:
        return weights_digest(reads, entry, state.settings.data_dir)
    except OSError:  # deleted meanwhile, or not for this process to read: jobs of the model report it
        return None


def _measured_with(entry: ModelEntry, assets: EvaluationAssets) -> dict[AssetRole, Instrument]:
    found: dict[AssetRole, Instrument] = {}
    if entry.extractor is not None:
        found["extractor"] = _asset(entry.extractor, assets.missing_extractor(entry.extractor))
    if entry.classifier is not None:
        found["classifier"] = _asset(entry.classifier, assets.missing_extractor(entry.classifier))
    if entry.reference is not None:
        found["reference"] = _asset(entry.reference, assets.missing_reference(entry.reference))
    return found


def _asset(name: str, lack: str | None) -> Instrument:
    return Instrument(name=name, ready=lack is None, missing=lack)
