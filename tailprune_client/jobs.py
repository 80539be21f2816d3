"""A job of a service: waited for, followed, cancelled, and its files."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from pydantic import BaseModel

from jobs.problems import Problem
from jobs.records import FINISHED, JobView, Progress
from tailprune_client import display
from tailprune_client.answers import read_job
from tailprune_client.artifacts import Artifact, Artifacts, AsyncArtifact
from tailprune_client.core import Session, ask, path_of
from tailprune_client.drivers import Async, AsyncDriver, Driver, Sync, Written, operation, stream
from tailprune_client.effects import Call, Operation, Stream
from tailprune_client.errors import TailpruneError, job_error
from tailprune_client.following import Event, Update, events_of, follow, get_job

if TYPE_CHECKING:
    from tailprune_client.progress import Progress as ShowsProgress

__all__ = ["AsyncJob", "Job", "Started", "cancel", "finished", "purge", "starts"]

P = ParamSpec("P")
R = TypeVar("R", bound=BaseModel, covariant=True)
"""The result of a job."""


@dataclass(frozen=True)
class Started(Generic[R]):
    """A job as the service describes it."""

    view: JobView
    goes_on: bool = False
    """Whether this is the answer to a request to cancel it, and it goes on for others who asked for it."""


class starts(Written, Generic[P, R]):
    """A method whose result is a job."""

    def __init__(self, function: Callable[Concatenate[Any, P], Operation[Started[R]]]) -> None:
        def at_once(self: Any, *args: P.args, **kwargs: P.kwargs) -> Any:
            return self._job(self._driver.run(function(self, *args, **kwargs)))

        async def awaited(self: Any, *args: P.args, **kwargs: P.kwargs) -> Any:
            return self._job(await self._driver.run(function(self, *args, **kwargs)))

        super().__init__(function, at_once, awaited)

    @overload
    def __get__(self, instance: None, owner: type) -> Callable[Concatenate[Any, P], Any]: ...
    @overload
    def __get__(self, instance: Sync, owner: type) -> Callable[P, Job[R]]: ...
    @overload
    def __get__(self, instance: Async, owner: type) -> Callable[P, Coroutine[Any, Any, AsyncJob[R]]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self.bound(instance, owner)


def finished(
    session: Session,
    job: JobView,
    progress: ShowsProgress,
    timeout: float | None = None,
    note: Callable[[JobView], None] = lambda _: None,
) -> Operation[JobView]:
    """The job once it has succeeded, with its progress shown meanwhile. note: is told of each of its changes.

    Raises JobFailed, JobCancelled, WaitTimeout.
    """
    with progress(job) as show:

        def changed(update: Update) -> None:
            note(update.job)
            show(update)

        job = yield from follow(session, job, changed, timeout)
    if job.status != "succeeded":
        raise job_error(job)
    return job


def cancel(session: Session, job_id: str) -> Operation[Started[BaseModel]]:
    """Cancel a job: the job, which is cancelled, stops at its next step, or goes on for others who asked for it."""
    answer = yield from ask(session, Call("DELETE", path_of("jobs", job_id)), done={409: "job-finished"})
    if answer.is_error:  # the first request has arrived
        return Started((yield from get_job(session, job_id)))
    view = read_job(answer)
    return Started(view, goes_on=answer.status_code == 200 and view.status not in FINISHED)  # 202 for one that stops


def purge(session: Session, job_id: str) -> Operation[None]:
    """Delete a job that has finished."""
    call = Call("DELETE", path_of("jobs", job_id), {"purge": "true"})
    yield from ask(session, call, done={404: "unknown-job"})


class _JobMethods(Generic[R]):
    """The methods of a job."""

    def __init__(self, session: Session, started: Started[R], progress: ShowsProgress) -> None:
        self._session, self._progress = session, progress
        self.view = started.view
        """The job as it was when the client heard of it last, as one of the contract's models."""
        self.goes_on = started.goes_on
        """Whether it was cancelled here, and goes on for others who asked for it."""

    @property
    def id(self) -> str:
        """Its id."""
        return self.view.id

    @property
    def kind(self) -> str:
        """Its kind, such as `prune-sample`."""
        return self.view.kind

    @property
    def title(self) -> str:
        """What it is of, in plain words."""
        return self.view.title

    @property
    def status(self) -> str:
        """`queued`, `running`, `succeeded`, `failed` or `cancelled`, as far as the client knows."""
        return self.view.status

    @property
    def is_finished(self) -> bool:
        """Whether it has succeeded, failed or been cancelled."""
        return self.view.status in FINISHED

    @property
    def progress(self) -> Progress | None:
        """How far it is; None before its first report."""
        return self.view.progress

    @property
    def thresholds(self) -> list[float] | None:
        """The thresholds at which it prunes; None if it prunes at none."""
        return self.view.thresholds

    @property
    def queue_position(self) -> int | None:
        """Its place in its queue, from 1; None unless it is queued."""
        return self.view.queue_position

    @property
    def created(self) -> datetime:
        """When it was created."""
        return self.view.created

    @property
    def started(self) -> datetime | None:
        """When its latest attempt began; None while it is queued."""
        return self.view.started

    @property
    def finished(self) -> datetime | None:
        """When it finished; None until then."""
        return self.view.finished

    @property
    def request(self) -> Any:
        """The request, with every default filled in: a model of `jobs.requests`."""
        return self.view.request

    @property
    def result(self) -> R | None:
        """The result, a model of `jobs.results` or `jobs.study_results`; None until there is one."""
        return cast(R | None, self.view.result)

    @property
    def problem(self) -> Problem | None:
        """Why it failed; None otherwise."""
        return self.view.problem

    @property
    def url(self) -> str:
        """Its address."""
        return self._session.url.rstrip("/") + path_of("jobs", self.id)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({display.line_of(self.view)})"

    def _job(self, started: Started[Any]) -> Any:
        self._now(started.view)
        self.goes_on = self.goes_on or started.goes_on
        return self

    def _now(self, view: JobView) -> None:
        self.view = view

    @starts
    def wait(self, timeout: float | None = None) -> Operation[Started[R]]:
        """Wait until it has succeeded, and return it. Its progress is shown meanwhile.

        timeout: the seconds to wait, to within 2; None, the default, for as long as it takes.

        It is followed by its events, which are resumed where they break; where none arrive, it is asked for. A service
        that stops answering, as while it is started anew, is waited for.

        Raises JobFailed, JobCancelled; WaitTimeout, after which it goes on; ServiceAway.
        """
        return Started((yield from finished(self._session, self.view, self._progress, timeout, self._now)))

    @starts
    def refresh(self) -> Operation[Started[R]]:
        """Ask the service how it is, and return it."""
        return Started((yield from get_job(self._session, self.id)))

    @starts
    def cancel(self) -> Operation[Started[R]]:
        """Cancel it: if it is running, it stops at its next step, unless it `goes_on`. Raises JobFinished."""
        return cast(Started[R], (yield from cancel(self._session, self.id)))

    @operation
    def delete(self) -> Operation[None]:
        """Delete it, once it has finished: its record, and its files unless others need them. Raises JobUnfinished."""
        yield from purge(self._session, self.id)

    @stream
    def events(self, after: str = "") -> Stream[Event]:
        """Its events, as they happen, until it has finished: `status`, `progress`, and those of later services.

        after: the id of an event, after which they begin; by default they begin with the first.

        An interrupted stream is resumed after the last event, so that none is missed or comes twice. Where none arrive,
        the job is asked for again and again, and what has changed is an event without an id. The job is then as the
        latest event says; after the last one, its result is there.

        Raises Unavailable, ServiceAway if the service does not answer for longer than the client's patience:
        `after=` the last event that arrived it goes on.
        """
        yield from events_of(self._session, self.view, after, self._now)


class Job(_JobMethods[R], Sync):
    """A job of a service, as the client heard of it last; `refresh` and `wait` look again."""

    def __init__(self, driver: Driver, session: Session, started: Started[R], progress: ShowsProgress) -> None:
        super().__init__(session, started, progress)
        self._driver = driver

    @property
    def artifacts(self) -> Artifacts[Artifact]:
        """Its files, by name; none before it has succeeded."""
        names = self.view.links.artifacts
        return Artifacts({name: Artifact(self._driver, self._session, self.id, name) for name in names}, self.id)

    def _repr_html_(self) -> str:
        return display.html_of(self.view, self._picture)

    def _picture(self, name: str) -> bytes | None:
        with suppress(TailpruneError, RuntimeError):  # such as that of a client that was closed
            return self.artifacts[name]._small(display.MOST_PICTURE_BYTES)
        return None


class AsyncJob(_JobMethods[R], Async):
    """A job of a service, as the client heard of it last; its methods are awaited."""

    def __init__(self, driver: AsyncDriver, session: Session, started: Started[R], progress: ShowsProgress) -> None:
        super().__init__(session, started, progress)
        self._driver = driver

    @property
    def artifacts(self) -> Artifacts[AsyncArtifact]:
        """Its files, by name; none before it has succeeded."""
        names = self.view.links.artifacts
        return Artifacts({name: AsyncArtifact(self._driver, self._session, self.id, name) for name in names}, self.id)

    def _repr_html_(self) -> str:
        return display.html_of(self.view, lambda _: None)  # pictures would have to be awaited
