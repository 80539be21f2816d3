"""The clients: all that the service has, with the same methods at once (`Client`) and awaited (`AsyncClient`)."""

from __future__ import annotations

from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel

from tailprune_client.core import Session
from tailprune_client.drivers import Async, AsyncDriver, Driver, Sync
from tailprune_client.effects import CONNECT_SECONDS
from tailprune_client.jobs import AsyncJob, Job, Started
from tailprune_client.methods import ClientMethods
from tailprune_client.progress import Progress, shown_by

__all__ = ["AsyncClient", "Client"]

TIMEOUT_SECONDS = 90.0
"""GET /metrics waits for its result."""
PATIENCE_SECONDS = 60.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=20)
"""As many connections as jobs are followed: one that is followed has its own."""

R = TypeVar("R", bound=BaseModel)


class Client(ClientMethods, Sync):
    """A running service. It is a context manager, which closes its connections at the end.

    url: its address, with its path prefix if it has one; by default TAILPRUNE_URL, or else http://127.0.0.1:8000.
    key: of a service that has keys, sent as `Authorization: Bearer`; by default TAILPRUNE_KEY, if that is set.
    timeout: the seconds that an answer may take.
    patience: the seconds for which requests are repeated while the service cannot answer: where it has too many jobs
        (429) or is unavailable (503), after the time that it names; and where the connection is lost.
    progress: whether jobs that are waited for have a progress bar, by tqdm if that is installed; by default in
        notebooks and terminals. Or a function that shows progress in another way.
    transport: a transport of httpx, in place of its own.

    Methods raise ProblemError, by its type; ServiceAway; UnexpectedAnswer.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        *,
        patience: float = PATIENCE_SECONDS,
        progress: bool | Progress | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._session, self._progress = Session(url, key, timeout, patience), shown_by(progress)
        options: dict[str, Any] = {} if transport is None else {"transport": transport}
        self._driver = Driver(httpx.Client(**_options(self._session), **options))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._driver.http.close()

    def _job(self, started: Started[R]) -> Job[R]:
        return Job(self._driver, self._session, started, self._progress)


class AsyncClient(ClientMethods, Async):
    """A running service, with the methods of `Client`, which are awaited or, as `jobs`, iterated over by `async for`.

    Its parameters are those of `Client`; there are no progress bars by default.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        *,
        patience: float = PATIENCE_SECONDS,
        progress: bool | Progress = False,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._session, self._progress = Session(url, key, timeout, patience), shown_by(progress)
        options: dict[str, Any] = {} if transport is None else {"transport": transport}
        self._driver = AsyncDriver(httpx.AsyncClient(**_options(self._session), **options))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._driver.http.aclose()

    def _job(self, started: Started[R]) -> AsyncJob[R]:
        return AsyncJob(self._driver, self._session, started, self._progress)


def _options(session: Session) -> dict[str, Any]:
    """The arguments of a client of httpx. On loopback, a proxy from the environment does not apply."""
    return {
        "base_url": session.address,
        "headers": session.headers,
        "timeout": httpx.Timeout(CONNECT_SECONDS, read=session.timeout, write=session.timeout),
        "trust_env": session.address.host not in LOOPBACK,
        "limits": LIMITS,
    }
