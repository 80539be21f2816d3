"""How often a key or an address may ask, and how much at a time, over all processes of the service.

Redis has the counts. A process takes permits from it in batches, and hands them out from its memory, so that few
requests wait for Redis. Within a window of a minute the processes together never answer more than the rate; each of
them may hold permits of a batch that it does not use, a 120th of the rate at most, which the others lack. Of requests
at a time there are never more than the limit; what a process no longer uses, the others have within a second.

While Redis does not answer, each process keeps to the limits by itself.
"""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import redis
import structlog
from anyio import CapacityLimiter, to_thread

from jobs.store.allowances import Allowances, Taken
from service.problems import ProblemError

__all__ = ["Limits"]

WINDOW_SECONDS = 60
BATCHES = 120
"""In how many batches a process takes the permits of a window."""
SHARE = 10
"""A process takes a tenth of the requests that may be under way at a time."""
THREADS = 4
"""How many calls of Redis for limits are made at a time."""
TICK_SECONDS = 1.0
HOLD_SECONDS = 15
"""How long the requests of a process that was killed count as under way."""
RENEWED_TICKS = 4
FULL_SECONDS = 0.1
"""How long no more slots are asked for once there were none."""
WRONG_KEYS = 10
"""How many wrong keys of an address are answered and logged one by one within a minute."""
SLOW_SECONDS = 1.0
"""How long the answer to each further one takes."""
MOST_SLOWED = 256
"""How many of them wait at a time; more are refused at once."""

Answer = TypeVar("Answer")

log = structlog.get_logger(__name__)


@dataclass
class _Subject:
    """What this process holds for one key or address."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while Redis is asked, so that all who wait for permits wait for one answer."""
    permits: int = 0
    rest: int = 0
    """How many permits of the window nobody has taken, when Redis was asked last."""
    until: float = 0.0
    """When the window ends, by the monotonic clock."""
    slots: int = 0
    used: int = 0
    """The slots, and how many of them are of requests under way."""
    full_until: float = 0.0
    """Until when Redis is not asked for more slots, since there were none a moment ago."""


class Limits:
    """The limits of one process of the service.

    allowances: the counts in Redis.
    rate: the most requests a minute of a subject, a key or an address; None for any.
    concurrent: the most requests of a subject at a time; None for any.
    """

    def __init__(self, allowances: Allowances, rate: int | None, concurrent: int | None) -> None:
        self._allowances = allowances
        self._rate, self._concurrent = rate, concurrent
        self._policy = b'"requests";q=%d;w=%d' % (rate or 0, WINDOW_SECONDS)
        self._process = uuid.uuid4().hex
        self._subjects: dict[str, _Subject] = {}
        self._wrong: dict[str, _Subject] = {}
        self._slowed = 0
        self._threads = CapacityLimiter(THREADS)
        self.active = rate is not None or concurrent is not None
        """Whether there is any limit."""

    @asynccontextmanager
    async def admitted(self, subject: str) -> AsyncIterator[list[tuple[bytes, bytes]]]:
        """Admit a request, and count it as under way; what its response tells of the rate. Raises ProblemError."""
        held = self._subjects.setdefault(subject, _Subject())
        if self._rate is not None and not await self._take(held, subject, self._rate, self._rate // BATCHES):
            raise self._too_often(held)
        if self._concurrent is None:
            yield self._headers(held)
            return
        if held.used >= held.slots:
            await self._hold_more(held, subject, self._concurrent)
        if held.used >= held.slots:
            detail = f"{self._concurrent} requests of yours are under way, the most at a time; try again after one"
            raise ProblemError("too-many-requests", detail, {"Retry-After": "1", **_named(self._headers(held))})
        held.used += 1
        try:
            yield self._headers(held)
        finally:
            held.used -= 1

    async def note_wrong_key(self, address: str) -> None:
        """Log that an address sent a wrong key. After several its requests are slowed, and raise ProblemError."""
        held = self._wrong.setdefault(address, _Subject())
        if await self._take(held, f"wrong keys {address}", WRONG_KEYS, 1):
            if held.rest == 0:
                log.warning("many wrong keys: further ones are slowed, and not logged for a minute", address=address)
            else:
                log.warning("wrong key", address=address)
            return
        if self._slowed < MOST_SLOWED:
            self._slowed += 1
            try:
                await asyncio.sleep(SLOW_SECONDS)
            finally:
                self._slowed -= 1
        detail = f"your address has sent more than {WRONG_KEYS} wrong keys; try again later, with a right one at once"
        raise ProblemError("too-many-requests", detail, {"Retry-After": str(_seconds(held.until))})

    async def run(self) -> None:
        """Give back what is not used, and renew what is, until it is cancelled."""
        ticks = 0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            ticks += 1
            now = time.monotonic()
            for subject, held in list(self._subjects.items()):
                if held.slots > held.used or (held.used and ticks % RENEWED_TICKS == 0):
                    await self._hold(held, subject)
                if not held.slots and not held.used and held.until < now:
                    self._subjects.pop(subject, None)
            for address, held in list(self._wrong.items()):
                if held.until < now:
                    self._wrong.pop(address, None)

    async def _take(self, held: _Subject, subject: str, most: int, batch: int) -> bool:
        """Take one of the permits of a window; whether there was one."""
        if not _is_there(held):
            async with held.lock:
                if not _is_there(held) and (held.rest > 0 or held.until <= time.monotonic()):
                    wanted = max(1, batch)
                    taken = await self._asked(
                        lambda: self._allowances.take(subject, wanted, most, WINDOW_SECONDS),
                        Taken(most, 0, WINDOW_SECONDS),
                    )
                    held.permits, held.rest = taken.granted, taken.rest
                    held.until = time.monotonic() + taken.seconds
        if not _is_there(held):
            return False
        held.permits -= 1
        return True

    async def _hold_more(self, held: _Subject, subject: str, most: int) -> None:
        async with held.lock:
            if held.used < held.slots or time.monotonic() < held.full_until:
                return
            wanted = min(most, held.used + max(1, most // SHARE))
            held.slots = await self._asked(
                lambda: self._allowances.hold(subject, self._process, wanted, most, HOLD_SECONDS), wanted
            )
            if held.used >= held.slots:
                held.full_until = time.monotonic() + FULL_SECONDS

    async def _hold(self, held: _Subject, subject: str) -> None:
        """Hold as many slots as are used."""
        assert self._concurrent is not None
        most = self._concurrent
        async with held.lock:
            wanted = held.slots = held.used  # what begins meanwhile waits for the lock
            await self._asked(lambda: self._allowances.hold(subject, self._process, wanted, most, HOLD_SECONDS), wanted)

    async def _asked(self, call: Callable[[], Answer], otherwise: Answer) -> Answer:
        """What Redis answers, or else what holds while it does not."""
        try:
            return await to_thread.run_sync(call, limiter=self._threads)
        except redis.RedisError:
            return otherwise

    def _headers(self, held: _Subject) -> list[tuple[bytes, bytes]]:
        """What a response says of the rate (draft-ietf-httpapi-ratelimit-headers)."""
        if self._rate is None:
            return []
        left, seconds = held.permits + held.rest, _seconds(held.until)
        return [
            (b"ratelimit-policy", self._policy),
            (b"ratelimit", b'"requests";r=%d;t=%d' % (left, seconds)),
        ]

    def _too_often(self, held: _Subject) -> ProblemError:
        seconds = _seconds(held.until)
        detail = f"{self._rate} requests of yours within a minute are the most; try again in {seconds} seconds"
        return ProblemError("too-many-requests", detail, {"Retry-After": str(seconds), **_named(self._headers(held))})


def _is_there(held: _Subject) -> bool:
    return held.permits > 0 and held.until > time.monotonic()


def _seconds(until: float) -> int:
    return max(1, math.ceil(until - time.monotonic()))


def _named(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in headers}
