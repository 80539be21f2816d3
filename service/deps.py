"""What routes depend on: the application's state, and the job or model that a path names."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote

from anyio import CapacityLimiter
from fastapi import Depends, Path, Request
from prometheus_client import CollectorRegistry
from starlette.concurrency import run_in_threadpool

from jobs.records import ID_PATTERN, Job
from jobs.registry.catalogue import Catalogue
from jobs.registry.evaluation import EvaluationAssets
from jobs.registry.models import ModelEntry
from jobs.registry.transformers import TransformerEntry
from jobs.settings import Settings
from jobs.storage.uploads import ConditionStore
from jobs.store.events import Events
from jobs.store.heartbeats import WorkerRegistry
from jobs.store.jobs import JobStore, UnknownJob
from jobs.webhooks.hosts import HostRule
from service.keys import Key, Keys
from service.limits import Limits
from service.response_cache import ResponseCache

__all__ = [
    "AnyModelDep",
    "AppState",
    "AppStateDep",
    "JobDep",
    "JobId",
    "KeyDep",
    "ModelDep",
    "PrefixDep",
    "TransformerDep",
    "ViewerDep",
    "model_of",
    "transformer_named",
]


@dataclass(frozen=True)
class AppState:
    """What a running application is made of."""

    settings: Settings
    models: Catalogue
    evaluation: EvaluationAssets
    store: JobStore
    conditions: ConditionStore
    parsing: CapacityLimiter
    """Held while a large body is parsed, which takes many times its size in memory."""
    intake: asyncio.Semaphore
    """Held while a file of conditions is read, which takes several times its size in memory."""
    glance: JobStore
    """The same jobs, for those who do not wait for Redis: its answers are soon there, or not at all."""
    workers: WorkerRegistry
    """Asked as `glance` is."""
    events: Events
    """The events of all jobs. `stop` ends all responses that wait for a job, when the process is asked to stop."""
    probes: CapacityLimiter
    """The threads in which Redis is asked for probes and telemetry, whatever waits for it elsewhere."""
    telemetry: CollectorRegistry
    webhook_hosts: tuple[HostRule, ...]
    """What webhooks may call."""
    answers: ResponseCache
    keys: Keys
    limits: Limits


async def _state(request: Request) -> AppState:
    state: AppState = request.app.state.app
    return state


AppStateDep = Annotated[AppState, Depends(_state)]


async def _key(request: Request) -> Key | None:
    key: Key | None = request.scope["key"]
    return key


KeyDep = Annotated[Key | None, Depends(_key)]
"""The key that was sent, whose scope was checked; None while there are no keys."""


async def _viewer(key: KeyDep) -> str | None:
    return None if key is None or key.may("admin") else key.name


ViewerDep = Annotated[str | None, Depends(_viewer)]
"""Who sees of a job's webhooks the own alone, by the name of the key; None for one who sees all."""


async def _prefix(request: Request) -> str:
    return quote(request.scope["root_path"])


PrefixDep = Annotated[str, Depends(_prefix)]
"""What every path in a response begins with: the prefix under which a proxy serves the application, or nothing."""


async def _job_id(job: Annotated[str, Path(alias="id", description="The id of a job.")]) -> str:
    if not re.fullmatch(ID_PATTERN, job):
        raise UnknownJob(job)
    return job


JobId = Annotated[str, Depends(_job_id)]


def _job(job_id: JobId, state: AppStateDep) -> Job:
    return state.store.get(job_id)


JobDep = Annotated[Job, Depends(_job)]


async def model_of(name: str, state: AppState) -> ModelEntry:
    """A model by name. Raises UnknownModel."""
    if name in state.models.registry:
        return state.models.get(name)
    return await run_in_threadpool(state.models.get, name)  # its record is in Redis


async def _model(
    model: Annotated[str, Path(description="The name of a model.", examples=["shapes-sit"])], state: AppStateDep
) -> ModelEntry:
    return await model_of(model, state)


ModelDep = Annotated[ModelEntry, Depends(_model)]


async def transformer_named(name: str, state: AppState) -> TransformerEntry:
    """A large transformer by name. Raises UnknownTransformer."""
    if name in state.models.registry.transformers:
        return state.models.transformer(name)
    return await run_in_threadpool(state.models.transformer, name)  # whether it is a system, Redis knows


async def _transformer(
    model: Annotated[str, Path(description="The name of a large transformer.", examples=["flux-dev"])],
    state: AppStateDep,
) -> TransformerEntry:
    return await transformer_named(model, state)


TransformerDep = Annotated[TransformerEntry, Depends(_transformer)]


async def _any_model(
    model: Annotated[str, Path(description="The name of a model, or of a large transformer.", examples=["shapes-sit"])],
    state: AppStateDep,
) -> ModelEntry | TransformerEntry:
    if model in state.models.registry.transformers:
        return state.models.transformer(model)
    return await model_of(model, state)


AnyModelDep = Annotated[ModelEntry | TransformerEntry, Depends(_any_model)]
