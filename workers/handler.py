"""The interface of a handler, which does one kind of job. Every handler is a module of `workers.handlers`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel, ValidationError

from jobs.keys import job_key
from jobs.records import Job
from jobs.requests.base import Request
from tailprune.spec import InputError
from workers.context import Context
from workers.lease import OnDone, Product, Run
from workers.model_pool import Source

__all__ = ["BatchHandler", "Handler", "request_of", "source_of"]


class Handler(Protocol):
    """Does jobs one at a time."""

    request: type[Request]
    """The type of the resolved request, which names the kind of job, its queue, and the parts of the model it reads."""

    def handle(self, run: Run, request: Any, source: Source, context: Context) -> Product[BaseModel]:
        """Do a job; return its result and its artifacts.

        run: the job; `run.step` or `run.check` is called at every step, and raises Stopped where the job has to stop.
        request: the resolved request, of the class above.
        source: the model.
        context: the models, stores and settings of the worker.
        Raises InputError for an error in the request, Stopped.
        """
        ...


@runtime_checkable
class BatchHandler(Protocol):
    """Does jobs that can share a batch together (`jobs.batching`)."""

    request: type[Request]
    """As in `Handler`."""

    def handle_batch(
        self, runs: Sequence[Run], requests: Sequence[Any], source: Source, context: Context, on_done: OnDone
    ) -> None:
        """Do jobs, at least one.

        runs: the jobs.
        requests: the resolved request of each, of the class above.
        source: their model.
        context: the models, stores and settings of the worker.
        on_done: called for each job as soon as it is done, fails or is stopped; the others go on.
        Raises an error that concerns all jobs, and Stopped at the step after which none is left.
        """
        ...


def request_of(job: Job, kind: type[Request]) -> Request:
    """The resolved request of a job. Raises InputError for the record of another version of the service."""
    try:
        return kind.model_validate(job.request)
    except ValidationError as error:
        raise InputError(
            "the job was made by another version of the service than this worker's: post the request again, or bring "
            "both to the same version"
        ) from error


def source_of(job: Job, request: Request, context: Context) -> Source:
    """The model of a job. Raises InputError where it is not the service's, by the key of the job."""
    entry = context.models.entry(job.model)
    evaluated_with = request.evaluated_with(entry, context.evaluators.registered)
    source = context.models.source(job.model, request.reads, evaluated_with)
    if job_key(job.kind, job.request, source.identity.weights, source.identity.reading) != job.key:
        raise InputError(
            f"this worker's {job.model!r} is not the model of the request: its checkpoint, its entry in the registry "
            "or the code differs from the service's; post the request again, or bring both to the same state"
        )
    return source
