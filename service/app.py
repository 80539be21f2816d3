"""The application, as `service.server` and any other server of ASGI runs it."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from types import FrameType

import redis
import structlog
from anyio import CapacityLimiter
from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline
from prometheus_client import CollectorRegistry
from starlette.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute

from jobs.logging import configure_logging
from jobs.registry.added import AddedStore
from jobs.registry.catalogue import Catalogue
from jobs.registry.compacted import CompactedStore
from jobs.registry.evaluation import EvaluationAssets
from jobs.registry.models import Registry
from jobs.settings import Settings, get_settings, listed
from jobs.startup import NotYet, StartError, await_servers, check_folder, check_servers, ending_on_reasons
from jobs.storage.artifacts import ArtifactStore
from jobs.storage.uploads import ConditionStore
from jobs.store.allowances import Allowances
from jobs.store.connection import Breaker, connect_async, connect_guarded
from jobs.store.events import Events
from jobs.store.heartbeats import WorkerRegistry
from jobs.store.jobs import JobStore
from jobs.store.leases import LeaseStore
from jobs.store.telemetry import Telemetry
from jobs.tracing import configure_tracing
from jobs.webhooks.hosts import host_rules
from service.auth import Access
from service.checks import check_request
from service.contract import DESCRIPTION, TAGS, add_contract
from service.deps import AppState
from service.keys import KeyFile, Keys
from service.limits import Limits
from service.middleware import (
    BodyChecks,
    Compression,
    HeadAsGet,
    ListHeaders,
    RequestTelemetry,
    RootPath,
    StartupReason,
)
from service.problems import add_handlers
from service.response_cache import ResponseCache
from service.routes import (
    anatomy,
    artifacts,
    attribution,
    compact,
    conditions,
    events,
    figures,
    health,
    jobs,
    metrics,
    models,
    over_time,
    pages,
    submit,
    vectors,
    webhooks,
)
from service.sites import SecureHeaders, Sites
from service.telemetry import FleetCollector

__all__ = ["app", "create_app"]

log = structlog.get_logger(__name__)

CONTRACT_VERSION = "1.0"
"""The version of `openapi.yaml`, not of the code."""
ANSWER_SECONDS = 2.0
"""How long an answer of Redis may take."""
READING_SECONDS = 10.0
"""The same for events, which are read in the event loop: an answer may be there and wait for the loop."""
GLANCE_SECONDS = 0.5
"""The same for probes and telemetry: Kubernetes waits a second for a probe."""
PROBES = 4
"""How many probes ask Redis at a time; while it does not answer, further ones are answered at once."""
COUNT_SECONDS = 5.0
"""How late counts may be written to Redis for answers that came from the memory of this process."""
EXPOSED = (
    "ETag", "Location", "Preference-Applied", "Retry-After", "X-Request-ID", "Accept-Ranges", "Content-Range",
    "RateLimit", "RateLimit-Policy", "WWW-Authenticate",
)  # fmt: skip
"""The headers that pages of other sites may read, if they may use the service."""


def create_app(settings: Settings) -> FastAPI:
    """The application with these settings. It connects to Redis on the first request."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        configure_logging(settings, "uvicorn", "uvicorn.error")
        logging.getLogger("uvicorn.access").disabled = True  # RequestTelemetry logs each request
        configure_tracing(settings.traces, "tailprune-service")
        check_folder(settings.data_dir, "TAILPRUNE_DATA_DIR")
        _raise_descriptor_limit()
        breaker = Breaker(settings.redis_url)
        client = connect_guarded(settings, breaker, ANSWER_SECONDS)
        quick = connect_guarded(settings, breaker, GLANCE_SECONDS, retries=0)
        reading = connect_async(settings, breaker, READING_SECONDS)
        counts = Telemetry(quick)
        store, glance = JobStore(client, settings, telemetry=counts), JobStore(quick, settings, telemetry=counts)
        workers, events = (
            WorkerRegistry(quick, settings.sweep_seconds),
            Events(reading, breaker, settings.max_followers),
        )
        telemetry = CollectorRegistry()
        callers = WorkerRegistry(quick, settings.sweep_seconds, "callers")
        telemetry.register(FleetCollector(glance, workers, callers))
        registry = Registry.read(settings.registry, settings.hub_cache)
        models = Catalogue(
            registry, AddedStore(client), CompactedStore(client), store.artifacts, settings, fetches=False
        )
        limits = Limits(Allowances(quick), settings.rate, settings.max_concurrent)
        app.state.app = AppState(
            settings=settings,
            models=models,
            evaluation=EvaluationAssets.from_registry(registry),
            store=store,
            conditions=ConditionStore(store.artifacts, client),
            parsing=CapacityLimiter(1),
            intake=asyncio.Semaphore(1),
            glance=glance,
            workers=workers,
            events=events,
            probes=CapacityLimiter(PROBES),
            telemetry=telemetry,
            webhook_hosts=host_rules(settings.webhook_hosts),
            answers=ResponseCache(),
            keys=Keys(KeyFile(settings.keys_file)),
            limits=limits,
        )
        async with _servers_checked(settings, store.artifacts):
            leases = LeaseStore(client, settings, artifacts=store.artifacts)
            hidden = run_in_threadpool(models.warn_of_hidden)
            work = (_write_counts(counts), events.run(), _recover_lost(leases), limits.run(), hidden)
            tasks = [asyncio.create_task(each) for each in work]
            with _at_exit_signal(events.stop):
                yield
            events.stop()  # redis-py may swallow that its task is cancelled
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        counts.write_noted()
        await reading.aclose()
        breaker.close()
        quick.close()
        client.close()

    app = FastAPIOffline(  # /docs without a CDN: the service often runs without access to the internet
        title="tailprune",
        version=CONTRACT_VERSION,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        servers=[{"url": "/"}],
        lifespan=lifespan,
        webhooks=webhooks.router,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        dependencies=[Depends(check_request)],
    )
    uploads = {("POST", "/conditions"): settings.max_conditions_bytes}
    app.add_middleware(BodyChecks, most=settings.max_body_bytes, most_of=uploads)
    app.add_middleware(Compression)
    app.add_middleware(HeadAsGet)
    app.add_middleware(ListHeaders)
    app.add_middleware(Access)
    origins = listed(settings.cors_origins)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=EXPOSED,
            max_age=3600,
        )
    app.add_middleware(Sites, hosts=listed(settings.allowed_hosts), origins=origins)
    app.add_middleware(SecureHeaders, shared=bool(origins))
    app.add_middleware(RootPath, prefix=settings.root_path)
    app.add_middleware(RequestTelemetry)
    app.add_middleware(StartupReason)  # the last is the first to see a request
    add_handlers(app)
    modules = (
        submit, compact, metrics, vectors, over_time, attribution, figures, models, anatomy, conditions, jobs, events,
        artifacts, health, pages,
    )  # fmt: skip
    routers = [*(module.router for module in modules), *([pages.ui_router] if settings.ui else [])]
    for router in routers:
        app.include_router(router)
    add_contract(app)
    _check_prefix(settings.root_path, [*app.routes, *(route for router in routers for route in router.routes)])
    return app


def _raise_descriptor_limit() -> None:
    """Allow as many open files as this process may have: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS names no limit, and has one
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _check_prefix(prefix: str, routes: Iterable[BaseRoute]) -> None:
    """Raise StartError for a prefix that is also a path of a route: whether a proxy removed it could not be told."""
    for route in routes:
        path = getattr(route, "path", "")
        if prefix and f"{path}/".startswith(f"{prefix}/"):
            raise StartError(
                f"TAILPRUNE_ROOT_PATH={prefix} is also where the service has its own {path}; publish it under another "
                "prefix, such as /tailprune"
            )


@contextmanager
def _at_exit_signal(stop: Callable[[], object]) -> Iterator[None]:
    """Call `stop` in the event loop when the process is asked to end, before the server's own handler of the signal.

    A server waits for the responses under way before it ends the lifespan: a stream of events would hold it for hours.
    """
    loop = asyncio.get_running_loop()
    handlers: dict[signal.Signals, Callable[[int, FrameType | None], object]] = {}
    if threading.current_thread() is threading.main_thread():  # others receive no signals
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(handler := signal.getsignal(number)):
                handlers[number] = handler

    def on_signal(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stop)
        handlers[signal.Signals(number)](number, frame)

    for number in handlers:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, before in handlers.items():
            signal.signal(number, before)


async def _write_counts(telemetry: Telemetry) -> None:
    """Write the counts of this process to Redis every few seconds."""
    while True:
        await asyncio.sleep(COUNT_SECONDS)
        await run_in_threadpool(telemetry.write_noted)


async def _recover_lost(leases: LeaseStore) -> None:
    """Queue the jobs of lost workers again, also while no worker lives for long enough to see that they are lost."""
    while True:
        await asyncio.sleep(leases.look_seconds)
        try:
            await run_in_threadpool(leases.recover)
        except redis.RedisError as error:
            log.warning("leases cannot be read; they are judged anew", reason=str(error))


@asynccontextmanager
async def _servers_checked(settings: Settings, artifacts: ArtifactStore) -> AsyncIterator[None]:
    """Check Redis, the broker and the artifacts: now, and where they cannot be used yet, until they can.

    Raises StartError now. Where it is found later that the process should not have started, the process ends.
    """
    over = threading.Event()

    async def check_later() -> None:
        try:
            await run_in_threadpool(await_servers, settings, artifacts, log.warning, over.is_set)
        except StartError as error:
            log.error(str(error))
            signal.raise_signal(signal.SIGTERM)

    later: asyncio.Task[None] | None = None
    try:
        await run_in_threadpool(check_servers, settings, artifacts)
    except NotYet as error:
        log.warning(str(error))
        later = asyncio.create_task(check_later())
    try:
        yield
    finally:
        over.set()
        if later is not None:
            await later


with ending_on_reasons():
    app = create_app(get_settings())
