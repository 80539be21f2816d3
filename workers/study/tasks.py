"""The tasks that workers share in a study: blocks of samples, then the scores of its variants."""

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
from workers.handler import Context, source_of
from workers.lease import Shutdown, TaskRun
from workers.study.coordination import OnFraction, Task, try_task
from workers.study.scoring import Scorer
from workers.study.shard_maker import ShardMaker
from workers.study.shards import SampleBlock, blocks_of

__all__ = ["SLOW", "SamplingTask", "ScoringTask", "TaskHelper", "scoring_tasks"]

SLOW: tuple[Measure, ...] = ("kid", "precision", "recall")
"""Measures that take long to compute: each is a task of its own."""

log = structlog.get_logger(__name__)


class _TaskMessage(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int
    """The most samples of a block."""


class SamplingMessage(_TaskMessage):
    """A `SamplingTask` as a message."""

    do: Literal["make"] = "make"
    block: int = Field(ge=0)
    """The index of the block in the study."""
    prunes: list[PruneSpec]


class ScoringMessage(_TaskMessage):
    """A `ScoringTask` as a message."""

    do: Literal["score"] = "score"
    prune: PruneSpec | None
    measures: list[Measure]


_MESSAGE: TypeAdapter[SamplingMessage | ScoringMessage] = TypeAdapter(
    Annotated[SamplingMessage | ScoringMessage, Field(discriminator="do")]
)


@dataclass(frozen=True, eq=False)
class SamplingTask:
    """A block of samples under some prunes, and unpruned."""

    maker: ShardMaker
    block: SampleBlock
    index: int
    """The index of the block in the study."""
    prunes: Sequence[PruneSpec]
    size: int
    """The most samples of a block."""

    @cached_property
    def keys(self) -> list[str]:
        return [self.maker.addresses.measured(self.block, prune) for prune in self._variants]

    @cached_property
    def lease(self) -> str:
        """Of the latents: a study with other measures of the same samples waits for them too."""
        return digest([self.maker.addresses.latents(self.block, prune) for prune in self._variants])

    @property
    def samples(self) -> int:
        return len(self.block.subjects)

    @property
    def message(self) -> dict[str, Any]:
        return SamplingMessage(block=self.index, size=self.size, prunes=list(self.prunes)).model_dump(mode="json")

    def do(self, on_fraction: OnFraction) -> int:
        samples = self.maker.make(self.block, self._variants, on_fraction)
        if samples:
            log.info("shard made", number=self.block.number, first=self.block.subjects[0], samples=samples)
        return samples

    @property
    def _variants(self) -> list[PruneSpec | None]:
        return [None, *self.prunes]


@dataclass(frozen=True, eq=False)
class ScoringTask:
    """The scores of a variant by some measures. `prune` is None for the baseline."""

    scorer: Scorer
    blocks: Sequence[SampleBlock]
    prune: PruneSpec | None
    measures: Sequence[Measure]
    size: int

    @property
    def samples(self) -> int:
        """0: scoring makes no samples."""
        return 0

    @cached_property
    def keys(self) -> list[str]:
        return list(self.scorer.keys(self.blocks, self.prune, self.measures).values())

    @cached_property
    def lease(self) -> str:
        return digest(self.keys)

    @property
    def message(self) -> dict[str, Any]:
        return ScoringMessage(size=self.size, prune=self.prune, measures=list(self.measures)).model_dump(mode="json")

    def do(self, on_fraction: OnFraction) -> int:
        on_fraction(0.0)
        self.scorer.final_scores(self.blocks, self.prune, self.measures)
        return 0


def scoring_tasks(
    scorer: Scorer,
    blocks: Sequence[SampleBlock],
    prunes: Sequence[PruneSpec | None],
    measures: Sequence[Measure],
    size: int,
) -> list[Task]:
    """The tasks that score these variants by these measures, the longest first.

    scorer: of the study.
    blocks: all blocks of the study.
    prunes: the variants; None is the baseline.
    measures: those of the request.
    size: the most samples of a block.
    """
    quick = [measure for measure in measures if measure not in SLOW]
    groups = [*([measure] for measure in SLOW if measure in measures), *([quick] if quick else [])]
    return [ScoringTask(scorer, blocks, prune, group, size) for group in groups for prune in prunes]


def task_of(content: Any, scorer: Scorer) -> Task:
    """The task of a message. Raises ValidationError for other content, IndexError for a block that does not exist."""
    message = _MESSAGE.validate_python(content)
    maker = scorer.maker
    blocks = blocks_of(maker.request, message.size)
    if isinstance(message, SamplingMessage):
        return SamplingTask(maker, blocks[message.block], message.block, message.prunes, message.size)
    return ScoringTask(scorer, blocks, message.prune, message.measures, message.size)


class TaskHelper:
    """Does tasks of studies that other workers hold. Keeps the model of the last study: its tasks come in a row."""

    def __init__(self, leases: LeaseStore, context: Context, shutdown: Shutdown) -> None:
        self._leases = leases
        self._context = context
        self._shutdown = shutdown
        self.last: tuple[str, ShardMaker] | None = None
        """The id of the last study, and its shard maker, which holds its model; set to None to release the model."""

    def help(self, job: Job, message: Mapping[str, Any]) -> None:
        """Do a task, unless another worker has leased it. Raises Stopped where the study is over."""

        def on_made(samples: int) -> None:
            self._context.count_samples(job.model, samples)

        with TaskRun(self._leases, job.id, self._shutdown) as run:
            scorer = Scorer(self._maker(job), self._context.evaluators, run, on_made)
            samples = try_task(task_of(message, scorer), self._context.shards, lambda _: run.check())
            on_made(samples or 0)

    def _maker(self, job: Job) -> ShardMaker:
        if self.last is None or self.last[0] != job.id:
            self.last = None  # so that its model can be dropped before the next one is loaded
            request = StudyRequest.model_validate(job.request)
            self.last = job.id, ShardMaker.of(request, source_of(job, request, self._context), self._context)
        return self.last[1]
