"""A running service as the command line sees it: start a job, follow it, fetch what it made."""

from __future__ import annotations

from threading import Timer
from typing import Any

import httpx
from rich.console import Console

from jobs.records import FINISHED, JobView
from service.cli.api import Calls, ClientError, JobCancelled
from service.cli.following import follow
from service.cli.progress import shown
from service.cli.terminal import messages, say

__all__ = ["Client"]

PATIENCE_SECONDS = 5.0
"""How long an answer takes until it is said that one is waited for."""


class Client(Calls):
    """The service at `url`. Progress is shown on `console`, stderr by default."""

    def __init__(self, url: str, console: Console = messages) -> None:
        super().__init__(url)
        self._console = console

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _ask(self, method: str, path: str, **content: Any) -> httpx.Response:
        late = Timer(PATIENCE_SECONDS, say, (f"waiting for an answer from {self.url}", self._console))
        late.daemon = True
        late.start()
        try:
            return super()._ask(method, path, **content)
        finally:
            late.cancel()

    def figure(self, model: str, figure: str, query: dict[str, Any], media_type: str) -> bytes:
        """GET /metrics/{model}/figures/{figure}: the picture, once it is drawn."""
        while isinstance(picture := self.drawn(model, figure, query, media_type), JobView):
            self.finished(picture)
        return picture

    def finished(self, job: JobView) -> JobView:
        """Wait for a job, show its progress, and return it finished.

        Raises ClientError if it failed, JobCancelled if it was cancelled. KeyboardInterrupt leaves it running.
        """
        try:
            with shown(job, self._console) as show:
                for update in follow(self, job):
                    job = update.job
                    show(update)
        except KeyboardInterrupt:
            watch, cancel = self.command(f"jobs watch {job.id}"), self.command(f"jobs cancel {job.id}")
            say(f"job {job.id} continues to run: {watch} follows it, {cancel} stops it")
            raise
        assert job.status in FINISHED
        if job.status != "succeeded":
            why = f": {job.problem.detail}" if job.problem else ""
            raise (JobCancelled if job.status == "cancelled" else ClientError)(f"job {job.id} {job.status}{why}")
        return job
