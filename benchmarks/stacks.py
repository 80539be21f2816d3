"""Starts the service and its workers for a benchmark."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from demo import running
from service.cli.client import Client

__all__ = ["Stack", "stack"]

SETTINGS = ("TAILPRUNE_", "REDIS_URL", "BROKER_URL")
"""The prefix of the settings' environment variables."""


@dataclass(frozen=True)
class Stack:
    """A running stack."""

    url: str
    client: Client
    data_dir: Path


@contextmanager
def stack(workers: int = 1, **settings: str) -> Iterator[Stack]:
    """Start a stack with default settings except these, on a temporary data folder."""
    for name in [name for name in os.environ if name.startswith(SETTINGS)]:
        del os.environ[name]  # such as the URL of another Redis
    with (
        tempfile.TemporaryDirectory(prefix="tailprune-benchmark-") as folder,
        running(Path(folder), workers, settings) as url,
        Client(url, Console(quiet=True)) as client,
    ):
        yield Stack(url, client, Path(folder))
