"""What workers share of a study: blocks of samples, and the scores of its variants once all samples are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from jobs.keys import digest
from jobs.records import Job
from jobs.registry.evaluation import Measure
from jobs.requests.study import StudyRequest
from jobs.store.leases import LeaseStore
from tailprune.spec.prune import PruneSpec
from workers.context import Context
from workers.handler import source_of
from workers.lease import Shutdown, TaskRun
from workers.study.coordination import OnShare, Task, attempt
from workers.study.scoring import Scorer
from workers.study.shard_maker import ShardMaker
from workers.study.shards import Block, blocks_of

__all__ = ["SLOW", "SamplingTask", "ScoringTask", "TaskHelper", "scoring_tasks"]

SLOW: tuple[Measure, ...] = ("kid", "precision", "recall")
"""Measures that take long: each is a task of its own."""

log = structlog.get_logger(__name__)


class _Offer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int
    """How many samples the study's blocks have at most."""


class SamplingOffer(_Offer):
    """`SamplingTask`, as a message says it."""

    do: Literal["make"] = "make"
    block: int = Field(ge=0)
    """Its place among the blocks of the study."""
    prunes: list[PruneSpec]


class ScoringOffer(_Offer):
    """`ScoringTask`, as a message says it."""

    do: Literal["score"] = "score"
    prune: PruneSpec | None
    measures: list[Measure]


_OFFERS: TypeAdapter[SamplingOffer | ScoringOffer] = TypeAdapter(
    Annotated[SamplingOffer | ScoringOffer, Field(discriminator="do")]
)


@dataclass(frozen=True, eq=False)
class SamplingTask:
    """A block of samples under some prunes; the baseline belongs to it."""

    maker: ShardMaker
    block: Block
    place: int
    """That of the block among all of the study."""
    prunes: Sequence[PruneSpec]
    size: int

    @cached_property
    def keys(self) -> list[str]:
        return [self.maker.addresses.measured(self.block, prune) for prune in self._variants]

    @cached_property
    def lease(self) -> str:
        """That of the samples: who would measure them otherwise waits for them too."""
        return digest([self.maker.addresses.latents(self.block, prune) for prune in self._variants])

    @property
    def samples(self) -> int:
        return len(self.block.subjects)

    @property
    def offer(self) -> dict[str, Any]:
        return SamplingOffer(block=self.place, size=self.size, prunes=list(self.prunes)).model_dump(mode="json")

    def do(self, on_share: OnShare) -> int:
        made = self.maker.make(self.block, self._variants, on_share)
        if made:
            log.info("shard made", number=self.block.number, first=self.block.subjects[0], samples=made)
        return made

    @property
    def _variants(self) -> list[PruneSpec | None]:
        return [None, *self.prunes]


@dataclass(frozen=True, eq=False)
class ScoringTask:
    """The scores of a variant by some measures. prune: None for the baseline."""

    scorer: Scorer
    blocks: Sequence[Block]
    prune: PruneSpec | None
    measures: Sequence[Measure]
    size: int

    @property
    def samples(self) -> int:
        """None are made."""
        return 0

    @cached_property
    def keys(self) -> list[str]:
        return list(self.scorer.keys(self.blocks, self.prune, self.measures).values())

    @cached_property
    def lease(self) -> str:
        return digest(self.keys)

    @property
    def offer(self) -> dict[str, Any]:
        return ScoringOffer(size=self.size, prune=self.prune, measures=list(self.measures)).model_dump(mode="json")

    def do(self, on_share: OnShare) -> int:
        on_share(0.0)
        self.scorer.whole(self.blocks, self.prune, self.measures)
        return 0


def scoring_tasks(
    scorer: Scorer,
    blocks: Sequence[Block],
    prunes: Sequence[PruneSpec | None],
    measures: Sequence[Measure],
    size: int,
) -> list[Task]:
    """The scores of these variants by all measures, what takes longest first."""
    quick = [measure for measure in measures if measure not in SLOW]
    groups = [*([measure] for measure in SLOW if measure in measures), *([quick] if quick else [])]
    return [ScoringTask(scorer, blocks, prune, group, size) for group in groups for prune in prunes]


def offered(message: Any, scorer: Scorer) -> Task:
    """The task that a message offers. Raises InputError for a message that does not, IndexError for no block."""
    offer = _OFFERS.validate_python(message)
    maker = scorer.maker
    blocks = blocks_of(maker.request, offer.size)
    if isinstance(offer, SamplingOffer):
        return SamplingTask(maker, blocks[offer.block], offer.block, offer.prunes, offer.size)
    return ScoringTask(scorer, blocks, offer.prune, offer.measures, offer.size)


class TaskHelper:
    """Does tasks that the holders of studies offer. Keeps what the last study needs, for its offers come in a row."""

    def __init__(self, leases: LeaseStore, context: Context, shutdown: Shutdown) -> None:
        self._leases = leases
        self._context = context
        self._shutdown = shutdown
        self.last: tuple[str, ShardMaker] | None = None
        """The last study and what makes its shards, with its model."""

    def help(self, job: Job, message: Mapping[str, Any]) -> None:
        """Do an offered task, unless another worker does it. Raises Stopped where the study is over."""

        def on_made(samples: int) -> None:
            self._context.count_samples(job.model, samples)

        with TaskRun(self._leases, job.id, self._shutdown) as run:
            scorer = Scorer(self._maker(job), self._context.evaluators, run, on_made)
            on_made(attempt(offered(message, scorer), self._context.shards, lambda _: run.check()) or 0)

    def _maker(self, job: Job) -> ShardMaker:
        if self.last is None or self.last[0] != job.id:
            request = StudyRequest.model_validate(job.request)
            self.last = job.id, ShardMaker.of(request, source_of(job, request, self._context), self._context)
        return self.last[1]
