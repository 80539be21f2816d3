"""What clients see besides jobs: lists of jobs, models, conditions, and the health of the service."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from jobs.records import JobSummary
from jobs.registry.compaction import Compaction
from jobs.registry.decoding import Shown
from jobs.registry.defaults import ModelDefaults
from jobs.requests.subscriber import WebhookEvent
from jobs.results import CONDITION_DIGEST, DIGEST, MODULATION_DIGEST
from jobs.storage.condition_info import ConditionInfo

__all__ = [
    "AssetRole", "ConditionList", "ConditionView", "Instrument", "JobLimits", "JobList", "Live", "ModelList",
    "ModelSummary", "ModelView", "Ready", "StoredConditions", "Times",
    "TransformerSummary", "WebhookBody", "WorkerInfo",
]  # fmt: skip

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


class JobLimits(BaseModel):
    """How much one job may ask for, by the settings of the service."""

    samples: int = Field(description="Most samples of `POST /prune-sample`: labels x `samples_per_label`.")
    variants: int = Field(description="Most prunes of `POST /prune-sample`.")
    study_samples: int = Field(description="Most samples of each prune of a study.")
    study_variants: int = Field(description="Most prunes of one study, including those of its grids.")
    steps: int = Field(description="Most sampling steps.")


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
    added: datetime | None = Field(
        description="When `POST /models` added it; null for a model of the registry's file, or a compacted one."
    )
    compacted: Compaction | None = Field(description="How `POST /compact` made it; null for a registered model.")
    measured_with: dict[AssetRole, Instrument] = Field(
        description="Which extractor, classifier and reference studies of the model use by default, if there are any."
    )
    conditions: dict[str, list[int]] | None = Field(
        description="The arrays that it takes in place of labels, and the shape of each: see `POST /conditions`. Null "
        "where it is not known, as of an older service."
    )
    links: dict[Literal["self", "metrics", "training"], str] = Field(
        description="The paths of the model, of its statistics, and of the record of its training, if there is one."
    )


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
    digest: str | None = Field(description=f"{DIGEST} Null while a file is missing (see `missing`) or cannot be read.")
    condition_digest: str | None = Field(description=f"{CONDITION_DIGEST} Null as `digest` is.")
    modulation_digest: str | None = Field(default=None, description=f"{MODULATION_DIGEST} Null as `digest` is.")
    class_names: list[str] = Field(description="The names of the labels in order; empty if they have none.")
    condition_dim: int = Field(description="The width d of the condition vectors.")
    depth: int | None = Field(description="How many blocks it has; null where the registry does not say.")
    latent_shape: list[int] = Field(description="The shape of a latent: channels, height, width.")
    samplers: list[str] = Field(description="The samplers that it can be sampled with.")
    times: Times
    defaults: ModelDefaults = Field(description="The defaults of its requests.")
    limits: JobLimits | None = Field(description="What one job may ask for; null where it is not known.")
    licence: str = Field(description="The licence of its weights.")
    source: str = Field(description="Where it comes from.")


class TransformerSummary(BaseModel):
    """A large transformer, in short."""

    name: str = Field(description="The name by which requests name it.")
    title: str = Field(description="The name for people.")
    ready: bool = Field(description="Whether all its files are present.")
    missing: list[str] = Field(description="The files that are absent.")
    obtain: str | None = Field(description="How to get its files, and where to put them.")
    licence: str = Field(description="The licence of its weights.")
    source: str = Field(description="Where it comes from.")
    links: dict[Literal["anatomy", "metrics", "rank"], str] = Field(
        description="The paths of its anatomy, of its statistics, and of the figure of the error of its modulations "
        "against the rank."
    )


class ModelList(BaseModel):
    """All models that are served."""

    models: list[ModelSummary] = Field(
        description="The models of the registry's file, then the added and then the compacted ones, both oldest first."
    )
    transformers: list[TransformerSummary] = Field(
        default_factory=list,
        description="The large transformers of the registry's file, which `GET /models/{model}/anatomy`, `GET "
        "/metrics/{model}` with `/over-time` and `/figures/rank`, and `POST /compact` alone take.",
    )


class JobList(BaseModel):
    """A page of the list of jobs."""

    jobs: list[JobSummary] = Field(description="The jobs, newest first.")
    next_cursor: str | None = Field(description="The `cursor` of the next page; null on the last page.")


class WebhookBody(BaseModel):
    """What a webhook is sent."""

    event: WebhookEvent = Field(description="What happened to the job.")
    job: JobSummary = Field(description="The job as it was then; its result is at `links.self`.")
    time: datetime = Field(description="When it happened. Calls may come late, and in another order.")
    delivery: str = Field(description="The id of the call, as in `webhook-id`: the same in every try.")


class ConditionView(ConditionInfo):
    """Conditions that are stored under an id."""

    links: dict[Literal["self"], str] = Field(description="The path of the conditions.")


class StoredConditions(ConditionView):
    """Conditions in a list."""

    uploaded: datetime = Field(description="When they were uploaded, the last time if several.")


class ConditionList(BaseModel):
    """A page of the list of conditions."""

    conditions: list[StoredConditions] = Field(description="The conditions, the latest uploads first.")
    next_cursor: str | None = Field(description="The `cursor` of the next page; null on the last page.")


class WorkerInfo(BaseModel):
    """A worker process."""

    name: str = Field(description="The name of the worker.")
    device: str = Field(description="The device on which it computes, such as cpu or cuda:0.")


class Live(BaseModel):
    """The process is running."""

    status: Literal["live"] = Field(default="live", description="Always `live`.")


class Ready(BaseModel):
    """The service can take requests: its queue, and the workers that serve it."""

    status: Literal["ready"] = Field(default="ready", description="Always `ready`; else the status is 503.")
    queued: int = Field(description="How many jobs wait for a worker.")
    running: int = Field(description="How many jobs run on a worker.")
    workers: list[WorkerInfo] = Field(description="The workers that are alive. Jobs wait while there are none.")
