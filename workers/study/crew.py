"""Who makes a study's shards: the worker that holds the job, and all that are free.

The holder offers what is missing as a Celery group, on a queue that workers look at last, and goes through it itself.
Whoever takes a block takes a lease on it first; a block that another has is left alone until it is there, or until the
lease lapsed because its worker is gone. With one worker the offers find everything done.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import redis
import structlog
from pydantic import BaseModel, ConfigDict

from jobs.connection import is_unavailable
from jobs.keys import digest
from jobs.requests.prunes import PruneSpec
from jobs.shards import ShardStore
from workers.run import Accompanied, Run
from workers.study.blocks import Block, blocks_of
from workers.study.workshop import Workshop

__all__ = ["Offer", "complete", "help_with", "patiently"]

Answer = TypeVar("Answer")

PAUSE_SECONDS = 0.2
OFFER_SECONDS = 60.0
"""After so long, what is missing is offered again if nothing waits: who took it could not do it, or nobody heard."""
MOST_TIMES = 3
"""How often the same block is made before it counts as lost as fast as it is made."""

log = structlog.get_logger(__name__)

OnProgress = Callable[[float], None]
"""Hears how many samples are there of each variant, those of the block under way by its share."""


class Offer(BaseModel):
    """A block of a study under some prunes, as a message says it; the baseline belongs to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    block: int
    """Its place among the blocks of the study."""
    size: int
    """How many samples the blocks have at most."""
    prunes: list[PruneSpec]


def complete(
    workshop: Workshop,
    blocks: Sequence[Block],
    prunes: Sequence[PruneSpec],
    size: int,
    run: Run,
    on_progress: OnProgress,
    on_made: Callable[[int], None],
) -> None:
    """Returns when every block is there under every prune, and unpruned.

    blocks: of `blocks_of` with this size. on_made: hears how many samples the holder made of a block. While Redis
    cannot be reached, it waits. Raises RuntimeError where what was made does not stay.
    """
    variants = [None, *prunes]
    total = sum(len(block.subjects) for block in blocks)
    places = {block: place for place, block in enumerate(blocks)}
    made_before: Counter[Block] = Counter()
    offered = 0.0

    def lacking() -> list[Block]:
        missing = list(patiently(lambda: workshop.missing(blocks, variants), run))
        on_progress(total - sum(len(block.subjects) for block in missing))
        return missing

    missing = lacking()
    while missing:
        run.check()
        due = time.monotonic() > offered + OFFER_SECONDS and not run.offers_waiting if offered else True
        if due and len(missing) > 1:
            offered = time.monotonic()
            offers = [Offer(block=places[block], size=size, prunes=list(prunes)) for block in missing[1:]]
            run.invite([offer.model_dump(mode="json") for offer in offers])
        there = total - sum(len(block.subjects) for block in missing)

        def on_share(block: Block, share: float, there: int = there) -> None:
            on_progress(there + share * len(block.subjects))
            run.check()

        taken = patiently(partial(_make_any, workshop, missing, variants, on_share), run)
        if taken is None:
            time.sleep(PAUSE_SECONDS)
        else:
            block, made = taken
            on_made(made)
            made_before[block] += 1
            if made_before[block] > MOST_TIMES:
                raise RuntimeError(f"shards do not stay: the same block was made {MOST_TIMES} times; is there room?")
        missing = lacking()


def help_with(workshop: Workshop, offer: Offer, run: Accompanied) -> int | None:
    """Makes what is missing of an offered block; how many samples, or None where another has it."""
    block = blocks_of(workshop.request, offer.size)[offer.block]

    def on_share(_: float) -> None:
        run.check()

    return _make(workshop, block, [None, *offer.prunes], on_share)


def _make_any(
    workshop: Workshop,
    blocks: Sequence[Block],
    prunes: Sequence[PruneSpec | None],
    on_share: Callable[[Block, float], None],
) -> tuple[Block, int] | None:
    """The first block that is to be had, and the samples made of it; None where others have all of them."""
    for block in blocks:
        made = _make(workshop, block, prunes, partial(on_share, block))
        if made is not None:
            return block, made
    return None


def _make(
    workshop: Workshop, block: Block, prunes: Sequence[PruneSpec | None], on_share: Callable[[float], None]
) -> int | None:
    """The samples made of a block; None where somebody else has its lease."""
    shards: ShardStore = workshop.shards
    lease = shards.lease(digest([workshop.addresses.latents(block, prune) for prune in prunes]))
    if lease is None:
        return None
    with lease:
        made = workshop.make(block, prunes, on_share)
    if made:
        log.info("shard made", number=block.number, first=block.subjects[0], samples=made)
    return made


def patiently(ask: Callable[[], Answer], run: Run) -> Answer:
    """What is answered, once Redis can be reached. Raises Stopped where the job is not to go on."""
    while True:
        try:
            return ask()
        except redis.RedisError as error:
            if not is_unavailable(error):
                raise
            log.warning("Redis cannot be reached; the job waits", reason=str(error))
            run.check()
            time.sleep(PAUSE_SECONDS)
