from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
import torch

import tailprune
from jobs.batching import share_of
from jobs.keys import job_key
from jobs.queue import JobQueue
from jobs.records import KINDS, Job, Kind
from jobs.registry.added import AddedStore
from jobs.registry.catalogue import Catalogue
from jobs.registry.compacted import CompactedStore
from jobs.registry.digests import identify
from jobs.registry.evaluation import EvaluationAssets
from jobs.registry.models import Registry
from jobs.requests.base import Queue
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from jobs.store.leases import Claim, LeaseStore
from tests.choices import torchs_own  # noqa: F401, a fixture of all these tests
from tests.tiny_model import NAME, write_tiny_model
from workers.handler import Context
from workers.lease import Preempted, Run
from workers.model_pool import ModelPool
from workers.worker import Worker


class Silent(JobQueue):
    """A queue that goes nowhere: the tests hand jobs to workers themselves."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.offers: list[dict[str, Any]] = []

    def put(self, job_id: str, queue: Queue) -> None:
        self.sent.append(job_id)

    def offer(self, job_id: str, parts: Sequence[dict[str, Any]]) -> None:
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
def models(settings: Settings) -> ModelPool:
    return ModelPool(Registry.read(settings.registry), settings, torch.device("cpu"))


@pytest.fixture
def context(settings: Settings) -> Context:
    """What a worker gives each job."""
    return Worker(settings, "worker").context


Submit = Callable[..., Job]


@pytest.fixture
def submit(store: JobStore, settings: Settings, redis_client: redis.Redis) -> Submit:
    """Submits a request as the service would; of samples unless `kind` says otherwise."""
    file = Registry.read(settings.registry)
    registered, added, made = (
        EvaluationAssets.from_registry(file),
        AddedStore(redis_client),
        CompactedStore(redis_client),
    )
    registry = Catalogue(file, added, made, store.artifacts, settings, fetches=False)

    def submit(kind: Kind = "prune-sample", model: str = NAME, **body: Any) -> Job:
        entry = registry.get(model)
        given = {"threshold": 0.5, **body} if kind == "prune-sample" else body
        request = KINDS[kind](model=model, **given).resolve(entry, settings, None, registered)
        identity = identify(request.reads, entry, settings.data_dir, request.evaluated_with(entry, registered))
        key = job_key(kind, request.model_dump(), identity.weights, identity.reading)
        return store.submit(request, key, share=share_of(request, identity, settings.batch_size))[0]

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


@pytest.fixture
def stopped_at_the_second(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Preempts the second call of the sampler; the first label of each call, -1 for that one."""
    made: list[int] = []
    sampled = tailprune.sample_each

    def stopping(system: Any, inputs: Any, **options: Any) -> Any:
        if len(made) == 1:
            made.append(-1)
            raise Preempted
        made.append(int(inputs["labels"][0]))
        return sampled(system, inputs, **options)

    monkeypatch.setattr("tailprune.sample_each", stopping, raising=False)
    return made
