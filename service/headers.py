"""Request headers that the service interprets: preferences, accepted media types, entity tags and byte ranges."""

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
    "is_any",
    "listed_tags",
    "preferred_encoding",
    "preferred_type",
    "preferred_wait",
]

PreferHeader = Annotated[
    str | None,
    Header(
        alias="Prefer",
        description="`wait=SECONDS` (RFC 7240): wait up to that many seconds for the job to finish before answering.",
        examples=["wait=30"],
    ),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,255}$",
        description="A name of your own for this request: sending it again returns the same job, whatever its status.",
    ),
]
AcceptHeader = Annotated[str | None, Header(alias="Accept", include_in_schema=False)]
"""Left out of the schema: OpenAPI lists media types under responses, and forbids a parameter of this name."""
IfNoneMatch = Annotated[
    str | None,
    Header(
        alias="If-None-Match",
        description="Answer 304 if the entity tag is one of these.",
        examples=['"abc"'],
    ),
]

MEDIA_RANGE = re.compile(r"[\w!#$&^.+*-]+/[\w!#$&^.+*-]+")
CODING = re.compile(r"[\w!#$&^.+*-]+")
WEIGHT = re.compile(r"q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)")
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
QUOTED = r'"(?:[^"\\]|\\.)*(?:"|\\?$)'
"""A quoted string; without a closing quote, all that follows, so that matching takes linear time."""
ELEMENT = re.compile(rf'(?:[^",]|{QUOTED})+')
PARAMETER = re.compile(rf'(?:[^";]|{QUOTED})+')
"""What commas and semicolons separate; within quotes they separate nothing (RFC 9110, 5.6)."""


def preferred_wait(prefer: str | None, most: float) -> float | None:
    """The seconds of the preference `wait` (RFC 7240), at most `most`; None if the header has no such preference.

    Other preferences are ignored, as the RFC requires. Raises InvalidRequest for a `wait` that is not a whole number
    of seconds.
    """
    for preference in ELEMENT.findall(prefer or ""):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            seconds = value.strip().strip('"')
            if not re.fullmatch("[0-9]+", seconds):
                message = f"wait={ascii(seconds)[1:-1][:80]} is not a whole number of seconds; use wait=30, for example"
                raise InvalidRequest([Fault(location="header.prefer", message=message)])
            return min(float(seconds), most)
    return None


def preferred_type(accept: str | None, offered: Sequence[str]) -> str | None:
    """The offered media type with the greatest weight in an `Accept` header, or None if none is acceptable.

    Among equal weights, a type that is named comes before one that only a wildcard covers, and then the one that is
    offered first. Ranges that cannot be parsed are ignored, as are parameters; a header without any valid range
    accepts everything (RFC 9110, 12.5.1).
    """
    weights = _weights(accept or "", MEDIA_RANGE) or {"*/*": 1.0}
    best: tuple[float, int] = (0.0, 0)
    chosen = None
    for media_type in offered:
        ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
        rank = next(((weights[name], -place) for place, name in enumerate(ranges) if name in weights), (0.0, 0))
        if rank[0] > 0 and (chosen is None or rank > best):
            best, chosen = rank, media_type
    return chosen


def preferred_encoding(accept_encoding: str, offered: Sequence[str]) -> str:
    """The offered content coding with the greatest weight in an `Accept-Encoding` header, or `identity`.

    Among equal weights, the one that is offered first is chosen, and `identity` last (RFC 9110, 12.5.3).
    """
    weights = _weights(accept_encoding, CODING)
    weight, coding = max(
        ((weights.get(coding, weights.get("*", 0.0)), coding) for coding in offered), key=lambda pair: pair[0]
    )
    return coding if weight > 0 and weight >= weights.get("identity", 0.0) else "identity"


def _weights(header: str, names: re.Pattern[str]) -> dict[str, float]:
    """The weight, from 0 to 1, of each element of an `Accept` or `Accept-Encoding` header; `names` matches theirs."""
    weights: dict[str, float] = {}
    for part in ELEMENT.findall(header):
        name, *parameters = (piece.strip().lower() for piece in PARAMETER.findall(part))
        given = [WEIGHT.fullmatch(value) for value in parameters if value.startswith("q=")]
        if names.fullmatch(name) and all(given):
            weights[name] = float(given[0][1]) if given and given[0] else 1.0
    return weights


def etag_matches(etag: str, if_none_match: str | None) -> bool:
    """Whether an `If-None-Match` header lists this entity tag of content that exists (RFC 9110, 13.1.2).

    Tags are compared weakly, and `*` matches any.
    """
    if is_any(if_none_match):
        return True
    return etag.removeprefix("W/") in {tag.removeprefix("W/") for tag in listed_tags(if_none_match)}


def is_any(if_none_match: str | None) -> bool:
    """Whether an `If-None-Match` header is `*`, which any content matches that exists."""
    return (if_none_match or "").strip() == "*"


def listed_tags(if_none_match: str | None) -> list[str]:
    """The entity tags of an `If-None-Match` header, which may have commas within their quotes."""
    return ENTITY_TAG.findall(if_none_match or "")


class Unsatisfiable(Exception):
    """A range that lies outside the content."""


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The first byte of a `Range` header and the one after its last; None for the whole content.

    A header that is malformed, or has several ranges, is ignored, as RFC 9110 (14.2) allows.
    Raises Unsatisfiable for a range that begins after the end.
    """
    match = RANGE.fullmatch((header or "").strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first == "":  # a suffix: the last so many bytes
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= stop:
        raise Unsatisfiable
    return start, stop
