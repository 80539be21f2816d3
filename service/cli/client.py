"""A running service as the command line sees it: start a job, follow it, fetch what it made."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import ValidationError
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from jobs.problems import Problem
from jobs.records import FINISHED, JobView
from jobs.results import MetricsResult
from jobs.storage.uploads import ConditionInfo

__all__ = ["Client", "ClientError"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
POLL_SECONDS = 0.2
TIMEOUT = httpx.Timeout(10.0, read=90.0)  # GET /metrics waits for its result
PATIENCE_SECONDS = 60.0
"""How long to wait for a service that stopped answering while a job runs."""


class ClientError(Exception):
    """The service does not answer, or answers with a problem; the message is for the user."""


class ServiceAway(ClientError):
    """No service answers, or it is not ready."""


class Client:
    """The service at `url`. Progress is shown on `messages`.

    Paths are relative to `url`, which may have a prefix of its own. The links of a job are not used: they have the
    prefix under which the service is published, and `url` may be another way to it.
    """

    def __init__(self, url: str, messages: Console) -> None:
        # On loopback, a proxy from the environment does not apply.
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT, trust_env=httpx.URL(url).host not in LOOPBACK)
        self._messages = messages

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def prune_sample(self, body: dict[str, Any]) -> JobView:
        """POST /prune-sample: the job, which may have finished already."""
        return JobView.model_validate_json(self._ask("POST", "/prune-sample", json=body).content)

    def study(self, body: dict[str, Any]) -> JobView:
        """POST /studies: the job, which may have finished already."""
        return JobView.model_validate_json(self._ask("POST", "/studies", json=body).content)

    def compact(self, body: dict[str, Any]) -> JobView:
        """POST /compact: the job, which may have finished already."""
        return JobView.model_validate_json(self._ask("POST", "/compact", json=body).content)

    def extract(self, body: dict[str, Any]) -> JobView:
        """POST /extract: the job, which may have finished already."""
        return JobView.model_validate_json(self._ask("POST", "/extract", json=body).content)

    def metrics(self, model: str, query: dict[str, Any]) -> MetricsResult | JobView:
        """GET /metrics/{model}: the result, or the job that computes it if that takes long."""
        answer = self._ask("GET", f"/metrics/{model}", params=query)
        if answer.status_code == httpx.codes.ACCEPTED:
            return JobView.model_validate_json(answer.content)
        return MetricsResult.model_validate_json(answer.content)

    def figure(self, model: str, figure: str, query: dict[str, Any], media_type: str) -> bytes:
        """GET /metrics/{model}/figures/{figure}: the picture, once it is drawn."""
        path, headers = f"/metrics/{model}/figures/{figure}", {"Accept": media_type}
        answer = self._ask("GET", path, params=query, headers=headers)
        if answer.status_code == httpx.codes.ACCEPTED:
            self.finished(JobView.model_validate_json(answer.content))
            answer = self._ask("GET", path, params=query, headers=headers)
        return answer.content

    def upload(self, content: bytes) -> ConditionInfo:
        """POST /conditions: upload the content of a file; the description of its conditions."""
        return ConditionInfo.model_validate_json(self._ask("POST", "/conditions", content=content).content)

    def remove_model(self, name: str) -> None:
        """DELETE /models/{model}: delete a compacted model."""
        self._ask("DELETE", f"/models/{quote(name, safe='')}")

    def finished(self, job: JobView) -> JobView:
        """Wait for a job with a progress bar, and return it finished.

        Raises ClientError if the job did not succeed. KeyboardInterrupt leaves it running.
        """
        try:
            with _progress(job, self._messages) as show:
                while job.status not in FINISHED:
                    show(job)
                    time.sleep(POLL_SECONDS)
                    job = self._look(job)
                show(job)
        except KeyboardInterrupt:
            self._messages.print(f"job {job.id} continues to run; the same command finds it again")
            raise
        if job.status != "succeeded":
            why = f": {job.problem.detail}" if job.problem else ""
            raise ClientError(f"job {job.id} {job.status}{why}")
        return job

    def save(self, job: JobView, name: str, folder: Path) -> Path:
        """Write an artifact of a job into a folder, and return its path."""
        return self.save_as(job, name, folder / Path(name).name)

    def save_as(self, job: JobView, name: str, path: Path) -> Path:
        """Write an artifact of a job into a file, which is replaced only once the artifact is complete."""
        path.parent.mkdir(parents=True, exist_ok=True)
        incoming = path.with_name(f"{uuid.uuid4().hex}.incoming")
        try:
            with self._http.stream("GET", f"/jobs/{job.id}/artifacts/{quote(name, safe='')}") as answer:
                if answer.is_error:
                    answer.read()
                    raise _failure(answer)
                with incoming.open("wb") as file:  # in pieces: a checkpoint may be larger than memory
                    file.writelines(answer.iter_bytes())
            os.replace(incoming, path)
        except httpx.TransportError as error:
            raise self._away(error) from error
        finally:
            incoming.unlink(missing_ok=True)
        return path

    def _look(self, job: JobView) -> JobView:
        """The job as it is now. Waits for a service that is restarting."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return JobView.model_validate_json(self._ask("GET", f"/jobs/{job.id}").content)
            except ServiceAway:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_SECONDS)

    def _ask(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **content)
        except httpx.TransportError as error:
            raise self._away(error) from error
        if answer.is_error:
            raise _failure(answer)
        return answer

    def _away(self, error: httpx.TransportError) -> ServiceAway:
        return ServiceAway(
            f"no service answers at {self._http.base_url} ({error}): start one with `tailprune serve`, "
            "or give its address with --url"
        )


def _failure(answer: httpx.Response) -> ClientError:
    away = answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
    return (ServiceAway if away else ClientError)(_explanation(answer))


def _explanation(answer: httpx.Response) -> str:
    """The text of a problem document, or a line about any other answer."""
    try:
        problem = Problem.model_validate_json(answer.content)
    except ValidationError:
        return f"{answer.request.url} answers {answer.status_code} {answer.reason_phrase}: is this tailprune?"
    faults = [f"  {fault.location}: {fault.message}" for fault in problem.errors or []]
    return "\n".join([f"{problem.title}: {problem.detail}", *faults])


@contextmanager
def _progress(job: JobView, console: Console) -> Iterator[Callable[[JobView], None]]:
    """A progress bar that shows the job it is called with."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(job.kind, total=None)

        def show(job: JobView) -> None:
            text = "waiting for a worker" if job.status == "queued" else f"{job.kind} {job.status}"
            if job.progress is None:
                bar.update(task, description=text)
            else:
                done, total = job.progress.done, job.progress.total
                bar.update(task, description=f"{text} ({job.progress.unit})", completed=done, total=total)

        yield show
