"""The record of a job, as it is stored and as clients see it, and the kinds of jobs.

Every request class in `jobs.requests` that has a `kind` is a kind of job: a new one is a new file there.
"""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError, create_model
from ulid import ULID

from jobs import requests
from jobs.problems import Problem
from jobs.requests.base import Request
from jobs.results import ModelUsed
from jobs.storage.artifacts import Artifact

__all__ = [
    "FINISHED",
    "ID_PATTERN",
    "JOBS",
    "KINDS",
    "AnyJob",
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
"""The request class of each kind, by name."""

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
    """A new id; ids sort by time of creation, to the millisecond."""
    return str(ULID()).lower()


class Progress(BaseModel):
    """How far a running job is."""

    done: int = Field(ge=0, description="How many units are done.")
    total: int = Field(ge=0, description="How many units there are in all.")
    unit: str = Field(description="What is counted, such as steps.")


class Links(BaseModel):
    """The paths of a job, of its events and of its files."""

    self: str = Field(description="The path of the job.")
    events: str = Field(description="The path of its server-sent events.")
    artifacts: dict[str, str] = Field(default_factory=dict, description="The paths of the job's files, by name.")


TITLE = "What the job is of, in plain words; for people, and may change."


class JobSummary(BaseModel):
    """A job in a list, without its request and result."""

    id: str = Field(pattern=ID_PATTERN, description="The id of the job: a ULID in lower case.")
    kind: Kind = Field(description="The kind of job.")
    title: str = Field(description=TITLE, examples=["prune-sample of shapes-sit at 0.038"])
    model: str = Field(description="The model that it works on.")
    status: Status = Field(description="Where the job stands.")
    progress: Progress | None = Field(description="How far it is; null before the first report.")
    created: datetime = Field(description="When it was created.")
    started: datetime | None = Field(description="When its latest attempt began; null while it is queued.")
    finished: datetime | None = Field(description="When it finished; null until then.")
    problem: Problem | None = Field(description="Why the job failed; null otherwise.")
    links: Links


class JobView(BaseModel):
    """A job: its request, its progress, and its result."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    id: str = Field(pattern=ID_PATTERN, description="The id of the job: a ULID in lower case.")
    kind: Kind = Field(description="The kind of job.")
    title: str = Field(default="", description=TITLE, examples=["prune-sample of shapes-sit at 0.038"])
    status: Status = Field(description="Where the job stands.")
    progress: Progress | None = Field(description="How far it is; null before the first report.")
    created: datetime = Field(description="When it was created.")
    started: datetime | None = Field(description="When its latest attempt began; null while it is queued.")
    finished: datetime | None = Field(description="When it finished; null until then.")
    request: AnyRequest = Field(
        description="The request, with every default filled in. A field that does not apply to it is null, such as "
        "`by` in a prune by threshold."
    )
    result: AnyResult | None = Field(
        description="The result; null until there is one. A running study shows its scores so far."
    )
    problem: Problem | None = Field(description="Why the job failed; null otherwise.")
    links: Links


def _job_of(kind: str, request: type[Request]) -> type[JobView]:
    """The jobs of one kind, with the types of its request and result."""
    fields: dict[str, Any] = {
        "kind": (Literal[kind], _described("kind")),
        "request": (request, _described("request")),
        "result": (request.result | None, _described("result")),
    }
    name = f"{request.__name__.removesuffix('Request')}Job"
    return create_model(name, __base__=JobView, __doc__=f"A job of the kind `{kind}`.", **fields)


def _described(field: str) -> Any:
    return Field(description=JobView.model_fields[field].description)


JOBS: dict[str, type[JobView]] = {kind: _job_of(kind, request) for kind, request in KINDS.items()}
"""The jobs of each kind as clients see them, by the name of the kind."""

if TYPE_CHECKING:
    AnyJob = JobView
else:

    class AnyJob(RootModel[Annotated[Union[tuple(JOBS.values())], Field(discriminator="kind")]]):  # noqa: UP007
        """A job of any kind; `kind` decides the types of its request and result."""


class Job(BaseModel):
    """The record of a job: what clients see of it, and what the store and the workers need besides."""

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
        """The record from the fields of a Redis hash, as the scripts of `jobs.store.scripts` write them."""
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
        """Whether the job has succeeded, failed or been cancelled."""
        return self.status in FINISHED

    @property
    def queue_seconds(self) -> float:
        """The seconds from its creation to its latest attempt; 0 while it is queued."""
        return (self.started - self.created).total_seconds() if self.started else 0.0

    @property
    def title(self) -> str:
        """What the job is of, in plain words."""
        resolved = self._resolved
        return f"{self.kind} of {self.model}" if resolved is None else resolved.title

    @property
    def _resolved(self) -> Request | None:
        """The resolved request; None if another version of the code made it, and this one cannot read it."""
        try:
            return KINDS[self.kind].model_validate(self.request)
        except ValidationError:
            return None

    @property
    def _result(self) -> dict[str, Any] | None:
        """The result. In those of before RESULT_VERSION 5 the digest of any part of the model was called `digest`."""
        model = (self.result or {}).get("model", {})
        if self.result is None or set(model) != {"name", "digest"}:
            return self.result
        reads = KINDS[self.kind].model_construct(**self.request).reads  # also of a request that is no longer valid
        used = ModelUsed.of(model["name"], reads, model["digest"])
        return self.result | {"model": used.model_dump()}

    @property
    def _problem(self) -> dict[str, Any] | None:
        return None if self.problem is None else self.problem.public()

    def _links(self, prefix: str) -> dict[str, Any]:
        path = f"{prefix}/jobs/{self.id}"
        artifacts = {name: f"{path}/artifacts/{name}" for name in self.artifacts}
        return {"self": path, "events": f"{path}/events", "artifacts": artifacts}

    def public(self, prefix: str = "") -> dict[str, Any]:
        """The job as clients see it: a JobView as JSON data. prefix: what its links begin with; empty by default."""
        data = self.model_dump(
            mode="json", include={"id", "kind", "status", "progress", "created", "started", "finished", "request"}
        )
        links = self._links(prefix)
        return data | {"title": self.title, "result": self._result, "problem": self._problem, "links": links}

    def summary(self, prefix: str = "") -> dict[str, Any]:
        """The job in a list: a JobSummary as JSON data. prefix: what its links begin with; empty by default."""
        data = self.model_dump(
            mode="json",
            include={"id", "kind", "model", "status", "progress", "created", "started", "finished"},
        )
        return data | {"title": self.title, "problem": self._problem, "links": self._links(prefix)}


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _moment(seconds: str | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(float(seconds), UTC)
