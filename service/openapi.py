"""The responses that several routes share, as OpenAPI describes them.

`python -m service.openapi > openapi.yaml` writes the whole document.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union

from pydantic import BaseModel, Field
from uvicorn.importer import import_from_string

from jobs.figure_results import FigureNumbers
from jobs.problems import PREFIX, TYPES, Slug
from jobs.records import JOBS
from service.examples import JOB_ID
from service.problems import MEDIA_TYPE

__all__ = [
    "FIGURE_DONE",
    "METRICS_DONE",
    "NOT_MODIFIED",
    "OF_A_MODEL",
    "add_problems",
    "event_stream",
    "files",
    "header",
    "job_answers",
    "job_model",
    "job_under_way",
    "of_both_types",
    "problem_response",
    "problem_responses",
    "statistics_problems",
]

DETAILS: dict[Slug, str] = {
    "invalid-request": "one thing is wrong with the request; see errors",
    "malformed-request": "the body is not JSON: Expecting value, at character 12",
    "key-needed": "this service needs a key: send it as Authorization: Bearer KEY. Where the service runs, `tailprune "
    "keys add NAME --scope read|submit|admin` makes one",
    "not-allowed": "this needs a key with the scope 'submit', and the key 'ana' has 'read'",
    "foreign-site": "a page of another site, https://example.org, has sent this request; whoever runs the service can "
    "let pages of an origin use it with TAILPRUNE_CORS_ORIGINS",
    "foreign-host": "the service is not known as example.org: use an address of it, or have whoever runs it name it in "
    "TAILPRUNE_ALLOWED_HOSTS",
    "too-many-requests": "600 requests of yours within a minute are the most; try again in 12 seconds",
    "not-found": "nothing is at this path; /docs lists all paths",
    "method-not-allowed": "this path does not answer PUT; use GET, DELETE",
    "not-acceptable": "figures are available as image/png or image/svg+xml; accept one of them",
    "unknown-model": "no model is named 'shapes-sat'; known models: shapes-sit, shapes-dit",
    "model-not-ready": "model 'dit-xl' lacks published/dit-xl.pt: put the files beside models.toml",
    "model-registered": "'shapes-sit' is registered, and only added and compacted models can be deleted here",
    "model-exists": "there is a model 'my-dit' already; choose another name, or delete that model first",
    "unknown-conditions": "no conditions have the id '5f1c…'; upload them with POST /conditions",
    "conditions-in-use": f"job {JOB_ID} needs the conditions 5f1c…; wait until it has finished, or cancel it first",
    "unknown-job": f"no job has the id '{JOB_ID}'",
    "unknown-artifact": f"job {JOB_ID} has no artifact 'grid.jpg'; it has grid.png",
    "artifact-gone": "'grid.png' is no longer stored; post the job's request again to remake it",
    "result-gone": f"the result of job {JOB_ID} cannot be read: it is no longer stored; post its request again to "
    "remake it",
    "record-unreadable": f"the record of job {JOB_ID} is damaged, or of another version of the service: it lacks "
    "'kind'; post the job's request again to make it again, and delete this one with ?purge=true",
    "range-not-satisfiable": "the range lies outside the 2048 bytes of 'grid.png'",
    "body-too-large": "the body is 2097152 bytes; at most 1048576 bytes are accepted",
    "unsupported-media-type": "the body has to be JSON, with the header Content-Type: application/json; it is "
    "application/x-www-form-urlencoded, which curl -d sends by itself",
    "idempotency-key-reused": "this idempotency key was used for another request before; use a new key",
    "job-finished": f"job {JOB_ID} has already succeeded; only a queued or running job can be cancelled",
    "job-unfinished": f"job {JOB_ID} has not finished; cancel it first, with DELETE /jobs/{JOB_ID}",
    "too-many-jobs": "10000 jobs are waiting, the most that may wait; try again later",
    "job-cancelled": f"job {JOB_ID} was cancelled while this request waited for it; ask again",
    "unavailable": "the job store or its queue does not answer, or is full; try again in 5 seconds",
    "storage-full": "the disk of the artifacts is full; nothing was stored",
    "worker-lost": "three workers were lost while they did this job",
    "time-limit": "the job ran for more than the 3600 seconds that a job may run",
    "failed": "the samples diverged: lower guidance_scale, or prune less",
    "internal": "the error was logged; the same request may work later",
}
"""What the example of each type of problem says."""
ERRORS = [{"location": "body.labels.1", "message": "label 100 is outside 0 to 99, the classes of shapes-sit"}]


def header(description: str, kind: str = "string") -> dict[str, Any]:
    """A response header."""
    return {"schema": {"type": kind}, "description": description}


def files(*media_types: str) -> dict[str, Any]:
    """The content of a response that is a file. Generators of clients take the first media type that they know."""
    return {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in media_types}


def event_stream(examples: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The content of a stream of events. examples: the data of an event of each name."""
    shown = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in examples.items())
    event = {"type": "object", "properties": {name: {"type": "string"} for name in ("event", "data", "id")}}
    # An event is described by itemSchema, of OpenAPI 3.2; generators for 3.1 want a schema.
    return {"text/event-stream": {"schema": {}, "itemSchema": event, "example": shown}}


def problem_responses(*slugs: Slug) -> dict[int | str, dict[str, Any]]:
    """The responses of a call that may be answered with these problems, by status."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for slug in slugs:
        status, title = TYPES[slug]
        entry = by_status.setdefault(status, problem_response(title))
        if entry["description"] != title:
            entry["description"] += f", or: {title}"
        example: dict[str, Any] = {
            "type": PREFIX + slug, "title": title, "status": status, "detail": DETAILS[slug],
            **({"errors": ERRORS} if slug == "invalid-request" else {}),
        }  # fmt: skip
        entry["content"][MEDIA_TYPE].setdefault("examples", {})[slug] = {"value": example}
        if slug in ("unavailable", "too-many-jobs", "too-many-requests"):
            entry["headers"] = {"Retry-After": header("Seconds to wait before trying again.", "integer")}
    return by_status


def problem_response(title: str) -> dict[str, Any]:
    """The response with a problem of this title."""
    return {"description": title, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


def add_problems(responses: dict[str, Any], *slugs: Slug) -> None:
    """Add problems to the responses of an operation in the document, in short where it has no other of their status."""
    for slug in slugs:
        ((status, entry),) = problem_responses(slug).items()
        known = responses.setdefault(str(status), entry)
        if known is entry:
            del entry["content"][MEDIA_TYPE]["examples"]
        elif entry["description"] not in known["description"]:
            known["description"] += f", or: {entry['description']}"
            known["content"][MEDIA_TYPE].get("examples", {}).update(entry["content"][MEDIA_TYPE]["examples"])
            if "headers" in entry:
                known.setdefault("headers", {}).update(entry["headers"])


_LINKS = {
    operation: {"operationId": operation, "parameters": {"id": "$response.body#/id"}}
    for operation in ("get_job", "cancel_job", "follow_job")
}
_FILES = {
    "prune-sample": "grid",
    "edit": "grid",
    "extract": "artifact",
    "study": "exports/document",
    "compact": "card",
}
"""Where a result of each kind names one of its files."""
_LOCATION = header("The job's path.")
_APPLIED = header("The wait that was granted, if the request asked for one.")
_REQUEST_ID = header("The id of the request in the logs.")


def job_model(*kinds: str) -> Any:
    """The type of a job of one of these kinds."""
    if len(kinds) == 1:
        return JOBS[kinds[0]]
    return Annotated[Union[tuple(JOBS[kind] for kind in kinds)], Field(discriminator="kind")]  # noqa: UP007


def job_under_way(*kinds: str) -> dict[str, Any]:
    """The response of a call whose job, of one of these kinds, has not finished."""
    return {
        "description": "The job is queued or running: poll `Location`, or follow its events.",
        "model": job_model(*kinds),
        "headers": {
            "Location": _LOCATION,
            "Preference-Applied": _APPLIED,
            "Retry-After": header("Seconds to wait before polling the job.", "integer"),
            "X-Request-ID": _REQUEST_ID,
        },
        "links": _LINKS,
    }


OF_A_MODEL: tuple[Slug, ...] = ("unknown-model", "unknown-conditions", "model-not-ready")


def job_answers(kinds: str | Sequence[str], *slugs: Slug) -> dict[int | str, dict[str, Any]]:
    """The responses of a POST that starts a job, which may be answered with these problems of its own.

    kinds: that of the job, or those of which it is one; the first names a file for the link to it.
    """
    links = _LINKS
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds[0] in _FILES:
        file = {"id": "$response.body#/id", "name": f"$response.body#/result/{_FILES[kinds[0]]}"}
        links = _LINKS | {"get_artifact": {"operationId": "get_artifact", "parameters": file}}
    done = {
        "description": "The job has finished: its result was cached, or it finished within the requested wait.",
        "headers": {"Location": _LOCATION, "Preference-Applied": _APPLIED, "X-Request-ID": _REQUEST_ID},
        "links": links,
    }
    return {
        200: done,
        202: job_under_way(*kinds),
        **problem_responses(
            "malformed-request", *slugs, "body-too-large", "unsupported-media-type", "invalid-request",
            "idempotency-key-reused", "too-many-jobs", "result-gone", "record-unreadable", "unavailable",
        ),
    }  # fmt: skip


METRICS_DONE: dict[str, Any] = {
    "description": "The statistics.",
    "headers": {
        "ETag": header("Changes with the request, the weights and the version of the code."),
        "Cache-Control": header("`no-cache`: revalidate with `If-None-Match`."),
        "Preference-Applied": _APPLIED,
    },
}
FIGURE_DONE: dict[str, Any] = {
    "description": "The figure, in the format that `Accept` prefers, PNG by default; or the numbers behind it.",
    "headers": {
        "ETag": header("Changes with the request, the weights, the format and the version of the code."),
        "Cache-Control": header("`no-cache`: revalidate with `If-None-Match`."),
        "Vary": header("Accept"),
        "Preference-Applied": _APPLIED,
    },
    "content": files("application/octet-stream", "image/png", "image/svg+xml"),
    "model": FigureNumbers,
}


def of_both_types(description: str, model: type[BaseModel]) -> dict[str, Any]:
    """The response with what `Accept` prefers: a file, or JSON of this model."""
    return {
        "description": description,
        "model": model,
        "headers": {**FIGURE_DONE["headers"]},
        "content": files("application/octet-stream"),
    }


def statistics_problems(*slugs: Slug) -> dict[int | str, dict[str, Any]]:
    """The problems of a GET that is answered by a job of the queue `metrics`, and these."""
    return problem_responses(
        "unknown-model", "unknown-conditions", "model-not-ready", "job-cancelled", "invalid-request", "failed",
        "result-gone", "record-unreadable", "internal", "worker-lost", "time-limit", "too-many-jobs", "unavailable",
        "storage-full", *slugs,
    )  # fmt: skip


NOT_MODIFIED: dict[str, Any] = {
    "description": "The client's copy is up to date.",
    "headers": {"ETag": header("The entity tag.")},
}


if __name__ == "__main__":
    application, document = map(import_from_string, ("service.app:app", "service.contract:document"))
    sys.stdout.write(document(application))  # by name: they import this module
