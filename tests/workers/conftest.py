from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
import torch

from jobs.batching import share_of
from jobs.keys import job_key
from jobs.needs import Queue, needs_of
from jobs.queue import JobQueue
from jobs.records import Job, Kind
from jobs.registry.catalogue import Catalogue
from jobs.registry.compacted import CompactedStore
from jobs.registry.digests import identify
from jobs.registry.evaluation import EvaluationAssets
from jobs.registry.models import Registry
from jobs.requests.compact import CompactRequest, resolve_compact
from jobs.requests.extract import ExtractRequest, resolve_extract
from jobs.requests.figure import FigureRequest, resolve_figure
from jobs.requests.metrics import MetricsRequest, resolve_metrics
from jobs.requests.prune_sample import PruneSampleRequest, resolve
from jobs.requests.study import StudyRequest, evaluation_of
from jobs.requests.study_resolution import resolve_study
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from jobs.store.leases import Claim, LeaseStore
from tests.tiny_model import NAME, write_tiny_model
from workers.lease import Run
from workers.model_pool import Models


class Silent(JobQueue):
    """A queue that goes nowhere: the tests hand jobs to workers themselves."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.offers: list[dict[str, Any]] = []

    def put(self, job_id: str, queue: Queue) -> None:
        self.sent.append(job_id)

    def invite(self, job_id: str, parts: Sequence[dict[str, Any]]) -> None:
        self.offers += parts


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """Settings with the registry of the very small model."""
    return settings.model_copy(update={"registry": write_tiny_model(tmp_path / "tiny"), "lease_seconds": 1.0})


@pytest.fixture
def queue() -> Silent:
    return Silent()


@pytest.fixture
def store(settings: Settings, redis_client: redis.Redis, queue: Silent) -> JobStore:
    return JobStore(redis_client, settings, queue)


@pytest.fixture
def leases(settings: Settings, redis_client: redis.Redis, queue: Silent) -> LeaseStore:
    return LeaseStore(redis_client, settings, queue)


@pytest.fixture
def models(settings: Settings) -> Models:
    return Models(Registry.read(settings.registry), settings, torch.device("cpu"))


Submit = Callable[..., Job]


@pytest.fixture
def submit(store: JobStore, settings: Settings, redis_client: redis.Redis) -> Submit:
    """Submits a request as the service would; of samples unless `kind` says otherwise."""
    registered, made = EvaluationAssets.of(Registry.read(settings.registry)), CompactedStore(redis_client)
    registry = Catalogue(Registry.read(settings.registry), made, store.artifacts, settings.data_dir, fetches=False)

    def submit(kind: Kind = "prune-sample", model: str = NAME, **body: Any) -> Job:
        entry = registry.get(model)
        request: PruneSampleRequest | MetricsRequest | ExtractRequest | FigureRequest | StudyRequest | CompactRequest
        instruments: Mapping[str, Path | str] = {}
        if kind == "metrics":
            request = resolve_metrics(MetricsRequest(model=model, **body), entry)
        elif kind == "extract":
            request = resolve_extract(ExtractRequest(model=model, **body), entry, settings)
        elif kind == "figure":
            request = resolve_figure(FigureRequest(model=model, **body), entry, settings)
        elif kind == "study":
            request = resolve_study(StudyRequest(model=model, **body), entry, settings, registered)
            instruments = evaluation_of(request, entry, registered)
        elif kind == "compact":
            request = resolve_compact(CompactRequest(model=model, **body), entry, settings)
        else:
            request = resolve(PruneSampleRequest(model=model, **{"threshold": 0.5, **body}), entry, settings)
        identity = identify(needs_of(kind, request.model_dump()).reads, entry, settings.data_dir, instruments)
        key = job_key(kind, request.model_dump(), identity.weights, identity.reading)
        share = share_of(request, identity, settings.batch_size)
        return store.submit(kind, request.model_dump(), key, share=share)[0]

    return submit


@pytest.fixture
def claim(leases: LeaseStore, submit: Submit) -> Claim:
    """A job held by a worker."""
    claimed = leases.claim(submit().id, "worker")
    assert claimed is not None
    return claimed


@pytest.fixture
def run(leases: LeaseStore, claim: Claim) -> Run:
    """The claimed job, with nothing that looks after it."""
    return Run(leases, claim)
