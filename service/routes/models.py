"""`GET /models`: the registry."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from jobs.decoding import Shown
from jobs.registry import ModelDefaults, ModelEntry
from service.deps import ModelDep, PartsDep
from service.problems import describe

__all__ = ["router"]

router = APIRouter(tags=["models"])


class Times(BaseModel):
    """The times of a model."""

    first: float = Field(description="Where sampling starts.")
    last: float
    whole: bool = Field(description="Whether times are whole numbers.")


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
    """The registered models."""

    models: list[ModelSummary]


@router.get("/models")
def models(parts: PartsDep) -> ModelList:
    """The registered models."""
    return ModelList(models=[_summary(entry) for entry in parts.registry])


@router.get("/models/{model}", responses=describe("unknown-model", "invalid-request"))
def model(model: ModelDep) -> ModelView:
    """A model: what it is, and what may be asked of it."""
    facts = model.facts
    return ModelView(
        **_summary(model).model_dump(),
        classes=model.classes,
        conditions={name: list(shape) for name, shape in facts.features.items()},
        class_names=model.names,
        condition_dim=model.condition_dim,
        latent_shape=list(model.latent_shape),
        samplers=list(facts.samplers),
        times=Times(first=facts.first_time, last=facts.last_time, whole=facts.whole_times),
        defaults=model.defaults,
        licence=model.licence,
        source=model.source,
    )


def _summary(entry: ModelEntry) -> ModelSummary:
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
        links={"self": f"/models/{entry.name}", "metrics": f"/metrics/{entry.name}"},
    )
