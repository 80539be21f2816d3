"""A running service as the command line sees it: its client, which tells what is waited for."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Any

import httpx
from rich.console import Console

import tailprune_client
from jobs.records import JobView
from service.cli.progress import shown
from service.cli.terminal import messages, say
from tailprune_client.core import DEFAULT_URL, URL_VARIABLE, path_of
from tailprune_client.drivers import Driver
from tailprune_client.effects import Call
from tailprune_client.progress import Show

__all__ = ["Client"]

SILENT_SECONDS = 5.0
"""How long an answer takes until it is said that one is waited for."""
FOLLOWING_SECONDS = 60.0
"""How long a service is waited for that stops answering while a job is followed."""


class Client(tailprune_client.Client):
    """The service at `url`. What cannot be done now is said at once; only a job that is followed is waited for.

    Progress is shown on `console`, stderr by default. KeyboardInterrupt leaves a job running that is waited for.
    """

    def __init__(self, url: str, console: Console = messages, *, transport: httpx.BaseTransport | None = None) -> None:
        super().__init__(url, patience=0, progress=self._shown, transport=transport)
        self._session.following_patience = FOLLOWING_SECONDS
        self._console = console
        self._driver = _Telling(self._driver.http, self.url, console)

    def data(self, *path: str) -> dict[str, Any]:
        """The JSON that the service sends for a path of these parts."""
        return dict(self.request("GET", path_of(*path)).json())

    def url_of(self, path: str) -> str:
        """The whole URL of a path of the service, to be shown."""
        return self.url.rstrip("/") + path

    def command(self, words: str) -> str:
        """A command for this service, to be shown: with --url unless the command finds it without."""
        usual = os.environ.get(URL_VARIABLE, DEFAULT_URL)
        return (
            f"`tailprune {words}`"
            if self._session.address == usual
            else f"`tailprune {words} --url {shlex.quote(self.url)}`"
        )

    @contextmanager
    def _shown(self, job: JobView) -> Iterator[Show]:
        try:
            with shown(job, self._console) as show:
                yield show
        except KeyboardInterrupt:
            watch, cancel = self.command(f"jobs watch {job.id}"), self.command(f"jobs cancel {job.id}")
            say(f"job {job.id} continues to run: {watch} follows it, {cancel} stops it")
            raise


class _Telling(Driver):
    """Says that an answer is waited for."""

    def __init__(self, http: httpx.Client, url: str, console: Console) -> None:
        super().__init__(http)
        self._url, self._console = url, console

    def send(self, call: Call) -> httpx.Response:
        """The response to a request."""
        late = Timer(SILENT_SECONDS, say, (f"waiting for an answer from {self._url}", self._console))
        late.daemon = True
        late.start()
        try:
            return super().send(call)
        finally:
            late.cancel()
