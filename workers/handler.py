"""What a handler is: it does one kind of job. Each module of `workers.handlers` that exports `handler` adds one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel

from jobs.keys import job_key
from jobs.records import Job
from jobs.requests.base import Request
from tailprune.spec import InputError
from workers.context import Context
from workers.lease import OnDone, Product, Run
from workers.model_pool import Source

__all__ = ["BatchHandler", "Handler", "source_of"]


class Handler(Protocol):
    """Does jobs one by one."""

    request: type[Request]
    """What the job's record is read as: the class has the kind, the queue and what of the model is read."""

    def handle(self, run: Run, request: Any, source: Source, context: Context) -> Product[BaseModel]:
        """Do a job; return its result and its artifacts.

        run: is called at every step, and may raise Stopped there. request: the resolved request, of the class above.
        source: the model. Raises InputError for what the request is to blame for.
        """
        ...


@runtime_checkable
class BatchHandler(Protocol):
    """Does several jobs together that can share a batch (`jobs.batching`)."""

    request: type[Request]

    def handle_batch(self, runs: Sequence[Run], source: Source, context: Context, on_done: OnDone) -> None:
        """Do jobs, at least one.

        on_done: is called for each as soon as it is made, goes wrong or is stopped; the others go on. What goes wrong
        with all of them is raised, as is Stopped at the step that finds none left.
        """
        ...


def source_of(job: Job, request: Request, context: Context) -> Source:
    """The model of a job, by its resolved request. Raises InputError where it is not the one that was asked for."""
    entry = context.models.entry(job.model)
    evaluated_with = request.evaluated_with(entry, context.evaluators.registered)
    source = context.models.source(job.model, request.reads, evaluated_with)
    if job_key(job.kind, job.request, source.identity.weights, source.identity.reading) != job.key:
        raise InputError(
            f"this worker's {job.model!r} is not the one that was asked for: its checkpoint, its entry in the "
            "registry or the code differs from the service's; ask again, or bring both to the same state"
        )
    return source
