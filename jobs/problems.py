"""Problems (RFC 9457) and the catalogue of their types; `docs/problems.md` describes each."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tailprune.spec import InputError

__all__ = ["STORAGE_FULL", "TYPES", "Fault", "InvalidRequest", "Problem", "Slug", "problem", "quoted"]

PREFIX = "urn:tailprune:problem:"
MOST_QUOTED = 60
"""The most characters of a client's text that `quoted` repeats."""

Slug = Literal[
    "invalid-request",
    "malformed-request",
    "key-needed",
    "not-allowed",
    "foreign-site",
    "foreign-host",
    "too-many-requests",
    "not-found",
    "method-not-allowed",
    "not-acceptable",
    "unknown-model",
    "model-not-ready",
    "model-registered",
    "model-exists",
    "unknown-conditions",
    "conditions-in-use",
    "unknown-job",
    "unknown-artifact",
    "artifact-gone",
    "result-gone",
    "record-unreadable",
    "range-not-satisfiable",
    "body-too-large",
    "unsupported-media-type",
    "idempotency-key-reused",
    "job-finished",
    "job-unfinished",
    "job-cancelled",
    "too-many-jobs",
    "unavailable",
    "storage-full",
    "worker-lost",
    "time-limit",
    "failed",
    "internal",
]

TYPES: dict[Slug, tuple[int, str]] = {
    "invalid-request": (422, "The request is not valid"),
    "malformed-request": (400, "The request could not be read"),
    "key-needed": (401, "A key is needed"),
    "not-allowed": (403, "This is not allowed"),
    "foreign-site": (403, "Pages of other sites are refused"),
    "foreign-host": (421, "The service has another name"),
    "too-many-requests": (429, "Too many requests"),
    "not-found": (404, "Nothing is here"),
    "method-not-allowed": (405, "This method does not apply here"),
    "not-acceptable": (406, "None of the available formats is accepted"),
    "unknown-model": (404, "No such model"),
    "model-not-ready": (409, "Files of the model are missing"),
    "model-registered": (409, "The model belongs to the registry"),
    "model-exists": (409, "A model has this name"),
    "unknown-conditions": (404, "No such conditions"),
    "conditions-in-use": (409, "A job needs the conditions"),
    "unknown-job": (404, "No such job"),
    "unknown-artifact": (404, "No such artifact"),
    "artifact-gone": (410, "The artifact is no longer stored"),
    "result-gone": (410, "The job's result is no longer stored"),
    "record-unreadable": (410, "The job's record cannot be read"),
    "range-not-satisfiable": (416, "The range lies outside the artifact"),
    "body-too-large": (413, "The request body is too large"),
    "unsupported-media-type": (415, "The type of the request body is not supported"),
    "idempotency-key-reused": (422, "The idempotency key belongs to another request"),
    "job-finished": (409, "The job has already finished"),
    "job-unfinished": (409, "The job has not finished"),
    "job-cancelled": (409, "The job was cancelled"),
    "too-many-jobs": (429, "Too many jobs are waiting"),
    "unavailable": (503, "The service cannot do this now"),
    "storage-full": (507, "There is no space to store this"),
    "worker-lost": (500, "The job's workers were lost"),
    "time-limit": (422, "The job ran for too long"),
    "failed": (422, "The job could not be done"),
    "internal": (500, "Something went wrong inside"),
}

STORAGE_FULL = (
    "the disk of the artifacts is full: delete what is no longer needed (tailprune storage shows what there is), or "
    "give it more space; then send the request again"
)
"""The detail of `storage-full`."""


class Fault(BaseModel):
    """One thing that is wrong with a request."""

    location: str = Field(
        description="Where it is, as a path: `body.labels.0` is the body's first label.",
        examples=["body.threshold"],
    )
    message: str = Field(description="What is wrong, and how to correct it.")


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    model_config = ConfigDict(extra="forbid")

    type: str = Field(description="The stable name of the type of problem.", examples=[PREFIX + "unknown-model"])
    title: str = Field(description="The type of problem in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What happened this time, and what helps; for people, and may change.")
    errors: list[Fault] | None = Field(default=None, description="Everything that is wrong with an invalid request.")

    def public(self) -> dict[str, Any]:
        """The document as JSON data, without `errors` where there are none."""
        return self.model_dump(mode="json", exclude_none=True)


class InvalidRequest(InputError):
    """A request that its model or the limits do not allow, with everything that is wrong with it."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(f"{fault.location}: {fault.message}" for fault in faults))
        self.faults = faults


def problem(slug: Slug, detail: str, errors: list[Fault] | None = None) -> Problem:
    """A problem of one of the catalogued types."""
    status, title = TYPES[slug]
    return Problem(type=PREFIX + slug, title=title, status=status, detail=detail, errors=errors)


def quoted(text: str) -> str:
    """A client's text in quotes, shortened to MOST_QUOTED characters, in ASCII."""
    return ascii(text if len(text) <= MOST_QUOTED else text[:MOST_QUOTED] + "...")
