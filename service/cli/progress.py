"""The progress of a job on stderr: a bar at a terminal, elsewhere a line now and then; and the time that is left."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)  # fmt: skip
from rich.table import Column
from rich.text import Text

from jobs.records import FINISHED, JobView
from service.cli.terminal import say
from tailprune_client.following import Update
from tailprune_client.progress import Show

__all__ = ["Pace", "shown", "words"]

WINDOW_SECONDS = 60.0
"""How far back progress is looked at for the time that is left."""
LINE_SECONDS = 10.0
LINES = 10
"""Where no bar can be shown, a line is written after so long, and at each of so many parts of a job or its time ..."""
LEAST_LINE_SECONDS = 1.0
"""... but not sooner than this after the one before."""


class Pace:
    """How fast a job advances, and when it will be done.

    It looks at the reports of the last minute, of one attempt of the job, from its first advance on: neither the time
    in the queue, nor that of loading the model, nor what was found already done counts.
    """

    def __init__(self) -> None:
        self._last: tuple[float, int] | None = None
        self._seen: deque[tuple[float, int]] = deque()
        self._unit = ""
        self._total = 0
        self._arrived = 0.0
        self._by_events = False

    def note(self, update: Update) -> None:
        """Take a report into account."""
        progress, arrived = update.job.progress, time.monotonic()
        if update.job.status != "running" or progress is None:
            self._last = None
            self._seen.clear()
            return
        at = arrived if update.at is None else update.at
        before, self._last = self._last, (at, progress.done)
        other = progress.unit != self._unit or self._by_events != (update.at is not None)
        self._unit, self._total, self._by_events = progress.unit, progress.total, update.at is not None
        if before is None or other or at < before[0] or progress.done < before[1]:
            self._seen.clear()
            return
        if progress.done == before[1]:
            return
        self._seen.append((at, progress.done))
        self._arrived = arrived
        while len(self._seen) > 2 and self._seen[1][0] <= at - WINDOW_SECONDS:
            self._seen.popleft()

    def left(self, now: float | None = None) -> float | None:
        """About the seconds until all is done; None while that cannot be said, and once all is done.

        now: a time of time.monotonic(); the present by default.
        """
        if len(self._seen) < 2 or self._seen[-1][1] >= self._total:
            return None
        (first, done_before), (last, done) = self._seen[0], self._seen[-1]
        since = (time.monotonic() if now is None else now) - self._arrived
        # The next unit is overdue if it takes longer than the ones before: then they all may.
        each = max((last - first) / (done - done_before), (last + since - first) / (done - done_before + 1))
        return max(0.0, (self._total - done) * each - since)


def words(seconds: float) -> str:
    """A time in words, to the precision that matters: 8 s, 1 min 20 s, 12 min, 3 h 5 min."""
    seconds = round(seconds)
    minutes, hours = seconds // 60, seconds // 3600
    if hours:
        return f"{hours} h {minutes % 60} min"
    if minutes >= 5:
        return f"{minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"


@contextmanager
def shown(job: JobView, console: Console) -> Iterator[Show]:
    """Shows the progress of a job, by the function that it gives; nothing of a job that had finished before."""
    if job.status in FINISHED:
        yield lambda _: None
    elif console.is_terminal and not console.is_dumb_terminal:
        with _Bar(job, console) as bar:
            yield bar.show
    else:
        with _Lines(job, console) as lines:
            yield lines.show


def _status(job: JobView) -> str:
    return f"{job.kind} waiting for a worker" if job.status == "queued" else f"{job.kind} {job.status}"


def _whole() -> Column:
    """A column that is never wrapped: what does not fit is left out, without an ellipsis, which ASCII has not."""
    return Column(no_wrap=True, overflow="crop")


class _Left(ProgressColumn):
    """The time that is left, counted down between the reports."""

    def __init__(self, pace: Pace) -> None:
        super().__init__(_whole())
        self._pace = pace

    def render(self, task: Task) -> Text:
        left = self._pace.left()
        return Text("" if left is None else f"about {words(max(left, 1))} left")


LEAST_BAR = 6
BESIDE_BAR = 70
"""The width of all that is beside a bar: `prune-sample`, 100000/100000 samples, the times elapsed and left."""


class _Bar:
    """A bar, which goes away at the end."""

    def __init__(self, job: JobView, console: Console) -> None:
        self._pace = Pace()
        columns: list[ProgressColumn] = [
            SpinnerColumn("line" if console.options.ascii_only else "dots"),
            TextColumn("{task.description}", table_column=_whole()),
            BarColumn(bar_width=max(LEAST_BAR, min(40, console.width - BESIDE_BAR))),
            TextColumn("{task.fields[count]}", table_column=_whole()),
            TimeElapsedColumn(),
            _Left(self._pace),
        ]
        self._narrow = console.width < BESIDE_BAR + LEAST_BAR
        if self._narrow:  # what tells most is kept
            columns = [columns[1], columns[3], columns[5]]
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = self._progress.add_task(_status(job), total=None, count="")

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def show(self, update: Update) -> None:
        self._pace.note(update)
        job, progress = update.job, update.job.progress
        if progress is None:
            self._progress.update(self._task, description=_status(job), total=None, completed=0, count="")
        else:
            text, count = "" if self._narrow else job.kind, f"{progress.done}/{progress.total} {progress.unit}"
            self._progress.update(
                self._task, description=text, completed=progress.done, total=progress.total, count=count
            )


class _Lines:
    """A line now and then, for logs."""

    def __init__(self, job: JobView, console: Console) -> None:
        self._console = console
        self._pace = Pace()
        self._update = Update(job)
        self._begun = self._written = time.monotonic()
        self._written_part = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._ticks = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> _Lines:
        job = self._update.job
        say(f"job {job.id}: {_status(job)}", self._console)
        self._ticks.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._ticks.join()
        job = self._update.job
        if job.status in FINISHED:
            say(f"job {job.id}: {_status(job)} after {words(time.monotonic() - self._begun)}", self._console)

    def show(self, update: Update) -> None:
        with self._lock:
            self._pace.note(update)
            self._update = update
            self._written_part = min(self._written_part, self._part)  # another attempt began
            is_due = self._part > self._written_part and time.monotonic() - self._written >= LEAST_LINE_SECONDS
            if is_due and update.job.status not in FINISHED:
                self._write()

    @property
    def _part(self) -> int:
        progress = self._update.job.progress
        return 0 if progress is None or progress.total == 0 else LINES * progress.done // progress.total

    def _tick(self) -> None:
        while not self._stop.wait(LINE_SECONDS / 10):
            with self._lock:
                now = time.monotonic()
                if now - self._written >= max(LINE_SECONDS, (now - self._begun) / LINES):
                    self._write()

    def _write(self) -> None:
        job, progress, left = self._update.job, self._update.job.progress, self._pace.left()
        text = _status(job) if progress is None else f"{job.kind}: {progress.done}/{progress.total} {progress.unit}"
        text += f", {words(time.monotonic() - self._begun)} elapsed"
        say(text if left is None else f"{text}, about {words(max(left, 1))} left", self._console)
        self._written, self._written_part = time.monotonic(), self._part
