"""A stack for one benchmark."""

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
"""How the names of settings begin."""


@dataclass(frozen=True)
class Stack:
    """A running stack."""

    url: str
    client: Client
    data_dir: Path


@contextmanager
def stack(workers: int = 1, **settings: str) -> Iterator[Stack]:
    """A stack with default settings but these, on a data folder that goes when it does."""
    for name in [name for name in os.environ if name.startswith(SETTINGS)]:
        del os.environ[name]  # jobs that another Redis knows would not be done
    with (
        tempfile.TemporaryDirectory(prefix="tailprune-benchmark-") as folder,
        running(Path(folder), workers, settings) as url,
        Client(url, Console(quiet=True)) as client,
    ):
        yield Stack(url, client, Path(folder))
