"""The result of a study as far as it is known: assembled at the end, and published while the study runs."""

from __future__ import annotations

import time
from collections.abc import Sequence

from jobs.registry.evaluation import EvaluationAssets, Measure
from jobs.results import Embedding, Engine, ModelUsed, Removed
from jobs.study_results import ReferenceUsed, Score, ScoresSoFar, SearchResult, Shards, StudyResult, StudyVariant
from tailprune import Prune
from tailprune.spec.prune import PruneSpec
from workers.lease import Run
from workers.model_pool import Source
from workers.outputs.report import removal_of
from workers.sampling.plan import PlannedVariant
from workers.study.scoring import Scorer, measures_used
from workers.study.shards import SampleBlock
from workers.study.tasks import SLOW

__all__ = ["StudyResults"]

PUBLISH_SECONDS = 5.0
"""The least time between two partial results."""
PUBLISH_FACTOR = 20
"""The same, as a multiple of the time that the last partial result took."""


class StudyResults:
    """Assembles the results of a study.

    source: the model.
    blocks: all blocks of the study.
    scorer: scores its variants.
    engine: the device and precision that it is computed with.
    registered: has the references that samples are compared with.
    """

    def __init__(
        self,
        source: Source,
        blocks: Sequence[SampleBlock],
        scorer: Scorer,
        engine: Engine,
        registered: EvaluationAssets,
    ) -> None:
        self.search: SearchResult | None = None
        """The search so far, of a study with one."""
        self.found = 0
        """How many shards of the study were stored before it needed them."""
        self._source, self._blocks, self._scorer, self._engine = source, blocks, scorer, engine
        self._maker = scorer.maker
        self._measures = measures_used(self._maker.request, self._maker.measures)
        self._references = {
            name: ReferenceUsed(images=registered.image_count(name), passed_over=registered.passed_over(name))
            for name in self._maker.request.references
        }
        self._removals: dict[PruneSpec, tuple[Removed, Embedding]] = {}
        self._partial_scores: dict[tuple[PruneSpec | None, int, tuple[str, ...]], dict[Measure, Score]] = {}
        self._next_publication = 0.0

    def publish(self, run: Run, prunes: Sequence[PruneSpec]) -> None:
        """Publish the scores of the blocks that are done under all these prunes, unless it was done just before."""
        begun = time.monotonic()
        if begun < self._next_publication:
            return
        if self._next_publication:
            missing = self._maker.missing(self._blocks, [None, *prunes])
            done = [block for block in self._blocks if block not in missing]
            quick = [measure for measure in self._maker.request.measures or [] if measure not in SLOW]
            result = self._result([None, *prunes], done, quick, complete=False)
            samples = sum(len(block.subjects) for block in self._blocks)
            run.publish(result, ScoresSoFar.of(result, samples * len(result.variants)))
        now = time.monotonic()
        self._next_publication = now + max(PUBLISH_SECONDS, PUBLISH_FACTOR * (now - begun))

    def complete(self, prunes: Sequence[PruneSpec]) -> StudyResult:
        """The result under these prunes, once all samples are made."""
        return self._result([None, *prunes], self._blocks, self._maker.request.measures or [], complete=True)

    def complete_variant(self, prune: PruneSpec | None, measures: Sequence[Measure]) -> StudyVariant:
        """A variant with its final scores by these measures. `prune` is None for the baseline."""
        return self._variant(prune, self._blocks, measures, complete=True)

    def fraction_of(self, prune: PruneSpec) -> float:
        """The share of the components of pruned vectors that a prune removes."""
        return self._removal(prune)[0].fraction

    def _result(
        self,
        prunes: Sequence[PruneSpec | None],
        blocks: Sequence[SampleBlock],
        measures: Sequence[Measure],
        complete: bool,
    ) -> StudyResult:
        total, done = len(self._blocks) * len(prunes), len(blocks) * len(prunes)
        return StudyResult(
            model=ModelUsed(name=self._maker.request.model, digest=self._source.identity.weights),
            complete=complete,
            measures=self._measures,
            references=self._references,
            variants=[self._variant(prune, blocks, measures, complete) for prune in prunes],
            search=self.search,
            shards=Shards(total=total, done=done, made=max(0, done - self.found), found=self.found),
            engine=self._engine,
        )

    def _variant(
        self, prune: PruneSpec | None, blocks: Sequence[SampleBlock], measures: Sequence[Measure], complete: bool
    ) -> StudyVariant:
        removed, embedding = (None, None) if prune is None else self._removal(prune)
        if complete:
            scores = self._scorer.final_scores(blocks, prune, measures)
        else:
            scores = self._scores_so_far(prune, blocks, measures)
        return StudyVariant(
            name=PlannedVariant.of(prune).name,
            prune=prune,
            removed=removed,
            embedding=embedding,
            samples=sum(len(block.subjects) for block in blocks),
            scores=scores,
        )

    def _scores_so_far(
        self, prune: PruneSpec | None, blocks: Sequence[SampleBlock], measures: Sequence[Measure]
    ) -> dict[Measure, Score]:
        key = prune, hash(tuple(blocks)), tuple(measures)
        if key not in self._partial_scores:
            self._partial_scores[key] = self._scorer.scores(blocks, prune, measures)
        return self._partial_scores[key]

    def _removal(self, prune: PruneSpec) -> tuple[Removed, Embedding]:
        if prune not in self._removals:
            maker = self._maker
            plan = maker.plan([prune], [])
            edit = plan.variants[0].prune
            assert isinstance(edit, Prune), "a study has prunes"
            self._removals[prune] = removal_of(maker.system, plan, maker.inputs, edit)
        return self._removals[prune]
