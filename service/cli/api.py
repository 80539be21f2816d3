"""The calls of the HTTP interface, as the command line makes them: jobs, their events and files, and models."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import httpx_sse
from pydantic import BaseModel, ValidationError

from jobs.problems import Problem
from jobs.records import JobView
from jobs.results import MetricsResult
from jobs.storage.uploads import ConditionInfo

__all__ = [
    "DEFAULT_URL", "URL_VARIABLE", "Calls", "ClientError", "Event", "JobCancelled", "NoEvents", "ServiceAway",
]  # fmt: skip

DEFAULT_URL = "http://127.0.0.1:8000"
URL_VARIABLE = "TAILPRUNE_URL"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
TIMEOUT = httpx.Timeout(10.0, read=90.0)  # GET /metrics waits for its result
STREAM_TIMEOUT = httpx.Timeout(10.0, read=25.0)  # a quiet stream of events has a comment every 15 seconds
PATHS = {"prune-sample": "/prune-sample", "study": "/studies", "compact": "/compact", "extract": "/extract"}
"""Where the kinds of jobs that have a POST are posted."""
AWAY = (429, 502, 503, 504)
"""The statuses of a service, or of a proxy before it, that cannot answer just now."""
PAGE = 200
"""The most jobs on a page of the list."""
DIGEST = re.compile('(?:W/)?"([0-9a-f]{64})"')
"""The entity tag of an artifact, which is the sha256 of its bytes."""


class ClientError(Exception):
    """The service does not answer, or answers with a problem; the message is for the user."""

    status = 1
    """The exit status of the command."""

    def __init__(self, message: str, problem: Problem | None = None) -> None:
        super().__init__(message)
        self.problem = problem


class JobCancelled(ClientError):
    """The job was cancelled while the command waited for it."""

    status = 3


class ServiceAway(ClientError):
    """No service answers, or it is not ready. retry_after: the seconds that it asks to wait, if it does."""

    def __init__(self, message: str, problem: Problem | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, problem)
        self.retry_after = retry_after


class NoEvents(Exception):
    """The events of a job do not arrive: something in between does not pass streams on."""


@dataclass(frozen=True)
class Event:
    """An event of a job: the id after which to resume, its name, and what it says."""

    id: str
    name: str
    data: dict[str, Any]


class Calls:
    """The calls of the service at `url`. All raise ClientError.

    Paths are relative to `url`, which may have a prefix of its own. The links of a job are not used: they have the
    prefix under which the service is published, and `url` may be another way to it.
    """

    def __init__(self, url: str) -> None:
        # On loopback, a proxy from the environment does not apply.
        try:
            address = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise ClientError(f"{url!r} is no address of a service ({error}): give one like {DEFAULT_URL}") from error
        self._http = httpx.Client(base_url=address, timeout=TIMEOUT, trust_env=address.host not in LOOPBACK)
        self.url = url

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(self, kind: str, body: dict[str, Any]) -> JobView:
        """Post the request of a kind of job: the job, which may have finished already."""
        # As Python writes JSON: with NaN, and with what is no UTF-8, which the service refuses by the names of fields.
        headers = {"Content-Type": "application/json"}
        return _read(JobView, self._ask("POST", PATHS[kind], content=json.dumps(body), headers=headers))

    def job(self, job_id: str) -> JobView:
        """GET /jobs/{id}: a job as it is now."""
        return _read(JobView, self._ask("GET", f"/jobs/{quote(job_id, safe='')}"))

    def job_data(self, job_id: str) -> dict[str, Any]:
        """GET /jobs/{id}: the same as the service sends it."""
        return self._data("GET", f"/jobs/{quote(job_id, safe='')}")

    def jobs(self, filters: dict[str, str], limit: int) -> Iterator[dict[str, Any]]:
        """GET /jobs: the newest jobs that pass these filters, at most `limit`, page after page."""
        cursor: str | None = None
        while limit > 0:
            query = {**filters, "limit": min(limit, PAGE), **({} if cursor is None else {"cursor": cursor})}
            page = self._data("GET", "/jobs", params=query)
            yield from page["jobs"]
            limit, cursor = limit - len(page["jobs"]), page["next_cursor"]
            if cursor is None:
                return

    def cancel(self, job_id: str) -> JobView:
        """DELETE /jobs/{id}: the job, which is cancelled, or stops at its next step."""
        return _read(JobView, self._ask("DELETE", f"/jobs/{quote(job_id, safe='')}"))

    def events(self, job: JobView, last_event_id: str) -> Iterator[Event]:
        """The events of a job after one, or from the first if that is empty, as they happen.

        Ends where the stream ends, which is not always the end of the job. Raises NoEvents and ServiceAway.
        """
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        heard = False
        try:
            with httpx_sse.connect_sse(
                self._http, "GET", f"/jobs/{job.id}/events", headers=headers, timeout=STREAM_TIMEOUT
            ) as stream:
                if stream.response.status_code == httpx.codes.NO_CONTENT:
                    return
                if stream.response.is_error:
                    stream.response.read()
                    failure = _failure(stream.response)
                    raise failure if isinstance(failure, ServiceAway) else NoEvents
                for event in stream.iter_sse():
                    heard = True
                    if event.data:  # without any, it is a comment that keeps the connection alive
                        yield Event(event.id, event.event, json.loads(event.data))
        except (httpx_sse.SSEError, ValueError) as error:
            raise NoEvents from error
        except httpx.ReadTimeout as error:
            raise (self._away(error) if heard else NoEvents()) from error
        except httpx.TransportError as error:
            raise self._away(error) from error

    def metrics(self, model: str, query: dict[str, Any]) -> MetricsResult | JobView:
        """GET /metrics/{model}: the result, or the job that computes it if that takes long."""
        answer = self._ask("GET", f"/metrics/{quote(model, safe='')}", params=query)
        if answer.status_code == httpx.codes.ACCEPTED:
            return _read(JobView, answer)
        return _read(MetricsResult, answer)

    def drawn(self, model: str, figure: str, query: dict[str, Any], media_type: str) -> bytes | JobView:
        """GET /metrics/{model}/figures/{figure}: the picture, or the job that draws it if that takes long."""
        path = f"/metrics/{quote(model, safe='')}/figures/{quote(figure, safe='')}"
        answer = self._ask("GET", path, params=query, headers={"Accept": media_type})
        return _read(JobView, answer) if answer.status_code == httpx.codes.ACCEPTED else answer.content

    def upload(self, content: bytes) -> ConditionInfo:
        """POST /conditions: upload the content of a file; the description of its conditions."""
        return _read(ConditionInfo, self._ask("POST", "/conditions", content=content))

    def models(self) -> list[dict[str, Any]]:
        """GET /models: the models that are served."""
        return list(self._data("GET", "/models")["models"])

    def model(self, name: str) -> dict[str, Any]:
        """GET /models/{model}: a model with its shapes, samplers and defaults."""
        return self._data("GET", f"/models/{quote(name, safe='')}")

    def remove_model(self, name: str) -> None:
        """DELETE /models/{model}: delete a compacted model."""
        self._ask("DELETE", f"/models/{quote(name, safe='')}")

    def save(self, job: JobView, name: str, folder: Path) -> Path:
        """Write an artifact of a job into a folder, and return its path."""
        return self.save_as(job, name, folder / Path(name).name)

    def save_as(self, job: JobView, name: str, path: Path) -> Path:
        """Write an artifact of a job into a file, which is replaced only once the artifact is complete.

        Raises ClientError if it does not arrive, or if its bytes have another digest than the service names.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        incoming = path.with_name(f"{uuid.uuid4().hex}.incoming")
        digest = hashlib.sha256()
        try:
            with self._http.stream("GET", f"/jobs/{job.id}/artifacts/{quote(name, safe='')}") as answer:
                if answer.is_error:
                    answer.read()
                    raise _failure(answer)
                with incoming.open("wb") as file:  # in pieces: a checkpoint may be larger than memory
                    for piece in answer.iter_bytes():
                        digest.update(piece)
                        file.write(piece)
            named = DIGEST.fullmatch(answer.headers.get("ETag", ""))
            if named is not None and named[1] != digest.hexdigest():
                raise ClientError(
                    f"{name} of job {job.id} arrived damaged: its sha256 is {digest.hexdigest()}, not {named[1]}; "
                    "try again"
                )
            os.replace(incoming, path)
        except httpx.TransportError as error:
            raise self._away(error) from error
        finally:
            incoming.unlink(missing_ok=True)
        return path

    def url_of(self, path: str) -> str:
        """The whole URL of a path of the service, to be shown."""
        return self.url.rstrip("/") + path

    def command(self, words: str) -> str:
        """A command for this service, to be shown: with --url unless the command finds it without."""
        usual = os.environ.get(URL_VARIABLE, DEFAULT_URL)
        return f"`tailprune {words}`" if self.url == usual else f"`tailprune {words} --url {shlex.quote(self.url)}`"

    def _data(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        answer = self._ask(method, path, **content)
        try:
            return dict(answer.json())
        except ValueError as error:
            raise ClientError(_strange(answer)) from error

    def _ask(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **content)
        except httpx.UnsupportedProtocol as error:
            raise ClientError(f"{self.url!r} is no address of a service: give one like {DEFAULT_URL}") from error
        except httpx.TransportError as error:
            raise self._away(error) from error
        if answer.is_error:
            raise _failure(answer)
        return answer

    def _away(self, error: httpx.TransportError) -> ServiceAway:
        return ServiceAway(
            f"no service answers at {self.url} ({error}): start one with `tailprune serve`, "
            "or give its address with --url"
        )


Model = TypeVar("Model", bound=BaseModel)


def _read(kind: type[Model], answer: httpx.Response) -> Model:
    try:
        return kind.model_validate_json(answer.content)
    except ValidationError as error:
        raise ClientError(
            f"{_strange(answer)} Or it is of another version than this command, {version('tailprune')}: "
            f"{error.error_count()} fields of its answer do not fit"
        ) from error


def _failure(answer: httpx.Response) -> ClientError:
    """The error that an answer stands for, with its problem document if it has one."""
    problem: Problem | None = None
    message = _strange(answer)
    with suppress(ValidationError):
        problem = Problem.model_validate_json(answer.content)
        message = f"{problem.title}: {problem.detail}"
        if problem.type.endswith(":not-found"):
            return ClientError(f"{answer.request.url}: {problem.detail}")
    if answer.status_code in AWAY:
        after = answer.headers.get("Retry-After", "")
        return ServiceAway(message, problem, float(after) if after.isdigit() else None)
    return ClientError(message, problem)


def _strange(answer: httpx.Response) -> str:
    return f"{answer.request.url} answers {answer.status_code} {answer.reason_phrase}: is this tailprune?"
