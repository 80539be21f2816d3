"""What operations are made of: what they yield to have it done, and what they are sent for it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

import httpx

__all__ = [
    "CONNECT_SECONDS", "Call", "Close", "Do", "Effect", "Item", "Next", "Open", "Opened", "Operation", "Pause", "Send",
    "Stream",
]  # fmt: skip

CONNECT_SECONDS = 10.0

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """A request, as httpx takes it.

    path: below the address of the service, each part of it encoded.
    query: values, or lists of them; without those that are None.
    """

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | str | None = None
    timeout: float | None = None
    """The seconds that an answer, or the next piece of it, may take; None for the client's own."""

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of httpx."""
        timeout = None if self.timeout is None else httpx.Timeout(CONNECT_SECONDS, read=self.timeout)
        given = {"params": _query(self.query), "headers": {**self.headers}, "content": self.content, "timeout": timeout}
        return {name: value for name, value in given.items() if value}


@dataclass
class Opened(Generic[T]):
    """A response that is being received, and the iterator of its items.

    It is closed at the end of the items, on an error, by Close, and at the latest at the end of the operation.
    """

    response: httpx.Response
    items: Any


@dataclass(frozen=True)
class Send:
    """Send a request: its response, which was read. Raises httpx.TransportError."""

    call: Call


@dataclass(frozen=True)
class Open:
    """Send a request, whose response is read piece by piece, as events or as bytes: an Opened."""

    call: Call
    items: Literal["events", "bytes"]


@dataclass(frozen=True)
class Next:
    """The next item of what was opened; None at its end. Raises httpx.TransportError."""

    opened: Opened[Any]


@dataclass(frozen=True)
class Close:
    """Receive no more of what was opened."""

    opened: Opened[Any]


@dataclass(frozen=True)
class Pause:
    """Wait for so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Do:
    """Call a function that reads or writes files: what it returns."""

    function: Callable[[], Any]


@dataclass(frozen=True)
class Item(Generic[T]):
    """The next item of a stream."""

    value: T


Effect = Send | Open | Next | Close | Pause | Do
Operation = Generator[Effect, Any, T]
Stream = Generator[Effect | Item[T], Any, None]


def _query(query: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _parameter(value) for name, value in query.items() if value is not None}


def _parameter(value: Any) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    return list(value) if isinstance(value, tuple | range | set) else value
