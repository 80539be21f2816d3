"""What is refused of any request before its route: unknown or repeated parameters, and bodies that are not JSON."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from itertools import islice
from typing import Any, ClassVar, get_args, get_origin

import anyio
from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.responses import Response
from fastapi.routing import APIRoute

from jobs.problems import Fault, InvalidRequest
from service.problems import MOST_SHOWN, ProblemError

__all__ = ["JsonRequest", "JsonRoute", "check_request"]

MOST_FAULTS = 20
"""The most parameters that a response complains about: a query may have thousands."""
MOST_FIELDS = 100
"""The most fields in one object of a body; no object of a request has more than 30."""
MOST_ENTRIES = 20_000
"""The most objects and fields in a body. A study of 1024 prunes, each with a schedule, has about 10,000."""
MOST_LISTS = 50_000
"""The most opening square brackets in a body, those in texts included; a request has about a hundred lists."""
PARSED_AT_ONCE_BYTES = 2**14
"""A larger body is parsed in a thread, so that other requests are answered meanwhile."""
HINTS = {
    "": "it has none",
    "application/x-www-form-urlencoded": "it is application/x-www-form-urlencoded, which curl -d sends by itself",
    "multipart/form-data": "it is multipart/form-data, a form; send the fields as one JSON object",
}
"""What a request has in place of the right `Content-Type`, for the frequent mistakes."""


async def check_request(request: Request) -> None:
    """Raise InvalidRequest or ProblemError for what a route would ignore or misunderstand: a dependency of all routes.

    What a route takes is read from its signature and those of its dependencies. Pages of the reference take anything.
    """
    route = request.scope["route"]
    if not isinstance(route, APIRoute) or not route.include_in_schema:
        return
    dependants = list(_with_dependencies(route.dependant))
    queries = {field.alias: field.field_info.annotation for one in dependants for field in one.query_params}
    headers = {field.alias.lower() for one in dependants for field in one.header_params}
    faults = [*islice(_query_faults(request, queries), MOST_FAULTS), *_header_faults(request, headers)]
    if faults:
        raise InvalidRequest(faults)
    if route.body_field is not None and await request.body():
        _check_json(", ".join(request.headers.getlist("Content-Type")))


class JsonRequest(Request):
    """A request whose body is read by `_parsed`."""

    async def json(self) -> Any:
        """The body as data. Raises InvalidRequest, json.JSONDecodeError and what else `json.loads` raises."""
        body = await self.body()
        if len(body) <= PARSED_AT_ONCE_BYTES:
            return _parsed(body)
        return await anyio.to_thread.run_sync(_parsed, body, limiter=self.app.state.app.parsing)


class JsonRoute(APIRoute):
    """A route whose body is JSON: it is parsed once, and refused before it is validated where it is too large.

    Validation describes all errors of a body, and a body of 1 MiB has room for several hundred thousand.
    """

    request_class: ClassVar[type[JsonRequest]] = JsonRequest
    """How its requests are read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The function that handles a request."""
        answer = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await answer(self.request_class(request.scope, request.receive))

        return handler


def _parsed(body: bytes) -> Any:
    """A body that is JSON as data.

    Raises InvalidRequest for too many fields or lists, and for names that occur several times in one object, of which
    `json` would keep the last value.
    """
    if body.count(b"[") > MOST_LISTS:  # they take long to make, and are not seen by `check`
        raise InvalidRequest([Fault(location="body", message=f"there are more than {MOST_LISTS} lists")])
    repeated: dict[str, int] = {}
    entries = 0

    def check(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal entries
        entries += 1 + len(pairs)
        if len(pairs) > MOST_FIELDS:
            message = f"an object has {len(pairs)} fields, and no object of a request has more than {MOST_FIELDS}"
            raise InvalidRequest([Fault(location="body", message=message)])
        if entries > MOST_ENTRIES:
            message = f"there are more than {MOST_ENTRIES} objects and fields; ask for less, or in several requests"
            raise InvalidRequest([Fault(location="body", message=message)])
        fields = dict(pairs)
        if len(fields) < len(pairs):
            repeated.update((name, times) for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        return fields

    data = json.loads(body, object_pairs_hook=check)
    if repeated:
        raise InvalidRequest(
            [
                Fault(
                    location="body",
                    message=f"'{_shown(name)}' is given {times} times in one object; give one value",
                )
                for name, times in islice(repeated.items(), MOST_FAULTS)
            ]
        )
    return data


def _with_dependencies(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for dependency in dependant.dependencies:
        yield from _with_dependencies(dependency)


def _query_faults(request: Request, known: dict[str, Any]) -> Iterator[Fault]:
    """The parameters that the route does not have, and those that occur several times though it takes one value."""
    for name in request.query_params:
        times = len(request.query_params.getlist(name))
        if name not in known:
            yield Fault(location=f"query.{_shown(name)}", message=_unknown(name, list(known)))
        elif times > 1 and not _takes_several(known[name]):
            yield Fault(location=f"query.{name}", message=f"given {times} times; give one value")


def _header_faults(request: Request, known: set[str]) -> Iterator[Fault]:
    """Headers that occur several times. Those whose value is a list occur once by now, see `ListHeaders`."""
    for name in sorted(known):
        if (times := len(request.headers.getlist(name))) > 1:
            yield Fault(location=f"header.{name}", message=f"given {times} times; give one value")


def _unknown(name: str, known: list[str]) -> str:
    if not known:
        return "no such parameter; this path takes none"
    close = difflib.get_close_matches(name[:MOST_SHOWN].lower(), known, n=1)
    meant = f"did you mean {close[0]}? " if close else ""
    return f"no such parameter; {meant}this path takes {', '.join(known)}"


def _takes_several(annotation: Any) -> bool:
    """Whether a type is a list, or has one as an alternative: a parameter that may be repeated."""
    return get_origin(annotation) is list or any(_takes_several(part) for part in get_args(annotation))


def _check_json(content_type: str) -> None:
    """Raise ProblemError unless a `Content-Type` is one of JSON."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json")):
        return
    sent = HINTS.get(media_type, f"it is {_shown(media_type)}")
    detail = f"the body has to be JSON, with the header Content-Type: application/json; {sent}"
    raise ProblemError("unsupported-media-type", detail, {"Accept": "application/json"})


def _shown(text: str) -> str:
    return ascii(text)[1:-1][:MOST_SHOWN]
