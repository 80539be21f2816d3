"""A registry that names a large transformer besides the system, and a worker that does jobs of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.keys import job_key
from jobs.records import Job
from jobs.registry.models import Registry
from jobs.requests.base import TransformerRequest
from jobs.settings import Settings
from jobs.storage.condition_info import ConditionInfo
from jobs.store.jobs import JobStore
from tests.registry import extend
from workers.worker import Worker

TRANSFORMER = "flux"
"""Its name."""

Submits = Callable[..., Job]
Does = Callable[[Job], Job]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings whose registry names a large transformer too, whose files are not there yet."""
    extend(settings.registry, {"models": {TRANSFORMER: {"kind": "transformer", "checkpoint": TRANSFORMER}}})
    return settings


@pytest.fixture
def folder(settings: Settings) -> Path:
    """Where the files of the large transformer belong."""
    return settings.registry.parent / TRANSFORMER


@pytest.fixture
def submitted(settings: Settings, store: JobStore) -> Submits:
    """Submits a request as the service would, with the description of the upload that it names."""

    def submitted(request: TransformerRequest, conditions: ConditionInfo | None = None) -> Job:
        entry = Registry.read(settings.registry).transformers[TRANSFORMER]
        request = request.resolve(entry, conditions)
        key = job_key(request.kind, request.model_dump(), entry.files_digest, request.reading(entry))
        return store.submit(request, key)[0]

    return submitted


@pytest.fixture
def done(settings: Settings, store: JobStore) -> Does:
    """Does a job, and returns it as it is then."""
    worker = Worker(settings, "worker")

    def done(job: Job) -> Job:
        worker.run(job.id)
        return store.get(job.id)

    return done


def detail(job: Job) -> str:
    """Why a job failed."""
    assert job.problem is not None
    assert job.problem.type == "urn:tailprune:problem:failed"
    return job.problem.detail
