"""The record of a job, as it is stored and as clients see it, and the kinds of jobs.

Every request class in `jobs.requests` that has a `kind` is a kind of job: a new one is a new file there.
"""

from __future__ import annotations

import json
import pkgutil
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Union

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError, create_model

from jobs import requests
from jobs.packing import unpacked
from jobs.problems import Problem
from jobs.requests.base import Request
from jobs.requests.subscriber import WebhookEvent
from jobs.results import ModelUsed
from jobs.storage.artifact import Artifact
from jobs.tracing import HEADER

__all__ = [
    "FINISHED",
    "ID_PATTERN",
    "JOBS",
    "KINDS",
    "AnyJob",
    "AnyRequest",
    "AnyResult",
    "Job",
    "JobHead",
    "JobSummary",
    "JobView",
    "JobWebhook",
    "Kind",
    "Links",
    "Made",
    "Progress",
    "Status",
    "UnreadableRecord",
    "WebhookView",
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
    from ulid import ULID  # here: whoever only reads records makes no ids

    return str(ULID()).lower()


class Progress(BaseModel):
    """How far a running job is."""

    model_config = ConfigDict(
        json_schema_serialization_defaults_required=True,
        json_schema_mode_override="serialization",  # the same schema where webhooks send it
    )

    done: int = Field(ge=0, description="How many units are done.")
    total: int = Field(ge=0, description="How many units there are in all.")
    unit: str = Field(description="What is counted, such as steps.")
    phase: str | None = Field(
        default=None,
        description="What the job does now: `loading`, `fetching`, `checking`, `compacting`, `extracting`, "
        "`measuring`, `sampling`, `decoding`, `scoring`, `drawing` or `storing`; later versions may have others. Null "
        "where that is not known.",
    )
    eta_seconds: float | None = Field(
        default=None,
        ge=0,
        description="About how many seconds the other units take, as the worker estimates it; null until it can, and "
        "once all are done.",
    )


class SummaryLinks(BaseModel):
    """The paths of a job in a list, and of its events."""

    self: str = Field(description="The path of the job.")
    events: str = Field(description="The path of its server-sent events.")


class Links(SummaryLinks):
    """The paths of a job, of its events and of its files."""

    artifacts: dict[str, str] = Field(default_factory=dict, description="The paths of the job's files, by name.")


TITLE = "What the job is of, in plain words; for people, and may change."
THRESHOLDS = "The thresholds at which it prunes; null for a job that prunes at none, or at one for each step."
POSITION = (
    "The place of a queued job in its queue: 1 is the next that a worker takes from it. Jobs that were handed back "
    "come before all others. Null unless the job is queued."
)


class JobSummary(BaseModel):
    """A job in a list, without its request and result."""

    model_config = ConfigDict(
        json_schema_serialization_defaults_required=True, json_schema_mode_override="serialization"
    )

    id: str = Field(pattern=ID_PATTERN, description="The id of the job: a ULID in lower case.")
    kind: Kind = Field(description="The kind of job.")
    title: str = Field(description=TITLE, examples=["prune-sample of shapes-sit at 0.038"])
    model: str = Field(description="The model that it works on.")
    thresholds: list[float] | None = Field(description=THRESHOLDS, examples=[[0.038]])
    status: Status = Field(description="Where the job stands.")
    queue_position: int | None = Field(description=POSITION, ge=1)
    progress: Progress | None = Field(description="How far it is; null before the first report.")
    created: datetime = Field(description="When it was created.")
    started: datetime | None = Field(description="When its latest attempt began; null while it is queued.")
    finished: datetime | None = Field(description="When it finished; null until then.")
    problem: Problem | None = Field(description="Why the job failed; null otherwise.")
    links: SummaryLinks


class WebhookView(BaseModel):
    """How the call of a webhook for one event stands."""

    url: str = Field(description="The URL without its query.")
    event: WebhookEvent = Field(description="For what it is called.")
    state: Literal["waiting", "pending", "delivered", "failed"] = Field(
        description="`waiting` for the event, `pending` until the call succeeds, `delivered`, or `failed` for good."
    )
    attempts: int = Field(ge=0, description="How often it was tried.")
    last_status: int | None = Field(description="The HTTP status of the latest answer; null where there was none.")
    last_fault: str | None = Field(description="Why the latest try failed; null if it did not.")
    next_attempt: datetime | None = Field(description="About when it is tried next; null unless it is pending.")


class JobWebhook(WebhookView):
    """How the call of a webhook for one event stands, and whose webhook it is."""

    owner: str = Field(exclude=True)
    """Whoever asked for the job with it; empty for nobody in particular."""


class JobView(BaseModel):
    """A job: its request, its progress, and its result."""

    # Clients read jobs; service and workers, which only describe them, need not build what reads every kind.
    model_config = ConfigDict(json_schema_serialization_defaults_required=True, defer_build=True)

    id: str = Field(pattern=ID_PATTERN, description="The id of the job: a ULID in lower case.")
    kind: Kind = Field(description="The kind of job.")
    title: str = Field(default="", description=TITLE, examples=["prune-sample of shapes-sit at 0.038"])
    thresholds: list[float] | None = Field(default=None, description=THRESHOLDS, examples=[[0.038]])
    status: Status = Field(description="Where the job stands.")
    queue_position: int | None = Field(default=None, description=POSITION, ge=1)
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
    webhooks: list[WebhookView] = Field(
        default_factory=list,
        description="The webhooks of the job, those of all its requests; a key without the scope `admin` sees its own.",
    )
    links: Links


def _job_of(kind: str, request: type[Request]) -> type[JobView]:
    """The jobs of one kind, with the types of its request and result."""
    fields: dict[str, Any] = {
        "kind": (Literal[kind], _described("kind")),
        "request": (request, _described("request")),
        "result": (request.result | None, _described("result")),
    }
    name = f"{request.__name__.removesuffix('Request')}Job"
    return create_model(name, __base__=JobView, __module__=__name__, __doc__=f"A job of the kind `{kind}`.", **fields)


def _described(field: str) -> Any:
    return Field(description=JobView.model_fields[field].description)


JOBS: dict[str, type[JobView]] = {kind: _job_of(kind, request) for kind, request in KINDS.items()}
"""The jobs of each kind as clients see them, by the name of the kind."""
globals().update({cls.__name__: cls for cls in JOBS.values()})  # where they are looked for when they are unpickled

if TYPE_CHECKING:
    AnyJob = JobView
else:

    class AnyJob(RootModel):
        """A job of any kind; `kind` decides the types of its request and result."""

        model_config = ConfigDict(defer_build=True)

        root: Annotated[Union[tuple(JOBS.values())], Field(discriminator="kind")]  # noqa: UP007


class UnreadableRecord(Exception):
    """The record of a job cannot be read: it is damaged, or another version of the code wrote it."""


class Made(NamedTuple):
    """What a job made: its result, and its artifacts by name."""

    result: dict[str, Any]
    artifacts: dict[str, Artifact]


class JobHead(BaseModel):
    """What lists show of a job."""

    model_config = ConfigDict(frozen=True)

    id: str
    kind: Kind
    model: str
    title: str
    thresholds: list[float] | None = None
    status: Status
    queue_position: int | None = None
    created: datetime
    started: datetime | None = None
    finished: datetime | None = None
    progress: Progress | None = None
    problem: Problem | None = None

    @classmethod
    def from_hash(cls, fields: Mapping[str, str | bytes]) -> JobHead:
        """The head from these fields of a record. Raises UnreadableRecord."""
        try:
            return JobHead.model_validate(_head(fields))
        except (KeyError, ValueError, OverflowError) as error:
            raise _unreadable(error) from error

    @property
    def is_finished(self) -> bool:
        """Whether the job has succeeded, failed or been cancelled."""
        return self.status in FINISHED

    def summary(self, prefix: str = "") -> dict[str, Any]:
        """The job in a list: a JobSummary as JSON data. prefix: what its links begin with; empty by default."""
        data = self.model_dump(mode="json", include=JobHead.model_fields.keys() - {"problem"})
        return data | {"problem": self._problem, "links": self._links(prefix)}

    @property
    def _problem(self) -> dict[str, Any] | None:
        return None if self.problem is None else self.problem.public()

    def _links(self, prefix: str) -> dict[str, Any]:
        path = f"{prefix}/jobs/{self.id}"
        return {"self": path, "events": f"{path}/events"}


class Job(JobHead):
    """A job: what clients see of it, and what the store and the workers need besides."""

    key: str
    traceparent: str = ""
    """The W3C trace context of the request that made it; empty where there was none."""
    request: dict[str, Any]
    result: dict[str, Any] | None = None
    artifacts: dict[str, Artifact] = Field(default_factory=dict)
    webhooks: list[JobWebhook] = Field(default_factory=list)

    @classmethod
    def from_hash(cls, fields: Mapping[str, str | bytes], made: Made | None = None) -> Job:
        """The job from the fields of its record, a Redis hash as the scripts of `jobs.store.scripts` write it.

        fields: by name.
        made: what it made; None, the default, for a job that has not succeeded.

        In records of earlier versions result and artifacts are fields themselves. Raises UnreadableRecord.
        """
        try:
            inline = Made(_json(unpacked(fields.get("result"))), _json(fields.get("artifacts")) or {})
            result, artifacts = made or inline
            rest = {
                "key": _text(fields["key"]),
                "traceparent": _text(fields.get(HEADER, "")),
                "request": _json(unpacked(fields["request"])),
                "result": result,
                "artifacts": artifacts,
            }
            return Job.model_validate(_head(fields) | rest)
        except (KeyError, ValueError, OverflowError, zlib.error) as error:
            raise _unreadable(error) from error

    @property
    def queue_seconds(self) -> float:
        """The seconds from its creation to its latest attempt; 0 while it is queued."""
        # The clock may have been set back meanwhile.
        return max(0.0, (self.started - self.created).total_seconds()) if self.started else 0.0

    @property
    def _result(self) -> dict[str, Any] | None:
        """The result. In those of before RESULT_VERSION 5 the digest of any part of the model was called `digest`."""
        model = (self.result or {}).get("model", {})
        if self.result is None or set(model) != {"name", "digest"}:
            return self.result
        reads = KINDS[self.kind].model_construct(**self.request).reads  # also of a request that is no longer valid
        used = ModelUsed.of(model["name"], reads, model["digest"])
        return self.result | {"model": used.model_dump()}

    def _links(self, prefix: str) -> dict[str, Any]:
        links = super()._links(prefix)
        return links | {"artifacts": {name: f"{links['self']}/artifacts/{name}" for name in self.artifacts}}

    def public(self, prefix: str = "", viewer: str | None = None) -> dict[str, Any]:
        """The job as clients see it: a JobView as JSON data.

        prefix: what its links begin with; empty by default.
        viewer: who sees it, and of its webhooks the own alone; None, the default, for one who sees all.
        """
        data = self.model_dump(mode="json", include=JobHead.model_fields.keys() - {"problem", "model"} | {"request"})
        seen = [each.model_dump(mode="json") for each in self.webhooks if viewer is None or each.owner == viewer]
        return data | {
            "result": self._result,
            "problem": self._problem,
            "webhooks": seen,
            "links": self._links(prefix),
        }


def _head(fields: Mapping[str, str | bytes]) -> dict[str, Any]:
    """The fields of a JobHead from those of a record. Raises KeyError and ValueError."""
    kind, model = _text(fields["kind"]), _text(fields["model"])
    return {
        "id": _text(fields["id"]),
        "kind": kind,
        "model": model,
        "title": _text(fields["title"]) if "title" in fields else _title(kind, model, fields.get("request")),
        "thresholds": _json(fields.get("thresholds")),
        "status": _text(fields["status"]),
        "created": _moment(fields["created"]),
        "started": _moment(fields.get("started")),
        "finished": _moment(fields.get("finished")),
        "progress": _progress(fields.get("progress"), is_running=_text(fields["status"]) == "running"),
        "problem": _json(fields.get("problem")),
    }


def _title(kind: str, model: str, request: str | bytes | None) -> str:
    """The title of a record that has none, as those of earlier versions."""
    try:
        return KINDS[kind].model_validate_json(request or "").job_title
    except (KeyError, ValidationError):
        return f"{kind} of {model}"


def _progress(text: str | bytes | None, *, is_running: bool) -> Progress | None:
    """How far a job is; None also where that is damaged: the next report overwrites it, and it matters to nothing."""
    try:
        progress = None if text is None else Progress.model_validate_json(text)
    except ValidationError:
        return None
    if progress is None or is_running:
        return progress
    return progress.model_copy(update={"phase": None, "eta_seconds": None})


def _unreadable(error: Exception) -> UnreadableRecord:
    if isinstance(error, KeyError):
        return UnreadableRecord(f"it lacks {error}")
    if isinstance(error, ValidationError):
        return UnreadableRecord("; ".join(f"{_path(fault['loc'])}: {fault['msg']}" for fault in error.errors()[:3]))
    return UnreadableRecord(str(error))


def _path(location: tuple[str | int, ...]) -> str:
    return ".".join(map(str, location))


def _text(field: str | bytes) -> str:
    return field.decode() if isinstance(field, bytes) else field


def _json(text: str | bytes | None) -> Any:
    return None if text is None else json.loads(text)


def _moment(seconds: str | bytes | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(float(seconds), UTC)
