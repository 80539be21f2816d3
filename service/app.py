"""The application: `uvicorn service.app:app`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.concurrency import run_in_threadpool

from jobs.logging import configure_logging
from jobs.registry.catalogue import Catalogue
from jobs.registry.compacted import CompactedStore
from jobs.registry.evaluation import EvaluationAssets
from jobs.registry.models import Registry
from jobs.settings import Settings, get_settings
from jobs.storage.uploads import ConditionStore
from jobs.store.connection import connect, connect_async
from jobs.store.heartbeats import WorkerRegistry
from jobs.store.jobs import JobStore
from jobs.store.telemetry import Telemetry
from service.contract import DESCRIPTION, TAGS, add_contract
from service.deps import AppState
from service.middleware import BodyLimit, RequestTelemetry
from service.problems import add_handlers
from service.response_cache import ResponseCache
from service.routes import artifacts, conditions, figures, health, jobs, metrics, models, pages, submit
from service.telemetry import FleetCollector, ServiceTelemetry

__all__ = ["app", "create_app"]

CONTRACT_VERSION = "1.0"
"""The version of `openapi.yaml`, not of the code."""
COUNT_SECONDS = 5.0
"""How late counts may be written to Redis for answers that came from the memory of this process."""


def create_app(settings: Settings) -> FastAPI:
    """The application with these settings. It connects to Redis on the first request."""
    telemetry = ServiceTelemetry()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        configure_logging(settings, "uvicorn", "uvicorn.error")
        logging.getLogger("uvicorn.access").disabled = True  # RequestTelemetry logs each request
        client, follower = connect(settings), connect_async(settings)
        store, workers = JobStore(client, settings), WorkerRegistry(client)
        telemetry.registry.register(FleetCollector(store, workers))
        registry = Registry.read(settings.registry, settings.hub_cache)
        app.state.app = AppState(
            settings=settings,
            models=Catalogue(registry, CompactedStore(client), store.artifacts, settings.data_dir, fetches=False),
            evaluation=EvaluationAssets.from_registry(registry),
            store=store,
            conditions=ConditionStore(settings, client),
            intake=asyncio.Semaphore(1),
            workers=workers,
            follower=follower,
            telemetry=telemetry,
            answers=ResponseCache(),
        )
        counting = asyncio.create_task(_write_counts(store.telemetry))
        yield
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)
        store.telemetry.write_noted()
        await follower.aclose()
        client.close()

    app = FastAPIOffline(  # /docs without a CDN: the service often runs without access to the internet
        title="tailprune",
        version=CONTRACT_VERSION,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        servers=[{"url": "/"}],
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    uploads = {("POST", "/conditions"): settings.max_conditions_bytes}
    app.add_middleware(BodyLimit, most=settings.max_body_bytes, most_of=uploads)
    app.add_middleware(RequestTelemetry, telemetry=telemetry)
    add_handlers(app)
    for module in (submit, metrics, figures, models, conditions, jobs, artifacts, health, pages):
        app.include_router(module.router)
    add_contract(app)
    return app


async def _write_counts(telemetry: Telemetry) -> None:
    """Write the counts of this process to Redis every few seconds."""
    while True:
        await asyncio.sleep(COUNT_SECONDS)
        await run_in_threadpool(telemetry.write_noted)


app = create_app(get_settings())
