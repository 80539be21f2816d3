"""Does a study's tasks: the worker that holds the job, with the help of all free workers.

The holder offers unfinished tasks as a Celery group, on a queue that workers read last, and does them itself meanwhile.
A worker takes a lease on a task before it does it. A task that another worker has leased is passed over until it is
done, or until the lease expires because its worker is gone. With one worker, the offers arrive when all is done.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from jobs.storage.shards import ShardStore
from jobs.tracing import span
from workers.lease import Run

__all__ = ["OnFraction", "Task", "complete_tasks", "try_task"]

PAUSE_SECONDS = 0.2
LOOK_SECONDS = 1.0
"""How long the holder does tasks before it looks again which of them others have done, at least."""
LOOK_FACTOR = 20
"""The same, as a multiple of the time that the last look took."""
OFFER_SECONDS = 60.0
"""After how long unfinished tasks are offered again if no offer waits: a worker that took one may have failed."""
MOST_TIMES = 3
"""How often the same task is done before its shards count as lost as soon as they are made."""

OnFraction = Callable[[float], None]
"""Called with the fraction of a task that is done, from 0 to 1; may raise to stop it."""


class Task(Protocol):
    """A part of a study that any worker can do. It is done once something is stored under each of its keys."""

    @property
    def keys(self) -> Sequence[str]:
        """The keys of what it makes."""
        ...

    @property
    def lease(self) -> str:
        """The name of the lease that a worker holds while it does the task."""
        ...

    @property
    def samples(self) -> int:
        """How many samples it counts in the progress of the study."""
        ...

    @property
    def message(self) -> dict[str, Any]:
        """The task as the content of a message."""
        ...

    def do(self, on_fraction: OnFraction) -> int:
        """Do what is missing of the task; return how many samples were made."""
        ...


def complete_tasks(
    tasks: Sequence[Task],
    shards: ShardStore,
    run: Run,
    on_progress: Callable[[float], None],
    on_made: Callable[[int], None],
) -> None:
    """Do tasks until all are done, here or by other workers. While Redis is unavailable, wait.

    tasks: parts of the study that `run` holds.
    shards: where their results are stored and leased.
    run: the job, through which tasks are offered.
    on_progress: called with the samples done of all tasks, with a fraction for the task under way; may raise to stop.
    on_made: called with the samples made here, after each task done here.
    Raises Stopped where the job has to stop, RuntimeError where results are lost as soon as they are stored.
    """
    _Holder(tasks, shards, run, on_progress, on_made).complete()


class _Holder:
    """The worker that holds a study, until its tasks are done."""

    def __init__(
        self,
        tasks: Sequence[Task],
        shards: ShardStore,
        run: Run,
        on_progress: Callable[[float], None],
        on_made: Callable[[int], None],
    ) -> None:
        self._shards, self._run, self._on_progress, self._on_made = shards, run, on_progress, on_made
        self._total = sum(task.samples for task in tasks)
        self._unfinished = list(tasks)
        """The tasks that no look has found done."""
        self._remaining: list[Task] = []
        """Of those, the ones that were not done here since the last look."""
        self._next_look = 0.0
        self._last_offer: float | None = None
        self._times_done: Counter[str] = Counter()

    def complete(self) -> None:
        while True:
            self._run.check()
            if not self._remaining or time.monotonic() >= self._next_look:
                self._look()
                if not self._unfinished:
                    return
            self._offer()
            if not self._do_one():
                time.sleep(PAUSE_SECONDS)
                self._next_look = 0.0

    def _look(self) -> None:
        """Find out which tasks are done, here or elsewhere."""
        begun = time.monotonic()
        self._unfinished = self._run.retry(partial(_unfinished, self._unfinished, self._shards))
        self._remaining, ended = list(self._unfinished), time.monotonic()
        self._next_look = ended + max(LOOK_SECONDS, LOOK_FACTOR * (ended - begun))
        self._on_progress(self._samples_done)

    def _offer(self) -> None:
        """Offer the remaining tasks to other workers, but for the first, which is the holder's own."""
        last = self._last_offer
        due = last is None or (time.monotonic() > last + OFFER_SECONDS and not self._run.offers_waiting)
        if due and len(self._remaining) > 1:
            self._last_offer = time.monotonic()
            self._run.offer([task.message for task in self._remaining[1:]])

    def _do_one(self) -> bool:
        """Do the first task that no other worker has leased; False where all are leased."""
        done_before = self._samples_done

        def on_fraction(task: Task, fraction: float) -> None:
            self._on_progress(done_before + fraction * task.samples)
            self._run.check()

        done = self._run.retry(partial(_do_first_free, self._remaining, self._shards, on_fraction))
        if done is None:
            return False
        task, samples = done
        self._remaining.remove(task)
        self._on_made(samples)
        self._times_done[task.lease] += 1
        if self._times_done[task.lease] > MOST_TIMES:
            raise RuntimeError(
                f"shards are missing again after {MOST_TIMES} attempts to make them: is there space for them?"
            )
        return True

    @property
    def _samples_done(self) -> int:
        return self._total - sum(task.samples for task in self._remaining)


def try_task(task: Task, shards: ShardStore, on_fraction: OnFraction) -> int | None:
    """Do a task; return how many samples were made, or None where another worker has leased it."""
    lease = shards.lease(task.lease)
    if lease is None:
        return None
    with lease, span("shard", tailprune__task=type(task).__name__, tailprune__samples=task.samples):
        return task.do(on_fraction)


def _unfinished(tasks: Sequence[Task], shards: ShardStore) -> list[Task]:
    """The tasks whose results are not all stored."""
    stored = shards.present([key for task in tasks for key in task.keys])
    return [task for task in tasks if not stored.issuperset(task.keys)]


def _do_first_free(
    tasks: Sequence[Task], shards: ShardStore, on_fraction: Callable[[Task, float], None]
) -> tuple[Task, int] | None:
    """Do the first task that can be leased; return it and the samples made, or None where all are leased."""
    for task in tasks:
        samples = try_task(task, shards, partial(on_fraction, task))
        if samples is not None:
            return task, samples
    return None
