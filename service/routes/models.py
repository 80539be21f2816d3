"""`/models`: the registered models, and the compacted ones made from them, which can be deleted."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Literal

import redis
from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from jobs.registry.compacted import Compaction
from jobs.registry.decoding import Shown
from jobs.registry.defaults import ModelDefaults
from jobs.registry.digests import weights_digest
from jobs.registry.evaluation import EvaluationAssets
from jobs.registry.models import ModelEntry
from jobs.requests.base import Reads
from jobs.results import CONDITION_DIGEST, DIGEST
from service.deps import AppState, AppStateDep, ModelDep, PrefixDep
from service.openapi import problem_responses

__all__ = ["router"]

router = APIRouter(tags=["models"])

AssetRole = Literal["extractor", "classifier", "reference"]


class Times(BaseModel):
    """The range of a model's sampling times."""

    first: float = Field(description="The time at which sampling starts.")
    last: float = Field(description="The time at which sampling ends.")
    whole: bool = Field(description="Whether times are integers.")


class Instrument(BaseModel):
    """An extractor, a classifier or a reference that studies of the model use by default."""

    name: str = Field(description="Its name in the registry.")
    ready: bool = Field(description="Whether it can be used on this machine.")
    missing: str | None = Field(description="What is missing, and how to get it; null when ready.")


class ModelSummary(BaseModel):
    """A model, in short."""

    name: str = Field(description="The name by which requests name it.")
    title: str = Field(description="The name for people.")
    family: str = Field(description="The family of systems that it belongs to, such as `sit`.")
    size: str | None = Field(
        description="The size as published, such as XL/2; of the shipped ones blocks x width / patch, such as 4x128/4."
    )
    parameters: int | None = Field(description="How many parameters the checkpoint has.")
    ready: bool = Field(description="Whether all its files are present.")
    missing: list[str] = Field(description="The files that are absent.")
    obtain: str | None = Field(description="How to get its files, and where to put them.")
    decoder: Shown
    compacted: Compaction | None = Field(description="How `POST /compact` made it; null for a registered model.")
    measured_with: dict[AssetRole, Instrument] = Field(
        description="Which extractor, classifier and reference studies of the model use by default, if there are any."
    )
    links: dict[Literal["self", "metrics"], str] = Field(description="The paths of the model and of its statistics.")


class ModelView(ModelSummary):
    """A model, with everything that its requests depend on."""

    classes: int | None = Field(description="How many class labels it has; null for a model that takes conditions.")
    null_condition: bool = Field(
        description="Whether it has a null condition. Without one the guidance scale must be 1, unless the model takes "
        "the scale as an input."
    )
    key: str | None = Field(
        description="The key of its weights in the checkpoint, such as `ema`; null if the registry does not say: the "
        "only copy in the file, or the averaged one, is then used."
    )
    num_heads: int | None = Field(description="The number of attention heads; null if the checkpoint says it.")
    num_heads_assumed: bool = Field(
        description="Whether that is only the published number for the width, which nothing in the checkpoint shows."
    )
    conditions: dict[str, list[int]] = Field(
        description="The arrays that it takes in place of labels, and the shape of each: see `POST /conditions`."
    )
    digest: str | None = Field(description=f"{DIGEST} Null while a file is missing (see `missing`) or cannot be read.")
    condition_digest: str | None = Field(description=f"{CONDITION_DIGEST} Null as `digest` is.")
    class_names: list[str] = Field(description="The names of the labels in order; empty if they have none.")
    condition_dim: int = Field(description="The width d of the condition vectors.")
    latent_shape: list[int] = Field(description="The shape of a latent: channels, height, width.")
    samplers: list[str] = Field(description="The samplers that it can be sampled with.")
    times: Times
    defaults: ModelDefaults = Field(description="The defaults of its requests.")
    licence: str = Field(description="The licence of its weights.")
    source: str = Field(description="Where it comes from.")


class ModelList(BaseModel):
    """All models that are served."""

    models: list[ModelSummary] = Field(description="The registered models, then the compacted ones, oldest first.")


@router.get(
    "/models",
    summary="List models",
    response_description="The models.",
    responses=problem_responses("invalid-request"),
)
def list_models(state: AppStateDep, prefix: PrefixDep) -> ModelList:
    """List the registered models, and after them the compacted ones, oldest first.

    While Redis does not answer, only the registered models are listed.
    """
    entries = list(state.models.registry)
    with suppress(redis.RedisError):
        entries = list(state.models)
    return ModelList(models=[_summary(entry, state.evaluation, prefix) for entry in entries])


@router.get(
    "/models/{model}",
    summary="Describe a model",
    response_description="The model.",
    responses=problem_responses("unknown-model", "invalid-request", "unavailable"),
)
def get_model(model: ModelDep, state: AppStateDep, prefix: PrefixDep) -> ModelView:
    """Describe a model: its shapes, samplers and defaults, and whether it is ready."""
    facts = model.facts
    return ModelView(
        **_summary(model, state.evaluation, prefix).model_dump(),
        classes=model.classes,
        null_condition=model.null_condition,
        key=model.key,
        num_heads=model.num_heads,
        num_heads_assumed=model.num_heads_assumed,
        conditions={name: list(shape) for name, shape in facts.features.items()},
        digest=_digest("model", model, state),
        condition_digest=_digest("condition", model, state),
        class_names=model.names,
        condition_dim=model.condition_dim,
        latent_shape=list(model.latent_shape),
        samplers=list(facts.samplers),
        times=Times(first=facts.noise_time, last=facts.data_time, whole=facts.whole_times),
        defaults=model.defaults,
        licence=model.licence,
        source=model.source,
    )


@router.delete(
    "/models/{model}",
    summary="Delete a compacted model",
    status_code=204,
    responses={
        204: {"description": "The model has been deleted."},
        **problem_responses("unknown-model", "model-registered", "invalid-request", "unavailable"),
    },
)
def delete_model(model: Annotated[str, Path(description="The name of a compacted model.")], state: AppStateDep) -> None:
    """Delete a compacted model, which is then no longer listed or served.

    The job that made it keeps its artifacts, including the checkpoint. The same `POST /compact` makes the model again.
    """
    state.models.remove(model)


def _summary(entry: ModelEntry, assets: EvaluationAssets, prefix: str) -> ModelSummary:
    missing = entry.missing
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
        compacted=entry.compacted,
        measured_with=_measured_with(entry, assets),
        links={"self": f"{prefix}/models/{entry.name}", "metrics": f"{prefix}/metrics/{entry.name}"},
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
