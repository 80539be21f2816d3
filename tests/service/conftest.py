"""The application on a real store, and someone who plays the worker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from jobs.records import Job
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from jobs.store.leases import Claim, LeaseStore
from service.app import create_app
from tests.service.results import finish

REQUEST: dict[str, Any] = {"model": "shapes-sit", "threshold": 0.1}
PLACES = {"redis_url", "broker_url", "data_dir", "registry"}
"""Settings that say where something is; each test has places of its own."""

_applications: dict[str, FastAPI] = {}


def application(settings: Settings) -> FastAPI:
    """The application with these settings, on the routes of an earlier one that differs in its places alone.

    FastAPI makes routes when they are first asked for, which takes longer than most tests. All else is made when the
    application is entered, so two clients at a time need two applications, by `create_app`.
    """
    made = create_app(settings)
    shared = _applications.setdefault(settings.model_dump_json(exclude=PLACES), made)
    shared.router.lifespan_context = made.router.lifespan_context
    return shared


@pytest.fixture
def client(settings: Settings, store: JobStore) -> Iterator[TestClient]:
    """A client of the application; `store` empties Redis before."""
    with TestClient(application(settings)) as client:
        yield client


@pytest.fixture
def claim(leases: LeaseStore) -> Callable[[str], Claim]:
    """Claims a job as a worker would."""

    def claim(job_id: str) -> Claim:
        claimed = leases.claim(job_id, "worker")
        assert claimed is not None
        return claimed

    return claim


@pytest.fixture
def done(store: JobStore, leases: LeaseStore, claim: Callable[[str], Claim]) -> Callable[[str], Job]:
    """Does a job as a worker would, with a made-up result."""

    def done(job_id: str) -> Job:
        finish(store, leases, claim(job_id))
        return store.get(job_id)

    return done


@pytest.fixture
def worker(store: JobStore, leases: LeaseStore) -> Iterator[None]:
    """A worker that does every job as soon as it is queued."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.01):
            for job in store.page(status="queued").jobs:
                if claimed := leases.claim(job.id, "worker"):
                    finish(store, leases, claimed)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()
