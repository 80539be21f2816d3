"""Puts a study's shards together into scores, at whichever worker is free, and keeps these as shards are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import structlog
from torch import Tensor

from jobs.keys import canonical_json
from jobs.registry.evaluation import Measure
from jobs.registry.models import ExtractorName
from jobs.study_results import Score
from tailprune.quality import Manifold, Reference
from tailprune.spec.prune import PruneSpec
from workers.evaluators import Evaluators
from workers.lease import Interruptible
from workers.study.scoring import Scorer
from workers.study.shard_maker import ShardMaker
from workers.study.shards import Block

__all__ = ["Assessor"]

MOST_REPAIRS = 3
"""How often shards that were lost while they were gathered are made again."""

log = structlog.get_logger(__name__)


class Assessor:
    """Scores variants of a study. `prune`: None for the baseline. While Redis cannot be reached, it waits.

    on_made: hears how many samples were made because a shard was gone.
    """

    def __init__(
        self, workshop: ShardMaker, bench: Evaluators, run: Interruptible, on_made: Callable[[int], None]
    ) -> None:
        self.workshop = workshop
        self._bench, self._run, self._on_made = bench, run, on_made
        self._scorer = Scorer(self.reference, self._manifold, workshop.request.targets is not None, run.check)

    def reference(self) -> Reference:
        """What the study's samples are compared with. Raises as `Evaluators.reference`."""
        name, extractor = self._names
        digests, check = self.workshop.instruments, self._run.check
        return self._run.retry(lambda: self._bench.reference(name, extractor, digests, check))

    def scores(
        self, blocks: Sequence[Block], prune: PruneSpec | None, measures: Sequence[Measure], intervals: bool = False
    ) -> dict[Measure, Score]:
        """The scores of these samples by each measure that there is of them."""
        return self._scorer.scores(measures, self._shards(blocks, prune), prune is None, intervals)

    def keys(self, blocks: Sequence[Block], prune: PruneSpec | None, measures: Sequence[Measure]) -> dict[Measure, str]:
        """What the scores are kept under, of the measures that there are of them."""
        there = [measure for measure in measures if self._scorer.applies(measure, prune is None)]
        return dict(zip(there, self.workshop.addresses.scores(blocks, prune, there), strict=True))

    def whole(
        self, blocks: Sequence[Block], prune: PruneSpec | None, measures: Sequence[Measure]
    ) -> dict[Measure, Score]:
        """The scores with their intervals: those that a worker has kept; the others are computed, and kept."""
        shards, keys = self.workshop.shards, self.keys(blocks, prune, measures)
        found: dict[Measure, Score] = {}
        for measure, key in keys.items():
            if (kept := self._run.retry(partial(shards.get, key))) is not None:
                found[measure] = Score.model_validate_json(kept)
        if missing := [measure for measure in keys if measure not in found]:
            for measure, score in self.scores(blocks, prune, missing, intervals=True).items():
                shards.put(keys[measure], canonical_json(score.model_dump()))
                found[measure] = score
            log.info("variant scored", prune="baseline" if prune is None else prune.name, measures=missing)
        return {measure: found[measure] for measure in keys}

    def _manifold(self, k: int) -> Manifold:
        name, extractor = self._names
        digests, check = self.workshop.instruments, self._run.check
        return self._run.retry(lambda: self._bench.manifold(name, extractor, digests, k, check))

    @property
    def _names(self) -> tuple[str, ExtractorName]:
        request = self.workshop.request
        assert request.reference is not None, "a measure against a reference has one"
        assert request.extractor is not None, "a measure against a reference has an extractor"
        return request.reference, request.extractor

    def _shards(self, blocks: Sequence[Block], prune: PruneSpec | None) -> list[dict[str, Tensor]]:
        """What was measured of these blocks; one that was lost meanwhile is made again."""
        found = []
        for block in blocks:
            self._run.check()
            look = partial(self.workshop.measured, block, prune)
            shard = self._run.retry(look)
            for _ in range(MOST_REPAIRS):
                if shard is not None:
                    break
                make = partial(self.workshop.make, block, [prune], lambda _: self._run.check())
                self._on_made(self._run.retry(make))
                shard = self._run.retry(look)
            if shard is None:
                raise RuntimeError("shards are lost as fast as they are made: is there room for them?")
            found.append(shard)
        return found
