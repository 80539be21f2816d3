"""The progress of a job, as a bar in a notebook or a terminal; nothing where tqdm is not installed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from jobs.records import FINISHED, JobView
from tailprune_client.following import Update

__all__ = ["Progress", "Show", "hidden", "shown_by"]

Show = Callable[[Update], None]
Progress = Callable[[JobView], AbstractContextManager[Show]]
"""What shows the progress of a job while it is waited for: a context in which each update is shown."""


def shown_by(progress: bool | Progress | None) -> Progress:
    """What shows progress: a bar (True), nothing (False), or a bar where someone sees it (None)."""
    if callable(progress):
        return progress
    return _bar if progress or (progress is None and _is_seen()) else hidden


@contextmanager
def hidden(job: JobView) -> Iterator[Show]:
    """Shows nothing."""
    yield lambda _: None


def _is_seen() -> bool:
    return "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())


@contextmanager
def _bar(job: JobView) -> Iterator[Show]:
    bar: Any = None

    def show(update: Update) -> None:
        nonlocal bar
        progress = update.job.progress
        if bar is None or update.job.status in FINISHED:
            return
        if progress is None:
            bar.set_description(f"{update.job.kind} {update.job.status}")
            return
        if progress.total != bar.total or progress.done < bar.n or bar.unit != f" {progress.unit}":
            bar.unit = f" {progress.unit}"
            bar.reset(progress.total)
        bar.set_description(f"{update.job.kind} {progress.phase or ''}".rstrip(), refresh=False)
        bar.update(progress.done - bar.n)

    try:
        if job.status not in FINISHED:
            from tqdm.auto import tqdm  # it looks for a notebook when it is imported

            bar = tqdm(desc=f"{job.kind} {job.status}", total=None, leave=False, mininterval=0)
    except ImportError:
        pass
    try:
        yield show
    finally:
        if bar is not None:
            bar.close()
