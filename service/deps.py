"""What routes are given: the application's parts, and the job or model that a path names."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Annotated

import redis.asyncio
from fastapi import Depends, Path, Request

from jobs.conditions import ConditionStore
from jobs.instruments import Instruments
from jobs.records import ID_PATTERN, Job
from jobs.registry import ModelEntry, Registry
from jobs.settings import Settings
from jobs.store import JobStore, UnknownJob
from jobs.workers import WorkerRoll
from service.telemetry import ServiceMetrics

__all__ = ["JobDep", "JobId", "ModelDep", "Parts", "PartsDep"]


@dataclass(frozen=True)
class Parts:
    """What a running application is made of."""

    settings: Settings
    registry: Registry
    instruments: Instruments
    store: JobStore
    conditions: ConditionStore
    intake: asyncio.Semaphore
    """Held while a file of conditions is taken in, which needs several times its size of memory."""
    roll: WorkerRoll
    follower: redis.asyncio.Redis
    """For following events, which waits."""
    metrics: ServiceMetrics


async def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


PartsDep = Annotated[Parts, Depends(_parts)]


async def _job_id(job: Annotated[str, Path(alias="id", description="The id of a job.")]) -> str:
    if not re.fullmatch(ID_PATTERN, job):
        raise UnknownJob(job)
    return job


JobId = Annotated[str, Depends(_job_id)]


def _job(job_id: JobId, parts: PartsDep) -> Job:
    return parts.store.get(job_id)


JobDep = Annotated[Job, Depends(_job)]


async def _model(
    model: Annotated[str, Path(description="A registered model.", examples=["shapes-sit"])], parts: PartsDep
) -> ModelEntry:
    return parts.registry.get(model)


ModelDep = Annotated[ModelEntry, Depends(_model)]
