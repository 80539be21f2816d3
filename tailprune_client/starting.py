"""Methods of a client that start jobs: each posts a request."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from pydantic import BaseModel

from jobs.compact_transformer_results import CompactTransformerResult
from jobs.edit_results import EditResult
from jobs.records import JOBS
from jobs.requests.base import Request
from jobs.results import CompactResult, ExtractResult, PruneSampleResult, RegisterResult
from jobs.study_results import StudyResult
from tailprune_client.answers import read_job
from tailprune_client.core import Session, ask, json_of, prefer
from tailprune_client.effects import Call, Operation
from tailprune_client.fields import (
    CompactFields,
    EditFields,
    ExtractFields,
    PruneSampleFields,
    RegisterFields,
    StudyFields,
)
from tailprune_client.jobs import Started, starts

__all__ = ["StartingMethods"]

WAIT_MARGIN_SECONDS = 30.0
"""How much longer an answer may take than the wait that was asked for."""
PATHS = {
    "prune-sample": "/prune-sample",
    "edit": "/edit",
    "study": "/studies",
    "compact": "/compact",
    "compact-transformer": "/compact",
    "extract": "/extract",
    "register": "/models",
}
"""Where the kinds of jobs that have a POST are posted."""


class StartingMethods:
    """The methods of both clients that start jobs."""

    _session: Session

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
        fields: those of `jobs.requests.prune_sample.PruneSampleRequest`, such as `threshold`, `labels` and `steps`;
            and `webhook` with `webhook_events`, of `jobs.requests.subscriber.Subscriber`, which each of these methods
            takes.
        """
        return (yield from self._start("prune-sample", model, dict(fields), wait, idempotency_key))

    @starts
    def edit(
        self,
        model: str,
        source: Sequence[int | str],
        target: Sequence[int | str],
        *,
        wait: float | None = None,
        idempotency_key: str | None = None,
        **fields: Unpack[EditFields],
    ) -> Operation[Started[EditResult]]:
        """Sample a model with its condition moved from some classes towards others, a row for each strength.

        source, target: the classes, by number or name; rows of the conditions, for a model that takes them.
        model, wait, idempotency_key: see `prune_sample`.
        fields: those of `jobs.requests.edit.EditRequest`, such as `strength`, `components` and `labels`.
        """
        ends = {"source": list(source), "target": list(target)}
        return (yield from self._start("edit", model, {**ends, **fields}, wait, idempotency_key))

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
    ) -> Operation[Started[CompactResult | CompactTransformerResult]]:
        """Make a smaller model, whose AdaLN reads fewer columns of the condition.

        model: its name; of a large transformer the job is of the kind `compact-transformer`, and its artifacts are the
            files of a folder that `tailprune.load_transformer` loads.
        wait, idempotency_key: see `prune_sample`.
        fields: those of `jobs.requests.compact.CompactRequest`, such as `keep` and `by`; for a large transformer those
            of `jobs.requests.compact_transformer.CompactTransformerRequest`, such as `steps` or `rank`.
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
    def add_model(
        self,
        name: str,
        source: str,
        *,
        wait: float | None = None,
        idempotency_key: str | None = None,
        **fields: Unpack[RegisterFields],
    ) -> Operation[Started[RegisterResult]]:
        """Add a model to those that the service has, without a restart.

        name: that no other model has.
        source: its checkpoint, where the service and the workers find it: a path under a folder that
            TAILPRUNE_MODEL_FOLDERS names, or `hf://owner/repo/file`.
        wait, idempotency_key: see `prune_sample`.
        fields: those of `jobs.requests.register.RegisterRequest`, such as `family`, `key` and `decoder`.

        Raises ModelExists.
        """
        given = {field: value for field, value in fields.items() if value is not None}
        return (yield from self._post("register", {"name": name, "source": source, **given}, wait, idempotency_key))

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
        JOBS[kind].model_rebuild()  # reads the answer; built now, so that no interrupt falls between the two
        headers = {"Content-Type": "application/json", "Idempotency-Key": key or uuid.uuid4().hex, **prefer(wait)}
        call = Call("POST", PATHS[kind], headers=headers, content=json_of(body), timeout=_timeout(self._session, wait))
        return Started(read_job((yield from ask(self._session, call))))


def _timeout(session: Session, wait: float | None) -> float | None:
    """The seconds that an answer may take that waits for a job; None for the usual ones."""
    return None if wait is None else max(session.timeout, wait + WAIT_MARGIN_SECONDS)
