"""The record of a job, as it is stored and as clients see it; and the kinds of jobs there are.

Every request class in `jobs.requests` that names a kind is one: a new kind is a new file there.
"""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Field
from ulid import ULID

from jobs import requests
from jobs.problems import Problem
from jobs.requests.base import Request
from jobs.storage.artifacts import Artifact

__all__ = [
    "FINISHED",
    "ID_PATTERN",
    "KINDS",
    "AnyRequest",
    "AnyResult",
    "Job",
    "JobSummary",
    "JobView",
    "Kind",
    "Links",
    "Progress",
    "Status",
    "new_id",
]


def _subclasses(cls: type[Request]) -> Iterator[type[Request]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


for _module in pkgutil.iter_modules(requests.__path__, f"{requests.__name__}."):
    import_module(_module.name)

KINDS: dict[str, type[Request]] = dict(sorted((cls.kind, cls) for cls in _subclasses(Request) if "kind" in vars(cls)))
"""The request of each kind, as clients send it."""

if TYPE_CHECKING:
    Kind = str
    AnyRequest = Request
    AnyResult = BaseModel
else:
    Kind = Literal[tuple(KINDS)]
    AnyRequest = Union[tuple(KINDS.values())]  # noqa: UP007
    AnyResult = Union[tuple(cls.result for cls in KINDS.values())]  # noqa: UP007

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]

FINISHED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})

ID_PATTERN = "^[0123456789abcdefghjkmnpqrstvwxyz]{26}$"
"""A ULID in lower case."""


def new_id() -> str:
    """An id that sorts by time of making, to the millisecond."""
    return str(ULID()).lower()


class Progress(BaseModel):
    """How far a running job is."""

    done: int = Field(ge=0)
    total: int = Field(ge=0)
    unit: str


class Links(BaseModel):
    """Where the rest of a job is found."""

    self: str
    events: str
    artifacts: dict[str, str] = Field(default_factory=dict, description="The job's files by name.")


class JobSummary(BaseModel):
    """A job in a list."""

    id: str = Field(pattern=ID_PATTERN)
    kind: Kind
    model: str
    status: Status
    progress: Progress | None
    created: datetime
    started: datetime | None
    finished: datetime | None
    links: Links


class JobView(BaseModel):
    """A job: what was asked for, how far it is, and what came out."""

    id: str = Field(pattern=ID_PATTERN)
    kind: Kind
    status: Status
    progress: Progress | None
    created: datetime
    started: datetime | None = Field(description="When its latest attempt began.")
    finished: datetime | None
    request: AnyRequest = Field(description="What was asked for, defaults filled in.")
    result: AnyResult | None = Field(description="What came out; of a study under way, what is known so far.")
    problem: Problem | None = Field(description="Why it failed.")
    links: Links


class Job(BaseModel):
    """The record: the public part, and what the store and the workers need."""

    model_config = ConfigDict(frozen=True)

    id: str
    kind: Kind
    key: str
    model: str
    status: Status
    request: dict[str, Any]
    created: datetime
    started: datetime | None = None
    finished: datetime | None = None
    progress: Progress | None = None
    result: dict[str, Any] | None = None
    problem: Problem | None = None
    artifacts: dict[str, Artifact] = Field(default_factory=dict)

    @classmethod
    def from_hash(cls, text: Mapping[str, str]) -> Job:
        """The record in a Redis hash, as `jobs.store.scripts` writes it."""
        return cls.model_validate(
            {
                "id": text["id"],
                "kind": text["kind"],
                "key": text["key"],
                "model": text["model"],
                "status": text["status"],
                "request": _json(text["request"]),
                "created": _moment(text["created"]),
                "started": _moment(text.get("started")),
                "finished": _moment(text.get("finished")),
                "progress": _json(text.get("progress")),
                "result": _json(text.get("result")),
                "problem": _json(text.get("problem")),
                "artifacts": _json(text.get("artifacts")) or {},
            }
        )

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in FINISHED

    @property
    def queue_seconds(self) -> float:
        """How long it waited for its latest attempt."""
        return (self.started - self.created).total_seconds() if self.started else 0.0

    @property
    def _links(self) -> dict[str, Any]:
        path = f"/jobs/{self.id}"
        artifacts = {name: f"{path}/artifacts/{name}" for name in self.artifacts}
        return {"self": path, "events": f"{path}/events", "artifacts": artifacts}

    def public(self) -> dict[str, Any]:
        """The job as clients see it: JSON data of the shape of JobView."""
        data = self.model_dump(
            mode="json",
            include={"id", "kind", "status", "progress", "created", "started", "finished", "request", "result"},
        )
        shown = KINDS[self.kind].model_fields
        data["request"] = {name: value for name, value in self.request.items() if name in shown}
        return data | {"problem": self.problem.public() if self.problem else None, "links": self._links}

    def summary(self) -> dict[str, Any]:
        """The job as a line of a list: JSON data of the shape of JobSummary."""
        data = self.model_dump(
            mode="json",
            include={"id", "kind", "model", "status", "progress", "created", "started", "finished"},
        )
        return data | {"links": self._links}


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _moment(seconds: str | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(float(seconds), UTC)
