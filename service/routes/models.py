"""`/models`: the registry, and the models that were compacted of it, which can be deleted."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Literal

import redis
from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from jobs.registry.compacted import Compaction
from jobs.registry.decoding import Shown
from jobs.registry.evaluation import EvaluationAssets
from jobs.registry.models import ModelDefaults, ModelEntry
from service.deps import AppStateDep, ModelDep
from service.problems import describe

__all__ = ["router"]

router = APIRouter(tags=["models"])

InstrumentOf = Literal["extractor", "classifier", "reference"]


class Times(BaseModel):
    """The times of a model."""

    first: float = Field(description="Where sampling starts.")
    last: float
    whole: bool = Field(description="Whether times are whole numbers.")


class Instrument(BaseModel):
    """What samples are measured with in a study that does not say otherwise."""

    name: str
    ready: bool = Field(description="Whether it is there.")
    missing: str | None = Field(description="What is missing, and what to do.")


class ModelSummary(BaseModel):
    """A model in the list."""

    name: str
    title: str
    family: str
    size: str | None = Field(description="The published size, such as XL/2.")
    parameters: int | None = Field(description="Parameters of the published file.")
    ready: bool = Field(description="Whether its files are there.")
    missing: list[str] = Field(description="The files that are not.")
    obtain: str | None = Field(description="How to have them: what to put where.")
    decoder: Shown
    compacted: Compaction | None = Field(description="What it was made of, for a model that POST /compact made.")
    measured_with: dict[InstrumentOf, Instrument] = Field(
        description="Whose features, whose classes and which set of images a study goes by; those that it has."
    )
    links: dict[Literal["self", "metrics"], str]


class ModelView(ModelSummary):
    """A model: what it is, and what may be asked of it."""

    classes: int | None = Field(description="How many labels it has; null for a model that takes conditions.")
    conditions: dict[str, list[int]] = Field(
        description="What it is conditioned on in place of labels, with the shape of one: see POST /conditions."
    )
    class_names: list[str] = Field(description="The names of the labels in order, where they have names.")
    condition_dim: int = Field(description="The width d of the condition vectors.")
    latent_shape: list[int] = Field(description="Channels, height, width.")
    samplers: list[str]
    times: Times
    defaults: ModelDefaults = Field(description="What a request that does not say otherwise gets.")
    licence: str
    source: str


class ModelList(BaseModel):
    """The registered models, and the compacted ones."""

    models: list[ModelSummary]


@router.get("/models")
def models(parts: AppStateDep) -> ModelList:
    """The registered models, then those that were compacted of them, the oldest first.

    While the store of jobs does not answer, the registered ones alone.
    """
    entries = list(parts.models.registry)
    with suppress(redis.RedisError):
        entries = list(parts.models)
    return ModelList(models=[_summary(entry, parts.instruments) for entry in entries])


@router.get("/models/{model}", responses=describe("unknown-model", "invalid-request", "unavailable"))
def model(model: ModelDep, parts: AppStateDep) -> ModelView:
    """A model: what it is, and what may be asked of it."""
    facts = model.facts
    return ModelView(
        **_summary(model, parts.instruments).model_dump(),
        classes=model.classes,
        conditions={name: list(shape) for name, shape in facts.features.items()},
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
    status_code=204,
    responses={
        204: {"description": "The model is deleted."},
        **describe("unknown-model", "model-registered", "invalid-request", "unavailable"),
    },
)
def remove_model(model: Annotated[str, Path(description="A compacted model.")], parts: AppStateDep) -> None:
    """Delete a compacted model: it is listed and served no more.

    The job that made it keeps its artifacts, the checkpoint among them. The same `POST /compact` makes it again.
    """
    parts.models.remove(model)


def _summary(entry: ModelEntry, instruments: EvaluationAssets) -> ModelSummary:
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
        measured_with=_measured_with(entry, instruments),
        links={"self": f"/models/{entry.name}", "metrics": f"/metrics/{entry.name}"},
    )


def _measured_with(entry: ModelEntry, instruments: EvaluationAssets) -> dict[InstrumentOf, Instrument]:
    found: dict[InstrumentOf, Instrument] = {}
    if entry.extractor is not None:
        found["extractor"] = _instrument(entry.extractor, instruments.missing_extractor(entry.extractor))
    if entry.classifier is not None:
        found["classifier"] = _instrument(entry.classifier, instruments.missing_extractor(entry.classifier))
    if entry.reference is not None:
        found["reference"] = _instrument(entry.reference, instruments.missing_reference(entry.reference))
    return found


def _instrument(name: str, lack: str | None) -> Instrument:
    return Instrument(name=name, ready=lack is None, missing=lack)
