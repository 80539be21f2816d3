"""Connections to Redis, with one set of time limits: a server that is gone is noticed in seconds.

What counts as unavailable is said here too, for those who try again and those who tell their clients to.
"""

from __future__ import annotations

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from jobs.settings import Settings

__all__ = ["connect", "connect_async", "is_unavailable", "text"]

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0
RETRIES = 2
HEALTH_CHECK_SECONDS = 30

UNAVAILABLE = (redis.ConnectionError, redis.TimeoutError, redis.OutOfMemoryError, redis.ReadOnlyError)
REFUSALS = ("MISCONF", "NOREPLICAS")
"""Codes of errors for which redis-py has no class: the disk cannot be written, replicas are missing."""


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
    """A client for following events; it connects on first use."""
    return redis.asyncio.Redis.from_url(
        settings.redis_url,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        health_check_interval=HEALTH_CHECK_SECONDS,
        retry=AsyncRetry(ExponentialBackoff(cap=0.5, base=0.05), RETRIES),
    )


def is_unavailable(error: Exception) -> bool:
    """Whether Redis is gone, or takes no writes for now (memory or disk full, a replica): later may do."""
    return isinstance(error, UNAVAILABLE) or (
        isinstance(error, redis.ResponseError) and str(error).startswith(REFUSALS)
    )


def text(answer: bytes | str) -> str:
    """An answer as text; redis-py leaves open which of the two it is."""
    return answer.decode() if isinstance(answer, bytes) else answer
