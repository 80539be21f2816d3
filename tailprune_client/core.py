"""What both clients share: how a request is sent, repeated and answered, without any input or output of its own.

An operation is a generator. It yields what has to be done (`Send`, `Pause`, ...), is sent what came of it, and returns
its result; a `Stream` also yields the items that it is made of. `tailprune_client.drivers` does what is yielded, at
once or awaited: all else is written once, here and in the modules that use this one.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from tailprune.spec.prune import PruneSpec, Schedule
from tailprune_client.answers import failure, without_password
from tailprune_client.effects import Call, Open, Opened, Operation, Pause, Send
from tailprune_client.errors import DEFAULT_URL, BadAddress, ProblemError, ServiceAway, TailpruneError

__all__ = [
    "AWAY", "DEFAULT_URL", "KEY_VARIABLE", "LONGEST_PAUSE", "URL_VARIABLE", "Patience", "Session", "ask", "json_of",
    "path_of", "pause_of", "prefer", "receive", "refusal", "retry_after",
]  # fmt: skip

URL_VARIABLE = "TAILPRUNE_URL"
KEY_VARIABLE = "TAILPRUNE_KEY"
AWAY = (429, 502, 503, 504)
"""The statuses of a service, or of a proxy before it, that cannot answer just now."""
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 10.0
"""The pauses between two attempts where the service names none, in seconds: each is twice the one before."""
JITTER = 0.25
"""By how much of itself a pause is lengthened at random, so that not all clients come back at the same moment."""


class Session:
    """An address, and what every request to it has.

    url: of the service, with its path prefix if it has one; by default TAILPRUNE_URL, or else DEFAULT_URL.
    key: sent as `Authorization: Bearer`; by default TAILPRUNE_KEY, if that is set.
    timeout: the seconds that an answer may take.
    patience: the seconds for which a request is repeated that a service cannot answer just now.

    Raises BadAddress, and ValueError for a key that cannot be sent.
    """

    def __init__(self, url: str | None, key: str | None, timeout: float, patience: float) -> None:
        given = url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
        self.url = without_password(given)
        """The address as it is shown, without the user and password that it may have."""
        try:
            self.address = httpx.URL(given)
        except httpx.InvalidURL as error:
            if "@" in given:  # whatever is before it may be a password, wherever it was cut
                raise BadAddress(f"...@{given.rpartition('@')[2]}") from None
            raise BadAddress(self.url, f" ({error})") from None
        if self.address.scheme not in ("http", "https") or not self.address.host:
            raise BadAddress(self.url)
        key = (os.environ.get(KEY_VARIABLE, "") if key is None else key).strip()
        if not (key.isascii() and key.isprintable()):
            raise ValueError(f"the key, or {KEY_VARIABLE}, has characters that cannot be sent: use printable ASCII")
        self.headers = {"User-Agent": f"tailprune/{version('tailprune')}"}
        if key:
            self.headers["Authorization"] = f"Bearer {key}"
        self.timeout, self.patience = timeout, patience
        self.following_patience = patience
        """The seconds for which a service is waited for that stops answering while a job is followed."""
        self.heard = False
        """Whether the service has ever answered: a connection that is refused before that is not waited for."""

    def away(self, error: httpx.TransportError) -> ServiceAway:
        """What a failed connection means."""
        return ServiceAway(self.url, str(error) or type(error).__name__)


class Patience:
    """How long a service is waited for that cannot answer just now.

    seconds: so long after the first attempt that failed, or after `begun` if that is given.
    """

    def __init__(self, seconds: float, begun: float | None = None) -> None:
        self._seconds, self._since, self._attempt = seconds, begun, 0

    def answered(self) -> None:
        """The service has answered: the next attempt that fails is a first one."""
        self._since, self._attempt = None, 0

    def pause(self, error: TailpruneError, usual: float | None = None) -> float:
        """The seconds until the next attempt after one that failed. Raises its error where that would be too late.

        usual: the pause where the service names none; by default longer and longer ones.
        """
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        seconds = pause_of(self._attempt, usual if error.retry_after is None else error.retry_after)
        if now - self._since + seconds > self._seconds:
            raise error
        self._attempt += 1
        return seconds


def path_of(*parts: str) -> str:
    """A path of these parts, whatever is in them. Raises ValueError for one that would lead to another path."""
    for part in parts:
        if part in ("", ".", ".."):
            raise ValueError(f"{part!r} is no name or id")
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def json_of(body: Any) -> str:
    """A body as JSON: of JSON data, models, dataclasses and arrays.

    As Python writes JSON: with NaN, and with what is no UTF-8, which the service refuses by the names of fields.
    """
    return json.dumps(body, default=_plain)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # an array, or a number of NumPy or torch
        return value.tolist()
    if isinstance(value, range | set | frozenset):
        return list(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, PruneSpec | Schedule):  # without None, which an older service may not know as a field
        return {name: each for name, each in vars(value).items() if each is not None}
    return to_jsonable_python(value, exclude_none=True)


def prefer(wait: float | None) -> dict[str, str]:
    """The header by which an answer waits for a job for so many seconds; none for None."""
    return {} if wait is None else {"Prefer": f"wait={round(wait)}"}


def ask(
    session: Session, call: Call, *, patience: float | None = None, done: Mapping[int, str] | None = None
) -> Operation[httpx.Response]:
    """Send a request until it is answered, and return its answer, which has no error.

    patience: the seconds for which it is repeated while it cannot be answered; by default those of the session.
    done: of a request that changes something and is repeated after its connection was lost: the statuses of problems
        by which the first one is known to have arrived, with the type of each; none by default. Such an answer is
        returned too.

    Raises ProblemError, ServiceAway and UnexpectedAnswer.
    """
    answer: httpx.Response = yield from _answered(session, Send(call), patience, done or {})
    return answer


def receive(session: Session, call: Call, *, patience: float | None = None) -> Operation[Opened[bytes]]:
    """Send a request as `ask` does; its answer is read piece by piece."""
    opened: Opened[bytes] = yield from _answered(session, Open(call, "bytes"), patience, {})
    return opened


def _answered(
    session: Session, sending: Send | Open, patience: float | None, done: Mapping[int, str]
) -> Operation[Any]:
    waiting = Patience(session.patience if patience is None else patience, time.monotonic())
    lost = False
    while True:
        error: TailpruneError
        try:
            got = yield sending
        except httpx.TransportError as broken:
            error = session.away(broken)
            error.__cause__ = broken
            passes = session.heard or not isinstance(broken, httpx.ConnectError | httpx.ConnectTimeout)
            passes = passes and not isinstance(broken, httpx.LocalProtocolError | httpx.UnsupportedProtocol)
            lost = lost or not isinstance(broken, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
        else:
            session.heard = True
            answer: httpx.Response = got.response if isinstance(got, Opened) else got
            if not answer.is_error and not answer.has_redirect_location:
                return got
            error = refusal(session, answer)
            if lost and isinstance(error, ProblemError) and done.get(answer.status_code) == error.type:
                return got
            lost = lost or answer.status_code in (502, 504)  # of a proxy, which may have passed the request on
            passes = answer.status_code in AWAY
        if not passes:
            raise error
        yield Pause(waiting.pause(error))


def refusal(session: Session, answer: httpx.Response) -> TailpruneError:
    """The error of an answer that is none, with the time after which to ask again."""
    error: TailpruneError = failure(answer)
    if answer.status_code in AWAY and not isinstance(error, ProblemError):  # of a proxy
        error = ServiceAway(session.url, f"{answer.status_code} {answer.reason_phrase}")
    error.retry_after = retry_after(answer)
    return error


def retry_after(answer: httpx.Response) -> float | None:
    """The seconds that the service, or a proxy before it, asks to wait, if it does."""
    after = answer.headers.get("Retry-After", "")
    if after.isdecimal():
        return float(after)
    try:
        moment = parsedate_to_datetime(after)
    except ValueError:
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def pause_of(attempt: int, asked: float | None) -> float:
    """The pause after an attempt, counted from 0. asked: the one that the service asks for."""
    seconds = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(attempt, 10)) if asked is None else max(FIRST_PAUSE, asked)
    return seconds * (1 + JITTER * random.random())
