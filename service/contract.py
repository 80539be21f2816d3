"""The contract: the OpenAPI document of the routes, refined for people and for generators of clients."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import yaml
from fastapi import FastAPI, Request
from fastapi.responses import Response

from jobs.problems import PREFIX, TYPES
from jobs.requests.fields import GREATEST_SEED
from service.auth import PROBES, scope_of
from service.examples import JOB, WEBHOOK
from service.headers import etag_matches
from service.openapi import add_problems, problem_response
from service.submission import cache_headers

__all__ = ["DESCRIPTION", "TAGS", "add_contract", "document"]

DESCRIPTION = f"""Measures, prunes and samples the condition vectors of diffusion transformers.

**Jobs.** Anything that takes long is a job: post it, then poll it or follow its events; it can be cancelled. A job is
told apart by its `kind`, which decides the types of its `request` and of its `result`. With `Prefer: wait=SECONDS` the
answer waits for the job. Equal requests are one job, which is done once.

**Labels** are numbers, or names of classes: `"labels": ["red circle", 17]`.

**Keys.** A service that has keys answers who sends one, as `Authorization: Bearer KEY`. It has the scope `read`, which
looks; `submit`, which also makes jobs, and cancels its own; or `admin`, which may do everything.

**Problems.** Every error is a problem document (RFC 9457) of the media type `application/problem+json`. Its `type` is
stable, and is `{PREFIX}` with one of these names, which `docs/problems.md` describes:
{", ".join(f"`{slug}` ({status})" for slug, (status, _) in TYPES.items())}.
"""

TAGS: list[dict[str, Any]] = [
    {"name": name, "description": description}
    for name, description in {
        "prune and sample": "Samples under pruned condition vectors, beside the unpruned ones.",
        "edit": "Samples with the condition of one class moved towards another.",
        "studies": "Many prunes, scored by measures of quality; and the search for a threshold.",
        "compact": "Physically smaller models, which other requests can then use.",
        "metrics": "Statistics, figures and the tensors of condition vectors, from a model's condition tensors alone.",
        "models": "The models that are served, their defaults, and what they lack.",
        "conditions": "The inputs of models that take conditions in place of class labels, and pooled texts of large "
        "transformers.",
        "jobs": "What was asked for: its progress, its result, its files.",
        "health": "Probes for operators, and telemetry for Prometheus.",
        "pages": "Where a person starts.",
    }.items()
]

SCHEME = "key"
KEY = {
    "type": "http",
    "scheme": "bearer",
    "description": "A key of the service, which needs one once it has keys; each has the scope `read`, `submit` or "
    "`admin`, and may do what those before may. `security` of an operation names the scope that it needs; one without "
    "it needs no key.",
}
KEPT_PREFIXES = 4
"""For how many path prefixes the documents are kept; a service has one."""


def add_contract(application: FastAPI) -> None:
    """Refine the OpenAPI document of an application, and serve it as `/openapi.json` and `/openapi.yaml`."""
    make = application.openapi

    def openapi() -> dict[str, Any]:
        if application.openapi_schema is None:
            application.openapi_schema = _refined(make())
        return application.openapi_schema

    @lru_cache(maxsize=KEPT_PREFIXES)
    def content(prefix: str, suffix: str) -> bytes:
        shown = application.openapi() | {"servers": [{"url": quote(prefix) or "/"}]}
        return (_yaml(shown) if suffix == "yaml" else json.dumps(shown, ensure_ascii=False)).encode()

    def contract(request: Request) -> Response:  # Starlette runs it in a thread: making the YAML takes a second
        suffix = request.url.path.rpartition(".")[2]
        body = content(request.scope["root_path"], suffix)
        headers = cache_headers(hashlib.sha256(body).hexdigest())
        if etag_matches(headers["ETag"], request.headers.get("If-None-Match")):
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=f"application/{suffix}", headers=headers)

    application.openapi = openapi  # type: ignore[method-assign]
    routes = application.router.routes
    routes[:] = [route for route in routes if getattr(route, "path", None) != application.openapi_url]
    for suffix in ("json", "yaml"):
        application.add_route(f"/openapi.{suffix}", contract, include_in_schema=False)


def document(application: FastAPI) -> str:
    """The OpenAPI document of an application, as YAML."""
    return _yaml(application.openapi())


BY_THE_SERVER = {"408": "The request took too long", "431": "The headers are too large"}
"""The titles of what the server itself answers to any request, by status; their type is `about:blank`."""


def _refined(schema: dict[str, Any]) -> dict[str, Any]:
    """FastAPI's document, with whole numbers and words as generators read them, and parameters that are never null."""
    for part in _parts(schema):
        if part.get("type") == "integer":
            for bound in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
                if bound in part:
                    part[bound] = min(int(part[bound]), GREATEST_SEED)
        for union in ("anyOf", "oneOf"):
            for choice in part.get(union, []):
                if "const" in choice:  # of a number or a word; openapi-python-client takes a const for the only choice
                    choice["enum"] = [choice.pop("const")]
    schema["components"]["schemas"]["PruneSampleJob"]["examples"] = [JOB]  # FastAPI leaves nulls out of examples
    schema["components"]["schemas"]["WebhookBody"]["examples"] = [WEBHOOK]
    schema["components"]["securitySchemes"] = {SCHEME: KEY}
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            needed = scope_of(method.upper(), path)
            operation["security"] = [] if needed is None else [{SCHEME: [needed]}]
            if needed is not None:
                add_problems(operation["responses"], "key-needed")
            if path not in PROBES:
                add_problems(operation["responses"], "not-allowed", "too-many-requests")
            add_problems(operation["responses"], "foreign-site", "foreign-host")
            for status, title in BY_THE_SERVER.items():
                operation["responses"][status] = problem_response(title)
            for parameter in operation.get("parameters", []):
                parameter["schema"] = _of_parameter(parameter["schema"])
            if "application/json" not in operation.get("requestBody", {}).get("content", {}):
                _show_unknown_parameter(operation)
    return schema


def _show_unknown_parameter(operation: dict[str, Any]) -> None:
    """Show what is wrong with a request that has no JSON body: a query parameter that the operation does not have."""
    takes = [each["name"] for each in operation.get("parameters", []) if each["in"] == "query"]
    message = f"no such parameter; this path takes {', '.join(takes) or 'none'}"
    (content,) = operation["responses"]["422"]["content"].values()
    content["examples"]["invalid-request"]["value"]["errors"] = [{"location": "query.nonsense", "message": message}]


def _of_parameter(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter without the alternative null, and without what the parameter itself says."""
    rest = {name: value for name, value in schema.items() if name not in ("anyOf", "title", "description")}
    given = [each for each in schema.get("anyOf", []) if each != {"type": "null"}]
    return {**given[0], **rest} if len(given) == 1 else rest | ({"anyOf": given} if given else {})


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """A document's objects, from the outside in."""
    if isinstance(schema, dict):
        yield schema
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _parts(part)


class _Dumper(yaml.CSafeDumper):
    """YAML in which texts of several lines stay several lines, and equal parts are written out."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write equal parts out, as clients of the JSON see them."""
        return True


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def _yaml(schema: dict[str, Any]) -> str:
    return yaml.dump(schema, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
