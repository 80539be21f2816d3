"""What a client raises: the service's problems, one class for each type, and what happens on the way to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from jobs.problems import PREFIX, Fault, Problem, problem

if TYPE_CHECKING:
    from jobs.records import JobView

__all__ = [
    "PROBLEMS",
    "ArtifactGone",
    "BadAddress",
    "BodyTooLarge",
    "ConditionsInUse",
    "Damaged",
    "ForeignHost",
    "ForeignSite",
    "IdempotencyKeyReused",
    "InternalError",
    "InvalidRequest",
    "JobCancelled",
    "JobFailed",
    "JobFinished",
    "JobUnfinished",
    "KeyNeeded",
    "MalformedRequest",
    "MethodNotAllowed",
    "ModelExists",
    "ModelNotReady",
    "ModelRegistered",
    "NotAcceptable",
    "NotAllowed",
    "NotFound",
    "ProblemError",
    "RangeNotSatisfiable",
    "RecordUnreadable",
    "ResultGone",
    "ServiceAway",
    "StorageFull",
    "TailpruneError",
    "TimeLimit",
    "TooManyJobs",
    "TooManyRequests",
    "Unavailable",
    "UnexpectedAnswer",
    "UnknownArtifact",
    "UnknownConditions",
    "UnknownJob",
    "UnknownModel",
    "UnsupportedMediaType",
    "WaitTimeout",
    "WorkerLost",
]


DEFAULT_URL = "http://127.0.0.1:8000"


class TailpruneError(Exception):
    """The base of all that a client raises about its service."""

    retry_after: float | None = None
    """The seconds after which the service asks to try again, if it does."""


class BadAddress(TailpruneError, ValueError):
    """What was given is no address of a service."""

    def __init__(self, url: str, why: str = "") -> None:
        super().__init__(url, why)

    def __str__(self) -> str:
        url, why = self.args
        return f"{url!r} is no address of a service{why}: give one like {DEFAULT_URL}"


class ServiceAway(TailpruneError):
    """No service answers at the address, or the connection to it was lost, for longer than the client's patience.

    url: the address.
    reason: what happened, in the words of the network.
    """

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)  # by which it is pickled
        self.url, self.reason = url, reason

    def __str__(self) -> str:
        return (
            f"no service answers at {self.url} ({self.reason}): start one with `tailprune serve`, or give its address, "
            "as the first argument or in TAILPRUNE_URL"
        )


class UnexpectedAnswer(TailpruneError):
    """The answer is none of this service, or of a version that this client does not read."""


class Damaged(TailpruneError):
    """A file arrived with other bytes than the service says it has."""


class WaitTimeout(TailpruneError, TimeoutError):
    """A job had not finished when the time to wait for it was over. It goes on."""


class ProblemError(TailpruneError):
    """The service answered with a problem (RFC 9457); its types have classes of their own.

    problem: the document.
    job: the job that has the problem; None for a problem of a request.
    """

    slug: ClassVar[str] = ""

    def __init__(self, problem: Problem, job: JobView | None = None) -> None:
        super().__init__(problem, job)
        self.problem, self.job = problem, job

    @property
    def type(self) -> str:
        """The type of the problem, without its prefix: `unknown-model`."""
        return self.problem.type.removeprefix(PREFIX)

    @property
    def status(self) -> int:
        """The HTTP status that goes with the type."""
        return self.problem.status

    @property
    def detail(self) -> str:
        """What happened this time, and what helps."""
        return self.problem.detail

    @property
    def errors(self) -> list[Fault]:
        """Everything that is wrong with an invalid request, each with its location; empty for other problems."""
        return self.problem.errors or []

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __str__(self) -> str:
        if self.job is not None:
            why = f": {self.job.problem.detail}" if self.job.problem else ""
            return f"job {self.job.id} {self.job.status}{why}"
        lines = [
            f"{self.problem.title}: {self.detail}",
            *(f"  {each.location}: {each.message}" for each in self.errors),
        ]
        return "\n".join(lines)


class InvalidRequest(ProblemError):
    """The request is not valid; `errors` lists everything that is wrong with it."""

    slug = "invalid-request"


class MalformedRequest(ProblemError):
    """The request could not be read."""

    slug = "malformed-request"


class NotFound(ProblemError):
    """Nothing is at this address of the service."""

    slug = "not-found"


class MethodNotAllowed(ProblemError):
    """The address does not answer this method."""

    slug = "method-not-allowed"


class NotAcceptable(ProblemError):
    """None of the available formats was accepted."""

    slug = "not-acceptable"


class UnknownModel(ProblemError):
    """No model has this name."""

    slug = "unknown-model"


class ModelNotReady(ProblemError):
    """Files of the model are missing."""

    slug = "model-not-ready"


class ModelRegistered(ProblemError):
    """The model belongs to the registry, and cannot be deleted."""

    slug = "model-registered"


class ModelExists(ProblemError):
    """A model has this name already, so that no other can be registered under it."""

    slug = "model-exists"


class UnknownConditions(ProblemError):
    """No conditions have this id."""

    slug = "unknown-conditions"


class ConditionsInUse(ProblemError):
    """A job that has not finished needs the conditions."""

    slug = "conditions-in-use"


class UnknownJob(ProblemError):
    """No job has this id."""

    slug = "unknown-job"


class UnknownArtifact(ProblemError):
    """The job has no artifact of this name."""

    slug = "unknown-artifact"


class ArtifactGone(ProblemError):
    """The artifact is no longer stored; the job's request makes it again."""

    slug = "artifact-gone"


class ResultGone(ProblemError):
    """The job's result is no longer stored; the job's request makes it again."""

    slug = "result-gone"


class RecordUnreadable(ProblemError):
    """The job's record is damaged."""

    slug = "record-unreadable"


class RangeNotSatisfiable(ProblemError):
    """The range lies outside of the artifact."""

    slug = "range-not-satisfiable"


class KeyNeeded(ProblemError):
    """The service takes no request without a key that it knows: give one as `key=`, or in TAILPRUNE_KEY."""

    slug = "key-needed"


class NotAllowed(ProblemError):
    """The key may not do this, or the service answers no other machines."""

    slug = "not-allowed"


class ForeignSite(ProblemError):
    """The request comes from a page of another site."""

    slug = "foreign-site"


class ForeignHost(ProblemError):
    """The service is not reached under this name; its setting TAILPRUNE_ALLOWED_HOSTS has those that it answers."""

    slug = "foreign-host"


class TooManyRequests(ProblemError):
    """The key, or the address, has sent too many requests; later the same one is answered."""

    slug = "too-many-requests"


class BodyTooLarge(ProblemError):
    """The request is larger than the service takes."""

    slug = "body-too-large"


class UnsupportedMediaType(ProblemError):
    """The service does not take bodies of this type."""

    slug = "unsupported-media-type"


class IdempotencyKeyReused(ProblemError):
    """The idempotency key belongs to another request."""

    slug = "idempotency-key-reused"


class JobFinished(ProblemError):
    """The job has already finished, and cannot be cancelled."""

    slug = "job-finished"


class JobUnfinished(ProblemError):
    """The job has not finished, and cannot be deleted."""

    slug = "job-unfinished"


class JobCancelled(ProblemError):
    """The job was cancelled."""

    slug = "job-cancelled"


class TooManyJobs(ProblemError):
    """Too many jobs are waiting; later the same request is taken."""

    slug = "too-many-jobs"


class Unavailable(ProblemError):
    """The service cannot do this now; later it can."""

    slug = "unavailable"


class StorageFull(ProblemError):
    """The service has no space left."""

    slug = "storage-full"


class JobFailed(ProblemError):
    """The job could not be done; `problem` says why."""

    slug = "failed"


class WorkerLost(JobFailed):
    """The job failed since its workers were lost."""

    slug = "worker-lost"


class TimeLimit(JobFailed):
    """The job failed since it ran for longer than jobs may."""

    slug = "time-limit"


class InternalError(ProblemError):
    """Something went wrong inside of the service, whose log has it."""

    slug = "internal"


def _classes(base: type[ProblemError]) -> dict[str, type[ProblemError]]:
    found = {base.slug: base}
    for each in base.__subclasses__():
        found |= _classes(each)
    return found


PROBLEMS: dict[str, type[ProblemError]] = {slug: each for slug, each in _classes(ProblemError).items() if slug}
"""The class of each type of problem (`jobs.problems.TYPES`)."""


def problem_error(found: Problem) -> ProblemError:
    """The error that a problem is; of a type that this client does not know, a plain ProblemError."""
    return PROBLEMS.get(found.type.removeprefix(PREFIX), ProblemError)(found)


def job_error(job: JobView) -> ProblemError:
    """The error of a job that failed or was cancelled: a JobFailed, or JobCancelled."""
    found = problem_of(job)
    return found if isinstance(found, JobFailed | JobCancelled) else JobFailed(found.problem, job)


def problem_of(job: JobView) -> ProblemError:
    """The same by the type of its problem, as an answer has it that waited for the job."""
    if job.status == "cancelled":
        return JobCancelled(problem("job-cancelled", "it was cancelled"), job)
    why = job.problem or problem("failed", "the service does not say why")
    return PROBLEMS.get(why.type.removeprefix(PREFIX), JobFailed)(why, job)
