"""Who does a study's tasks: the worker that holds the job, and all that are free.

The holder offers what is missing as a Celery group, on a queue that workers look at last, and goes through it itself.
Whoever takes a task takes a lease on it first; one that another has is left alone until it is done, or until the lease
lapsed because its worker is gone. With one worker the offers find everything done.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from jobs.storage.shards import ShardStore
from workers.lease import Run

__all__ = ["OnShare", "Task", "attempt", "complete"]

PAUSE_SECONDS = 0.2
LOOK_SECONDS = 1.0
"""How long the holder goes on with what is missing before it looks again what others have done."""
LOOK_SHARE = 20
"""... and as many times what the last look took."""
OFFER_SECONDS = 60.0
"""After so long, what is missing is offered again if nothing waits: who took it could not do it, or nobody heard."""
MOST_TIMES = 3
"""How often the same task is done before what it makes counts as lost as fast as it is made."""

OnShare = Callable[[float], None]
"""Hears which share of a task is done, from 0 to 1, and may raise to stop it."""


class Task(Protocol):
    """Part of a study that any worker can do. It is done once something is kept under each of its keys."""

    @property
    def keys(self) -> Sequence[str]: ...

    @property
    def lease(self) -> str:
        """Who holds this does it."""
        ...

    @property
    def samples(self) -> int:
        """How far it brings the study."""
        ...

    @property
    def offer(self) -> dict[str, Any]:
        """The task as a message says it."""
        ...

    def do(self, on_share: OnShare) -> int:
        """Does what is missing of it; how many samples were made."""
        ...


def complete(
    tasks: Sequence[Task],
    shards: ShardStore,
    run: Run,
    on_progress: Callable[[float], None],
    on_made: Callable[[int], None],
) -> None:
    """Returns when every task is done.

    on_progress: hears how many samples of these tasks are there, those of the one under way by its share. on_made:
    hears how many the holder made in a task. While Redis cannot be reached, it waits. Raises RuntimeError where what
    was made does not stay.
    """
    total = sum(task.samples for task in tasks)
    times: Counter[str] = Counter()
    unseen = list(tasks)  # not found done so far
    left: list[Task] = []  # of those, what the holder has not done since it looked
    look = 0.0
    offered: float | None = None

    def there() -> int:
        return total - sum(task.samples for task in left)

    while True:
        run.check()
        if not left or time.monotonic() >= look:
            begun = time.monotonic()
            unseen = run.retry(partial(_missing, unseen, shards))
            left, ended = list(unseen), time.monotonic()
            look = ended + max(LOOK_SECONDS, LOOK_SHARE * (ended - begun))
            on_progress(there())
            if not unseen:
                return
        due = offered is None or (time.monotonic() > offered + OFFER_SECONDS and not run.offers_waiting)
        if due and len(left) > 1:
            offered = time.monotonic()
            run.offer([task.offer for task in left[1:]])

        def on_share(task: Task, share: float, before: int = there()) -> None:
            on_progress(before + share * task.samples)
            run.check()

        taken = run.retry(partial(_do_any, left, shards, on_share))
        if taken is None:
            time.sleep(PAUSE_SECONDS)
            look = 0.0
            continue
        task, made = taken
        left.remove(task)
        on_made(made)
        times[task.lease] += 1
        if times[task.lease] > MOST_TIMES:
            raise RuntimeError(f"shards do not stay: the same was made {MOST_TIMES} times; is there room?")


def attempt(task: Task, shards: ShardStore, on_share: OnShare) -> int | None:
    """Does a task; how many samples were made, or None where somebody else is at it."""
    lease = shards.lease(task.lease)
    if lease is None:
        return None
    with lease:
        return task.do(on_share)


def _missing(tasks: Sequence[Task], shards: ShardStore) -> list[Task]:
    """Those that are not done."""
    there = shards.present([key for task in tasks for key in task.keys])
    return [task for task in tasks if not there.issuperset(task.keys)]


def _do_any(
    tasks: Sequence[Task], shards: ShardStore, on_share: Callable[[Task, float], None]
) -> tuple[Task, int] | None:
    """The first task that is to be had, and the samples made for it; None where others have all of them."""
    for task in tasks:
        made = attempt(task, shards, partial(on_share, task))
        if made is not None:
            return task, made
    return None
