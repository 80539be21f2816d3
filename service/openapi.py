"""The OpenAPI document: the responses that several routes share, and the document itself as YAML.

`python -m service.openapi > openapi.yaml` writes it.
"""

from __future__ import annotations

import sys
from typing import Any

import yaml
from fastapi import FastAPI
from uvicorn.importer import import_from_string

from jobs.problems import PREFIX, TYPES, Slug
from jobs.records import JobView
from service.problems import MEDIA_TYPE

__all__ = [
    "FIGURE_DONE",
    "JOB_ANSWERS",
    "JOB_UNDER_WAY",
    "METRICS_DONE",
    "NOT_MODIFIED",
    "document",
    "header",
    "problem_responses",
]

JOB_ID = "01jd8y3v5n7q9r2s4t6w8x0z1a"
JOB_EXAMPLE: dict[str, Any] = {
    "id": JOB_ID,
    "kind": "prune-sample",
    "status": "running",
    "progress": {"done": 12, "total": 50, "unit": "steps"},
    "created": "2026-01-31T12:00:00Z",
    "started": "2026-01-31T12:00:00.250000Z",
    "finished": None,
    "request": {
        "model": "shapes-sit",
        "threshold": [0.01],
        "keep": None,
        "by": None,
        "side": "tail",
        "fill": "zero",
        "schedule": {"when": "every", "count": None},
        "labels": [0, 17],
        "conditions": None,
        "rows": None,
        "samples_per_label": 4,
        "seed": 0,
        "sampler": "euler",
        "steps": 50,
        "guidance_scale": 2.5,
        "guidance_interval": None,
        "guidance_power": None,
        "guided_channels": "all",
        "timestep_shift": None,
        "diffusion": None,
        "last_step": None,
        "compare": True,
    },
    "result": None,
    "problem": None,
    "links": {"self": f"/jobs/{JOB_ID}", "events": f"/jobs/{JOB_ID}/events", "artifacts": {}},
}


def header(description: str, kind: str = "string") -> dict[str, Any]:
    """A response header."""
    return {"schema": {"type": kind}, "description": description}


def problem_responses(*slugs: Slug) -> dict[int | str, dict[str, Any]]:
    """The responses of a call that may be answered with these problems, by status."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for slug in slugs:
        status, title = TYPES[slug]
        entry = by_status.setdefault(
            status,
            {
                "description": title,
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}},
            },
        )
        if entry["description"] != title:
            entry["description"] += f", or: {title}"
        example = {"type": PREFIX + slug, "title": title, "status": status, "detail": title + "."}
        entry["content"][MEDIA_TYPE]["examples"][slug] = {"value": example}
        if slug == "unavailable":
            entry["headers"] = {"Retry-After": header("Seconds to wait before trying again.", "integer")}
    return by_status


_LINKS = {
    operation: {"operationId": operation, "parameters": {"id": "$response.body#/id"}}
    for operation in ("look", "cancel", "events")
}
_LOCATION = header("The job's path.")
_APPLIED = header("The wait that was granted, if the request asked for one.")
_REQUEST_ID = header("The id of the request in the logs.")

JOB_DONE: dict[str, Any] = {
    "description": "The job has finished: its result was cached, or it finished within the requested wait.",
    "headers": {"Location": _LOCATION, "Preference-Applied": _APPLIED, "X-Request-ID": _REQUEST_ID},
    "links": _LINKS,
}
JOB_UNDER_WAY: dict[str, Any] = {
    "description": "The job is queued or running: poll `Location`, or follow its events.",
    "model": JobView,
    "headers": {
        "Location": _LOCATION,
        "Preference-Applied": _APPLIED,
        "Retry-After": header("Seconds to wait before polling the job.", "integer"),
        "X-Request-ID": _REQUEST_ID,
    },
    "content": {"application/json": {"example": JOB_EXAMPLE}},
    "links": _LINKS,
}
JOB_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: JOB_DONE,
    202: JOB_UNDER_WAY,
    **problem_responses(
        "malformed-request", "unknown-model", "unknown-conditions", "model-not-ready", "body-too-large",
        "invalid-request", "idempotency-key-reused", "unavailable",
    ),
}  # fmt: skip
"""The responses of a POST that starts a job."""
METRICS_DONE: dict[str, Any] = {
    "description": "The statistics.",
    "headers": {
        "ETag": header("Changes with the request, the weights and the version of the code."),
        "Cache-Control": header("`no-cache`: revalidate with `If-None-Match`."),
        "Preference-Applied": _APPLIED,
    },
}
FIGURE_DONE: dict[str, Any] = {
    "description": "The figure, in the format that `Accept` prefers; PNG by default.",
    "headers": {
        "ETag": header("Changes with the request, the weights, the format and the version of the code."),
        "Cache-Control": header("`no-cache`: revalidate with `If-None-Match`."),
        "Vary": header("Accept"),
        "Preference-Applied": _APPLIED,
    },
    "content": {
        media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in ("image/png", "image/svg+xml")
    },
}
NOT_MODIFIED: dict[str, Any] = {
    "description": "The client's copy is up to date.",
    "headers": {"ETag": header("The entity tag.")},
}


class _Dumper(yaml.SafeDumper):
    """YAML in which texts of several lines stay several lines."""


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def document(application: FastAPI) -> str:
    """The OpenAPI document of an application, as YAML."""
    return yaml.dump(application.openapi(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


if __name__ == "__main__":
    sys.stdout.write(document(import_from_string("service.app:app")))  # by name: its routes import this module
