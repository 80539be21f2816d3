"""The methods of a client: each is an operation, written once for `Client` and `AsyncClient`."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, create_model

from jobs.figure_results import FigureNumbers
from jobs.records import JobSummary, Status
from jobs.requests.base import Request
from jobs.requests.fields import FigureName, Part
from jobs.results import (
    CompactResult,
    CosineMatrix,
    ExtractResult,
    MetricsResult,
    OverTimeResult,
    PruneSampleResult,
    RemovalResult,
)
from jobs.study_results import StudyResult
from jobs.views import ConditionList, ConditionView, Live, ModelList, ModelSummary, ModelView, Ready, StoredConditions
from tailprune.spec.prune import Fill, Side, When
from tailprune_client import jobs as of_jobs
from tailprune_client.core import (
    Call,
    Do,
    Item,
    Operation,
    Session,
    Stream,
    ask,
    json_of,
    path_of,
    read,
    read_job,
)
from tailprune_client.drivers import operation, stream
from tailprune_client.fields import CompactFields, ExtractFields, FigureFields, PruneSampleFields, StudyFields
from tailprune_client.following import Event, all_events, get_job
from tailprune_client.jobs import Started, starts
from tailprune_client.pictures import Picture
from tailprune_client.progress import Progress

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Methods"]

WAIT_MARGIN_SECONDS = 30.0
"""How much longer an answer may take than the wait that was asked for."""
PAGE = 200
"""The most jobs or conditions on a page of their lists."""
PATHS = {"prune-sample": "/prune-sample", "study": "/studies", "compact": "/compact", "extract": "/extract"}
"""Where the kinds of jobs that have a POST are posted."""
MEDIA_TYPES = {"png": "image/png", "svg": "image/svg+xml"}
Content = bytes | str | os.PathLike[str] | Mapping[str, Any]

_listed: dict[str, Any] = {"kind": (str, ...)}
_Listed: type[JobSummary] = create_model("JobSummary", __base__=JobSummary, **_listed)
"""A job in a list, of any kind: a newer service may have further ones."""


class _Page(BaseModel):
    jobs: list[_Listed]  # type: ignore[valid-type]
    next_cursor: str | None


class Methods:
    """The methods of both clients."""

    _session: Session
    _progress: Progress

    @property
    def url(self) -> str:
        """The address of the service."""
        return self._session.url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    # Jobs that are started

    @starts
    def prune_sample(
        self,
        model: str,
        *,
        wait: float | None = None,
        idempotency_key: str | None = None,
        **fields: Unpack[PruneSampleFields],
    ) -> Operation[Started[PruneSampleResult]]:
        """Sample a model with its condition vectors pruned, and unpruned from the same noise.

        model: its name.
        wait: the seconds that the answer may wait for the job; by default it does not.
        idempotency_key: a name of your own for this request: sent again, it is the same job. By default one is made,
            so that a request that is repeated on the way does not start a second job.
        fields: those of `jobs.requests.prune_sample.PruneSampleRequest`, such as `threshold`, `labels` and `steps`.
        """
        return (yield from self._start("prune-sample", model, dict(fields), wait, idempotency_key))

    @starts
    def study(
        self,
        model: str,
        *,
        wait: float | None = None,
        idempotency_key: str | None = None,
        **fields: Unpack[StudyFields],
    ) -> Operation[Started[StudyResult]]:
        """Sample a model under many prunes, and score the samples.

        model, wait, idempotency_key: see `prune_sample`.
        fields: those of `jobs.requests.study.StudyRequest`, such as `grid`, `search` and `measures`.
        """
        return (yield from self._start("study", model, dict(fields), wait, idempotency_key))

    @starts
    def compact(
        self,
        model: str,
        *,
        wait: float | None = None,
        idempotency_key: str | None = None,
        **fields: Unpack[CompactFields],
    ) -> Operation[Started[CompactResult]]:
        """Make a smaller model, whose AdaLN reads fewer columns of the condition.

        model, wait, idempotency_key: see `prune_sample`.
        fields: those of `jobs.requests.compact.CompactRequest`, such as `keep` and `by`.
        """
        return (yield from self._start("compact", model, dict(fields), wait, idempotency_key))

    @starts
    def extract(
        self,
        model: str,
        *,
        wait: float | None = None,
        idempotency_key: str | None = None,
        **fields: Unpack[ExtractFields],
    ) -> Operation[Started[ExtractResult]]:
        """Extract the condition vectors of a model, as tensors in an artifact of the job.

        model, wait, idempotency_key: see `prune_sample`.
        fields: those of `jobs.requests.extract.ExtractRequest`, such as `timesteps` and `parts`.
        """
        return (yield from self._start("extract", model, dict(fields), wait, idempotency_key))

    @starts
    def submit(
        self,
        request: Request | str,
        body: Mapping[str, Any] | None = None,
        *,
        wait: float | None = None,
        idempotency_key: str | None = None,
    ) -> Operation[Started[BaseModel]]:
        """Start the job of a request that is there already.

        request: a model of `jobs.requests`, such as `job.request` of a job that is done again; or a kind of job.
        body: the fields of the request, for a kind.
        wait, idempotency_key: see `prune_sample`.
        """
        kind = request if isinstance(request, str) else request.kind
        fields = request.model_dump(mode="json", exclude_none=True) if isinstance(request, Request) else body or {}
        return (yield from self._post(kind, fields, wait, idempotency_key))

    def _start(
        self, kind: str, model: str, fields: dict[str, Any], wait: float | None, key: str | None
    ) -> Operation[Started[Any]]:
        given = {name: value for name, value in fields.items() if value is not None}
        return (yield from self._post(kind, {"model": model, **given}, wait, key))

    def _post(self, kind: str, body: Mapping[str, Any], wait: float | None, key: str | None) -> Operation[Started[Any]]:
        if kind not in PATHS:
            raise ValueError(f"no request starts a job of the kind {kind!r}; use {', '.join(PATHS)}")
        headers = {"Content-Type": "application/json", "Idempotency-Key": key or uuid.uuid4().hex, **_prefer(wait)}
        call = Call("POST", PATHS[kind], headers=headers, content=json_of(body), timeout=_patience(self._session, wait))
        return Started(read_job((yield from ask(self._session, call))))

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
        cursor: str | None = None
        while limit is None or limit > 0:
            most = PAGE if limit is None else min(limit, PAGE)
            call = Call("GET", "/jobs", {**filters, "limit": most, "cursor": cursor})
            page = read(_Page, (yield from ask(self._session, call)))
            for each in page.jobs:
                yield Item(each)
            limit = None if limit is None else limit - len(page.jobs)
            cursor = page.next_cursor
            if cursor is None:
                return

    @starts
    def cancel(self, job_id: str) -> Operation[Started[BaseModel]]:
        """Cancel a job: one that is running stops at its next step. Raises JobFinished."""
        return Started((yield from of_jobs.cancel(self._session, _id_of(job_id))))

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

    # What is known of a model's condition vectors

    @operation
    def metrics(
        self,
        model: str,
        *,
        part: Part | None = None,
        timestep: float | None = None,
        conditions: str | None = None,
        threshold: float | Sequence[float] | None = None,
    ) -> Operation[MetricsResult]:
        """Statistics of a model's condition vectors: cosine, nPR, sparsity, variance.

        part: the condition `c` (the default), its input part `y`, or its time part `t`.
        timestep: the time of c; by default where sampling starts.
        conditions: the id of uploaded conditions, for a model that takes no labels.
        threshold: the magnitudes at which sparsity is measured.
        """
        query = {"part": part, "timestep": timestep, "conditions": conditions, "threshold": threshold}
        return read(MetricsResult, (yield from self._computed(path_of("metrics", model), query)))

    @operation
    def figure(
        self,
        model: str,
        figure: FigureName,
        *,
        format: Literal["png", "svg"] = "png",
        **options: Unpack[FigureFields],
    ) -> Operation[Picture]:
        """A figure of a model: its condition vectors, samples under pruning (`removal`), or its training.

        figure: which one.
        format: of the picture.
        options: part, timestep, conditions: see `metrics`; classes: how many to draw; threshold: the magnitudes to
            prune at, or to mark; side: `tail` or `head`; range: the cosines at the two ends of the colours; seed.
        """
        accept = MEDIA_TYPES[format]
        answer = yield from self._computed(path_of("metrics", model, "figures", figure), options, accept)
        return Picture(answer.content, accept)

    @operation
    def figure_data(self, model: str, figure: FigureName, **options: Unpack[FigureFields]) -> Operation[FigureNumbers]:
        """The numbers behind a figure. options: those of `figure`."""
        answer = yield from self._computed(path_of("metrics", model, "figures", figure), options, "application/json")
        return read(FigureNumbers, answer)

    @operation
    def vectors(
        self,
        model: str,
        *,
        part: Part | Sequence[Part] | None = None,
        timestep: float | Sequence[float] | None = None,
        label: int | str | Sequence[int | str] | None = None,
        conditions: str | None = None,
    ) -> Operation[dict[str, np.ndarray[Any, Any]]]:
        """A model's condition vectors, as arrays of NumPy, which has to be installed with safetensors.

        part: `c` (the default), `y`, `t`, or several. timestep: the times of c and t; by default where sampling starts.
        label: the classes; all by default. conditions: the id of uploaded conditions.

        Returns c (T, N, d), y (N, d), t (T, d), and timesteps, labels or conditions.
        """
        try:
            from safetensors.numpy import load
        except ImportError:
            raise ImportError("tensors are read by safetensors and NumPy: pip install safetensors numpy") from None
        query = {"part": part, "timestep": timestep, "label": label, "conditions": conditions}
        path = path_of("metrics", model, "vectors")
        answer = yield from self._computed(path, query, "application/octet-stream")
        return dict(load(answer.content))

    @operation
    def over_time(
        self,
        model: str,
        *,
        points: int | None = None,
        threshold: float | Sequence[float] | None = None,
        conditions: str | None = None,
    ) -> Operation[OverTimeResult]:
        """Statistics of a model's condition vectors over a whole sampling run.

        points: at how many times. threshold: the magnitudes whose share of removed components is measured.
        conditions: see `metrics`.
        """
        query = {"points": points, "threshold": threshold, "conditions": conditions}
        return read(OverTimeResult, (yield from self._computed(path_of("metrics", model, "over-time"), query)))

    @operation
    def removal(
        self,
        model: str,
        *,
        threshold: float | Sequence[float] | None = None,
        side: Side | None = None,
        fill: Fill | None = None,
        when: When | None = None,
        count: int | None = None,
        keep: int | Sequence[int] | None = None,
        by: Literal["variance"] | None = None,
        label: int | str | Sequence[int | str] | None = None,
        conditions: str | None = None,
        sampler: str | None = None,
        steps: int | None = None,
        timestep_shift: float | None = None,
        guidance_scale: float | None = None,
    ) -> Operation[RemovalResult]:
        """What prunes remove over a sampling run, step by step, without sampling.

        threshold, side, fill, keep, by: the prunes, as in `prune_sample`. when, count: their schedule.
        label, conditions, sampler, steps, timestep_shift, guidance_scale: the run.
        """
        query = {
            "threshold": threshold, "side": side, "fill": fill, "when": when, "count": count, "keep": keep, "by": by,
            "label": label, "conditions": conditions, "sampler": sampler, "steps": steps,
            "timestep_shift": timestep_shift,
            "guidance_scale": guidance_scale,
        }  # fmt: skip
        return read(RemovalResult, (yield from self._computed(path_of("metrics", model, "removal"), query)))

    @operation
    def cosine(
        self,
        model: str,
        *,
        part: Part | None = None,
        timestep: float | None = None,
        conditions: str | None = None,
        order: Literal["class", "likeness", "name"] | None = None,
    ) -> Operation[CosineMatrix]:
        """The cosines of all pairs of a model's condition vectors, of at most 256 classes.

        part, timestep, conditions: see `metrics`. order: of the classes; by number, likeness or name.
        """
        query = {"part": part, "timestep": timestep, "conditions": conditions, "order": order}
        answer = yield from self._computed(path_of("metrics", model, "cosine"), query, "application/json")
        return read(CosineMatrix, answer)

    def _computed(
        self, path: str, query: Mapping[str, Any], accept: str = "application/json"
    ) -> Operation[httpx.Response]:
        """The answer to a GET that is computed by a job, which is waited for."""
        call = Call("GET", path, query, {"Accept": accept})
        while True:
            answer = yield from ask(self._session, call)
            if answer.status_code != httpx.codes.ACCEPTED:
                return answer
            yield from of_jobs.finished(self._session, read_job(answer), self._progress)

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
    def training(self, name: str) -> Operation[Any]:
        """The record of a model's training, as JSON data."""
        return (yield from ask(self._session, Call("GET", path_of("models", name, "training")))).json()

    @operation
    def delete_model(self, name: str) -> Operation[None]:
        """Delete a compacted model. Raises ModelRegistered for one of the registry."""
        call = Call("DELETE", path_of("models", name))
        yield from ask(self._session, call, done={404: "unknown-model"})

    # Conditions

    @operation
    def upload(self, content: Content) -> Operation[ConditionView]:
        """Upload conditions, for models that take no labels; their `id` names them in requests.

        content: a safetensors or npz file, as a path or as its bytes; or arrays by name, for which NumPy is needed.
        """
        body = yield Do(lambda: _bytes_of(content))
        call = Call("POST", "/conditions", headers={"Content-Type": "application/octet-stream"}, content=body)
        return read(ConditionView, (yield from ask(self._session, call)))

    @stream
    def conditions(self, *, limit: int | None = None) -> Stream[StoredConditions]:
        """The stored conditions, the latest uploads first, read page by page. limit: at most so many."""
        cursor: str | None = None
        while limit is None or limit > 0:
            call = Call("GET", "/conditions", {"limit": PAGE if limit is None else min(limit, PAGE), "cursor": cursor})
            page = read(ConditionList, (yield from ask(self._session, call)))
            for each in page.conditions:
                yield Item(each)
            limit = None if limit is None else limit - len(page.conditions)
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
        """
        return (yield from ask(self._session, Call(method, path, query or {}, headers or {}, content)))


def _prefer(wait: float | None) -> dict[str, str]:
    return {} if wait is None else {"Prefer": f"wait={round(wait)}"}


def _patience(session: Session, wait: float | None) -> float | None:
    """The seconds that an answer may take that waits for a job; None for the usual ones."""
    return None if wait is None else max(session.timeout, wait + WAIT_MARGIN_SECONDS)


def _id_of(job: str) -> str:
    """The id of a job, from its address if that is given."""
    _, found, last = urlsplit(job).path.rpartition("/jobs/")
    return last.partition("/")[0] if found else job


def _bytes_of(content: Content) -> bytes:
    if isinstance(content, bytes):
        return content
    if not isinstance(content, Mapping):
        return Path(content).read_bytes()
    try:
        import numpy as np
    except ImportError:
        raise ImportError("arrays are packed by NumPy: pip install numpy") from None
    file = io.BytesIO()
    arrays: dict[str, Any] = {name: np.asarray(array) for name, array in content.items()}
    np.savez(file, **arrays)
    return file.getvalue()
