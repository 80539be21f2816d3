"""What workers share of a study: blocks of samples, and the scores of its variants once all samples are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from jobs.keys import digest
from jobs.registry.evaluation import Measure
from tailprune.spec.prune import PruneSpec
from workers.study.assessing import Assessor
from workers.study.coordination import OnShare, Task
from workers.study.shard_maker import ShardMaker
from workers.study.shards import Block, blocks_of

__all__ = ["SLOW", "SamplingTask", "ScoringTask", "offered", "scoring_tasks"]

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

    workshop: ShardMaker
    block: Block
    place: int
    """That of the block among all of the study."""
    prunes: Sequence[PruneSpec]
    size: int

    @cached_property
    def keys(self) -> list[str]:
        return [self.workshop.addresses.measured(self.block, prune) for prune in self._variants]

    @cached_property
    def lease(self) -> str:
        """That of the samples: who would measure them otherwise waits for them too."""
        return digest([self.workshop.addresses.latents(self.block, prune) for prune in self._variants])

    @property
    def samples(self) -> int:
        return len(self.block.subjects)

    @property
    def offer(self) -> dict[str, Any]:
        return SamplingOffer(block=self.place, size=self.size, prunes=list(self.prunes)).model_dump(mode="json")

    def do(self, on_share: OnShare) -> int:
        made = self.workshop.make(self.block, self._variants, on_share)
        if made:
            log.info("shard made", number=self.block.number, first=self.block.subjects[0], samples=made)
        return made

    @property
    def _variants(self) -> list[PruneSpec | None]:
        return [None, *self.prunes]


@dataclass(frozen=True, eq=False)
class ScoringTask:
    """The scores of a variant by some measures. prune: None for the baseline."""

    assessor: Assessor
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
        return list(self.assessor.keys(self.blocks, self.prune, self.measures).values())

    @cached_property
    def lease(self) -> str:
        return digest(self.keys)

    @property
    def offer(self) -> dict[str, Any]:
        return ScoringOffer(size=self.size, prune=self.prune, measures=list(self.measures)).model_dump(mode="json")

    def do(self, on_share: OnShare) -> int:
        on_share(0.0)
        self.assessor.whole(self.blocks, self.prune, self.measures)
        return 0


def scoring_tasks(
    assessor: Assessor,
    blocks: Sequence[Block],
    prunes: Sequence[PruneSpec | None],
    measures: Sequence[Measure],
    size: int,
) -> list[Task]:
    """The scores of these variants by all measures, what takes longest first."""
    quick = [measure for measure in measures if measure not in SLOW]
    groups = [*([measure] for measure in SLOW if measure in measures), *([quick] if quick else [])]
    return [ScoringTask(assessor, blocks, prune, group, size) for group in groups for prune in prunes]


def offered(said: Any, assessor: Assessor) -> Task:
    """The task that a message offers. Raises ValueError for a message that does not, IndexError for no block."""
    offer = _OFFERS.validate_python(said)
    workshop = assessor.workshop
    blocks = blocks_of(workshop.request, offer.size)
    if isinstance(offer, SamplingOffer):
        return SamplingTask(workshop, blocks[offer.block], offer.block, offer.prunes, offer.size)
    return ScoringTask(assessor, blocks, offer.prune, offer.measures, offer.size)
