"""The job `study`: made and scored by as many workers as are free, put together by the one that holds it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

import redis
import torch

from jobs.registry.evaluation import Measure
from jobs.requests.study import StudyRequest
from jobs.results import Embedding, ModelUsed, Removed
from jobs.settings import Settings
from jobs.study_results import Score, SearchResult, Shards, StudyResult, StudyVariant
from tailprune import Prune
from tailprune.spec.prune import PruneSpec
from workers.context import Stores
from workers.evaluators import Evaluators
from workers.lease import Product, Run
from workers.model_pool import Models, Source
from workers.outputs.report import engine_of, removal_of
from workers.outputs.variant import JobArtifacts
from workers.sampling.plan import PlannedVariant
from workers.sampling.precision import dtype_drift
from workers.study.assessing import Assessor
from workers.study.coordination import complete
from workers.study.exports import write
from workers.study.scoring import measures_used
from workers.study.shard_maker import ShardMaker
from workers.study.shards import Block, blocks_of
from workers.study.tasks import SLOW, SamplingTask, scoring_tasks
from workers.study.threshold_search import search_threshold, sorted_magnitudes

__all__ = ["Study"]

UNIT = "samples"
PUBLISH_SECONDS = 5.0
"""The least time between two looks at what is there so far."""
PUBLISH_SHARE = 20
"""... and as many times what the last look took."""


class Study:
    """A study under way, at the worker that holds its job."""

    def __init__(
        self,
        request: StudyRequest,
        source: Source,
        models: Models,
        bench: Evaluators,
        stores: Stores,
        settings: Settings,
        run: Run,
    ) -> None:
        self._request, self._source, self._stores, self._run = request, source, stores, run
        self._size = settings.shard_samples
        self._blocks = blocks_of(request, self._size)
        self._workshop = ShardMaker.of_job(request, source, models, bench, stores, settings.batch_size)
        self._measures = measures_used(request, self._workshop.meter)
        drift = dtype_drift(request, source, models, self._workshop.of, stores.shards, run.check)
        self._engine = engine_of(models.device, self._workshop.system, drift)
        self._assessor = Assessor(self._workshop, bench, run, lambda samples: self._on_made(samples))
        if request.reference is not None and bench.registered.image_count(request.reference) in (0, None):
            self._assessor.reference()  # read at once: nothing is sampled where moments, or images, are damaged
        self._removed: dict[PruneSpec, tuple[Removed, Embedding]] = {}
        self._scored: dict[tuple[PruneSpec | None, int, tuple[str, ...]], dict[Measure, Score]] = {}
        self._search: SearchResult | None = None
        self._found = 0
        self._due = 0.0
        self._on_made: Callable[[int], None] = lambda _: None

    @torch.no_grad()
    def result(self, on_made: Callable[[int], None]) -> Product[StudyResult]:
        """Does the study. `run` hears of every step of sampling, and may raise to stop it.

        on_made: hears how many samples were made here, block by block.
        """
        self._on_made = on_made
        search, prunes = self._request.search, list(self._request.prunes or [])
        self._found = len(self._blocks) * (1 + len(prunes)) - self._lacking([None, *prunes])
        self._complete(prunes, 0 if search is None else search.trials)
        if search is not None:
            plan = self._workshop.plan([None], [])
            magnitudes = sorted_magnitudes(self._workshop.system, plan, self._workshop.of, search)
            trials: list[PruneSpec] = []

            def try_out(spec: PruneSpec) -> StudyVariant:
                if spec not in prunes:
                    self._found += len(self._blocks) - self._lacking([spec])
                    self._complete([*prunes, *trials, spec], search.trials - len(trials) - 1, trial=spec)
                    trials.append(spec)
                return self._scored_variant(spec, self._blocks, [search.measure], whole=True)

            def on_trial(found: SearchResult) -> None:
                self._search = found

            baseline = self._scored_variant(None, self._blocks, [search.measure], whole=True)
            self._search = search_threshold(search, magnitudes, baseline, try_out, on_trial)
            prunes += trials
        self._score([None, *prunes])
        whole = self._result([None, *prunes], self._blocks, self._request.measures or [], complete=True)
        samples = sum(len(block.subjects) for block in self._blocks) * (1 + len(prunes))
        self._run.step(samples, samples, UNIT)
        shelf = JobArtifacts(self._stores.artifacts)
        return Product(whole.model_copy(update={"exports": write(whole, shelf, self._request)}), shelf.artifacts)

    def _complete(self, prunes: list[PruneSpec], planned: int, trial: PruneSpec | None = None) -> None:
        """Has all shards made of these prunes, or of the trial that is the last of them.

        `planned` further prunes count as nothing done so far.
        """
        each = sum(len(block.subjects) for block in self._blocks)
        total = each * (1 + len(prunes) + planned)
        shown = prunes if trial is None else prunes[:-1]

        def on_progress(there: float) -> None:
            done = there * (1 + len(prunes)) if trial is None else each * len(prunes) + there
            self._run.step(round(done), total, UNIT)
            with contextlib.suppress(redis.RedisError):
                self._publish(shown)

        asked = prunes if trial is None else [trial]
        tasks = [
            SamplingTask(self._workshop, block, place, asked, self._size) for place, block in enumerate(self._blocks)
        ]
        complete(tasks, self._stores.shards, self._run, on_progress, self._on_made)

    def _score(self, prunes: Sequence[PruneSpec | None]) -> None:
        """Has all samples scored under these prunes."""
        tasks = scoring_tasks(self._assessor, self._blocks, prunes, self._request.measures or [], self._size)
        complete(tasks, self._stores.shards, self._run, lambda _: None, self._on_made)

    def _publish(self, prunes: list[PruneSpec]) -> None:
        """Shows the scores of the blocks that are there under all prunes, now and then."""
        now = time.monotonic()
        if now < self._due:
            return
        if self._due:
            lacking = self._workshop.missing(self._blocks, [None, *prunes])
            there = [block for block in self._blocks if block not in lacking]
            quick = [measure for measure in self._request.measures or [] if measure not in SLOW]
            self._run.publish(self._result([None, *prunes], there, quick, complete=False))
        self._due = time.monotonic() + max(PUBLISH_SECONDS, PUBLISH_SHARE * (time.monotonic() - now))

    def _result(
        self, prunes: Sequence[PruneSpec | None], blocks: list[Block], measures: Sequence[Measure], complete: bool
    ) -> StudyResult:
        total = len(self._blocks) * len(prunes)
        done = len(blocks) * len(prunes)
        return StudyResult(
            model=ModelUsed(name=self._request.model, digest=self._source.identity.weights),
            complete=complete,
            measures=self._measures,
            variants=[self._scored_variant(prune, blocks, measures, whole=complete) for prune in prunes],
            search=self._search,
            shards=Shards(total=total, done=done, made=max(0, done - self._found), found=self._found),
            engine=self._engine,
        )

    def _scored_variant(
        self, prune: PruneSpec | None, blocks: list[Block], measures: Sequence[Measure], whole: bool = False
    ) -> StudyVariant:
        """whole: these blocks are all, so that their scores have intervals and are kept."""
        removed, embedding = (None, None) if prune is None else self._removal(prune)
        variant = PlannedVariant.of(prune)
        if whole:
            scores = self._assessor.whole(blocks, prune, measures)
        else:
            key = prune, hash(tuple(blocks)), tuple(measures)
            if key not in self._scored:
                self._scored[key] = self._assessor.scores(blocks, prune, measures)
            scores = self._scored[key]
        return StudyVariant(
            name=variant.name,
            prune=prune,
            removed=removed,
            embedding=embedding,
            samples=sum(len(block.subjects) for block in blocks),
            scores=scores,
        )

    def _removal(self, prune: PruneSpec) -> tuple[Removed, Embedding]:
        if prune not in self._removed:
            workshop = self._workshop
            self._removed[prune] = removal_of(workshop.system, workshop.plan([prune], []), workshop.of, Prune.of(prune))
        return self._removed[prune]

    def _lacking(self, prunes: Sequence[PruneSpec | None]) -> int:
        missing = self._run.retry(lambda: self._workshop.missing(self._blocks, prunes))
        return sum(map(len, missing.values()))
