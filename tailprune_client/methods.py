"""The methods of a client: each is an operation, written once for `Client` and `AsyncClient`."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, create_model

from jobs.records import JobSummary, Status
from jobs.views import (
    ConditionList,
    ConditionView,
    Live,
    ModelList,
    ModelSummary,
    ModelView,
    Ready,
    StoredConditions,
    TransformerSummary,
)
from tailprune_client import jobs as of_jobs
from tailprune_client.answers import read
from tailprune_client.contents import Content, bytes_of
from tailprune_client.core import ask, path_of
from tailprune_client.drivers import operation, stream
from tailprune_client.effects import Call, Do, Item, Operation, Stream
from tailprune_client.following import Event, all_events, get_job
from tailprune_client.jobs import Started, starts
from tailprune_client.starting import StartingMethods
from tailprune_client.statistics import StatisticsMethods

__all__ = ["ClientMethods"]

PAGE = 200
"""The most jobs or conditions on a page of their lists."""

T = TypeVar("T")

_listed: dict[str, Any] = {"kind": (str, ...)}
_Listed: type[JobSummary] = create_model("JobSummary", __base__=JobSummary, **_listed)
"""A job in a list, of any kind: a newer service may have further ones."""


class _Page(BaseModel):
    jobs: list[_Listed]  # type: ignore[valid-type]
    next_cursor: str | None


Page = TypeVar("Page", _Page, ConditionList)


class ClientMethods(StartingMethods, StatisticsMethods):
    """The methods of both clients."""

    @property
    def url(self) -> str:
        """The address of the service."""
        return self._session.url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    # Jobs that are there

    @starts
    def job(self, job_id: str) -> Operation[Started[BaseModel]]:
        """A job. job_id: its id, or its address. Raises UnknownJob."""
        return Started((yield from get_job(self._session, _id_of(job_id))))

    @stream
    def jobs(
        self,
        *,
        status: Status | None = None,
        kind: str | None = None,
        model: str | None = None,
        limit: int | None = None,
    ) -> Stream[JobSummary]:
        """The jobs of the service, newest first, read page by page.

        status, kind, model: only those of this status, kind or model.
        limit: at most so many; all by default.
        """
        filters = {"status": status, "kind": kind, "model": model}
        yield from self._listed("/jobs", filters, limit, _Page, lambda page: page.jobs)

    @starts
    def cancel(self, job_id: str) -> Operation[Started[BaseModel]]:
        """Cancel a job: one that is running stops at its next step, unless it `goes_on`. Raises JobFinished."""
        return (yield from of_jobs.cancel(self._session, _id_of(job_id)))

    @operation
    def delete(self, job_id: str) -> Operation[None]:
        """Delete a job that has finished: its record, and its files unless others need them. Raises JobUnfinished."""
        yield from of_jobs.purge(self._session, _id_of(job_id))

    @stream
    def events(self) -> Stream[Event]:
        """The events of all jobs from now on, for as long as they are iterated over.

        The first is `open`: nothing is missed after it. After an interruption there is another, and what happened in
        between is in `jobs()`. `job` has a job at each change of its status, `progress` and `deleted` its id.
        """
        yield from all_events(self._session)

    # Models

    @operation
    def models(self) -> Operation[list[ModelSummary]]:
        """The models that are served: the registered ones, then the compacted ones, oldest first."""
        return read(ModelList, (yield from ask(self._session, Call("GET", "/models")))).models

    @operation
    def model(self, name: str) -> Operation[ModelView]:
        """A model, with its shapes, samplers and defaults. Raises UnknownModel."""
        return read(ModelView, (yield from ask(self._session, Call("GET", path_of("models", name)))))

    @operation
    def transformers(self) -> Operation[list[TransformerSummary]]:
        """The large transformers of the registry, which `anatomy` describes."""
        return read(ModelList, (yield from ask(self._session, Call("GET", "/models")))).transformers

    @operation
    def training(self, name: str) -> Operation[Any]:
        """The record of a model's training, as JSON data."""
        return (yield from ask(self._session, Call("GET", path_of("models", name, "training")))).json()

    @operation
    def delete_model(self, name: str) -> Operation[None]:
        """Delete an added or compacted model; files stay. Raises ModelRegistered for one of the registry's file."""
        call = Call("DELETE", path_of("models", name))
        yield from ask(self._session, call, done={404: "unknown-model"})

    # Conditions

    @operation
    def upload(self, content: Content) -> Operation[ConditionView]:
        """Upload conditions, for models that take no labels, or pooled texts; their `id` names them in requests.

        content: a safetensors or npz file, as a path or as its bytes; or arrays by name, for which NumPy is needed.
        """
        body = yield Do(lambda: bytes_of(content))
        call = Call("POST", "/conditions", headers={"Content-Type": "application/octet-stream"}, content=body)
        return read(ConditionView, (yield from ask(self._session, call)))

    @stream
    def conditions(self, *, limit: int | None = None) -> Stream[StoredConditions]:
        """The stored conditions, the latest uploads first, read page by page. limit: at most so many."""
        yield from self._listed("/conditions", {}, limit, ConditionList, lambda page: page.conditions)

    def _listed(
        self,
        path: str,
        filters: Mapping[str, Any],
        limit: int | None,
        kind: type[Page],
        items: Callable[[Page], Sequence[T]],
    ) -> Stream[T]:
        """What is listed at a path, at most so many of it, read page by page."""
        cursor: str | None = None
        while limit is None or limit > 0:
            query = {**filters, "limit": PAGE if limit is None else min(limit, PAGE), "cursor": cursor}
            page = read(kind, (yield from ask(self._session, Call("GET", path, query))))
            for each in items(page):
                yield Item(each)
            limit = None if limit is None else limit - len(items(page))
            cursor = page.next_cursor
            if cursor is None:
                return

    @operation
    def get_conditions(self, conditions_id: str) -> Operation[ConditionView]:
        """Stored conditions: how many, their shapes, and the family of models they are for."""
        return read(ConditionView, (yield from ask(self._session, Call("GET", path_of("conditions", conditions_id)))))

    @operation
    def delete_conditions(self, conditions_id: str) -> Operation[None]:
        """Delete stored conditions. Raises ConditionsInUse."""
        call = Call("DELETE", path_of("conditions", conditions_id))
        yield from ask(self._session, call, done={404: "unknown-conditions"})

    # The service

    @operation
    def health(self) -> Operation[Live]:
        """Whether the process of the service answers."""
        return read(Live, (yield from ask(self._session, Call("GET", "/health/live"))))

    @operation
    def ready(self) -> Operation[Ready]:
        """Whether the service takes jobs: how many wait and run, and the workers. Raises Unavailable."""
        return read(Ready, (yield from ask(self._session, Call("GET", "/health/ready"), patience=0)))

    @operation
    def telemetry(self) -> Operation[str]:
        """The counters and histograms of the service, in the text format of Prometheus."""
        return (yield from ask(self._session, Call("GET", "/metrics"))).text

    @operation
    def start_page(self) -> Operation[str]:
        """The start page, as HTML."""
        return (yield from ask(self._session, Call("GET", "/"))).text

    @operation
    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | str | None = None,
    ) -> Operation[httpx.Response]:
        """Send a request of your own, with all that the other methods do about problems and lost connections.

        path: below the address of the service, such as `/models`.
        headers: further ones. A POST has an Idempotency-Key, one that is made for it or that of these.
        """
        sent = httpx.Headers(headers)
        if method.upper() == "POST":
            sent.setdefault("Idempotency-Key", uuid.uuid4().hex)
        return (yield from ask(self._session, Call(method, path, query or {}, sent, content)))


def _id_of(job: str) -> str:
    """The id of a job, from its address if that is given."""
    _, found, last = urlsplit(job).path.rpartition("/jobs/")
    return last.partition("/")[0] if found else job
