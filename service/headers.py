"""Request headers with a meaning of their own: preferences, entity tags, ranges."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from fastapi import Header

from jobs.problems import Fault, InvalidRequest

__all__ = [
    "AcceptHeader",
    "IdempotencyKey",
    "IfNoneMatch",
    "PreferHeader",
    "Unsatisfiable",
    "byte_range",
    "etag_matches",
    "preferred_type",
    "preferred_wait",
]

PreferHeader = Annotated[
    str | None,
    Header(
        alias="Prefer",
        description="`wait=SECONDS` (RFC 7240): answer when the job has finished, or after so many seconds.",
        examples=["wait=30"],
    ),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,255}$",
        description="A client's own name for this request: sent again, it is the same job, whatever became of it.",
    ),
]
AcceptHeader = Annotated[str | None, Header(alias="Accept", include_in_schema=False)]
"""OpenAPI says by the content of answers what may be accepted, and forbids to name this header."""
IfNoneMatch = Annotated[
    str | None,
    Header(
        alias="If-None-Match",
        description="Answer 304 where the entity tag is one of these.",
        examples=['"abc"'],
    ),
]

MEDIA_RANGE = re.compile(r"[\w!#$&^.+*-]+/[\w!#$&^.+*-]+")
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def preferred_wait(prefer: str | None, most: float) -> float | None:
    """The seconds that `Prefer: wait` asks for, at most `most`; None where it asks for none.

    Preferences of other names are left aside, as RFC 7240 says. Raises InvalidRequest for a `wait` that is
    not a whole number of seconds.
    """
    for preference in re.split("[,;]", prefer or ""):
        name, _, value = preference.partition("=")
        if name.strip().lower() == "wait":
            seconds = value.strip().strip('"')
            if not re.fullmatch("[0-9]{1,9}", seconds):
                message = f"wait={ascii(seconds)[1:-1][:80]} is not a whole number of seconds; say wait=30"
                raise InvalidRequest([Fault(location="header.prefer", message=message)])
            return min(float(seconds), most)
    return None


def preferred_type(accept: str | None, offered: Sequence[str]) -> str | None:
    """The media type that an `Accept` likes best of those offered, or None where it takes none of them.

    Of types that it likes alike, one that it names goes before one that it takes under a `*`, and then the one that
    is offered first. What cannot be read of the header is left aside; without any, all are liked (RFC 9110, 12.5.1).
    """
    liked = _media_ranges(accept or "*/*")
    best: tuple[float, int] = (0.0, 0)
    chosen = None
    for kind in offered:
        ways = (kind, f"{kind.partition('/')[0]}/*", "*/*")
        named = next(((liked[way], -place) for place, way in enumerate(ways) if way in liked), (0.0, 0))
        if named[0] > 0 and (chosen is None or named > best):
            best, chosen = named, kind
    return chosen


def _media_ranges(accept: str) -> dict[str, float]:
    """How much each range of an `Accept` is liked, from 0 to 1. All are, where it names none that can be read."""
    liked: dict[str, float] = {}
    for part in accept.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weights = [value.removeprefix("q=") for value in parameters if value.startswith("q=")]
        if MEDIA_RANGE.fullmatch(kind) and all(re.fullmatch(r"[01](\.\d{0,3})?", weight) for weight in weights):
            liked[kind] = float(weights[0]) if weights else 1.0
    return liked or {"*/*": 1.0}


def etag_matches(etag: str, if_none_match: str | None) -> bool:
    """Whether an `If-None-Match` names this entity tag, by the weak comparison."""
    named = {tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")}
    return "*" in named or etag.removeprefix("W/") in named


class Unsatisfiable(Exception):
    """A range that lies outside."""


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last, of a `Range` with one range; None for the whole.

    A header that is malformed, or names several ranges, asks for the whole, as RFC 9110 allows.
    Raises Unsatisfiable for a range that begins after the end.
    """
    match = RANGE.fullmatch((header or "").strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first == "":  # the last so many bytes
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= stop:
        raise Unsatisfiable
    return start, stop
