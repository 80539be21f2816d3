"""The job `study`: sampled and scored by all free workers, its result written by the worker that holds it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import redis
import torch

from jobs.requests.study import Search, StudyRequest
from jobs.study_results import SearchResult, StudyResult, StudyVariant
from tailprune.spec.prune import PruneSpec
from workers.handler import Context
from workers.lease import Product, Run
from workers.model_pool import Source
from workers.outputs.drift import dtype_drift
from workers.outputs.report import engine_of
from workers.outputs.variant import JobArtifacts
from workers.study.coordination import complete_tasks
from workers.study.exports import write
from workers.study.results import StudyResults
from workers.study.scoring import Scorer
from workers.study.shard_maker import ShardMaker
from workers.study.shards import blocks_of
from workers.study.tasks import SamplingTask, scoring_tasks
from workers.study.threshold_search import (
    Candidates,
    magnitudes_of,
    predicted_errors,
    search_error,
    search_threshold,
)

__all__ = ["handler"]

UNIT = "samples"


class StudyHandler:
    """Does studies."""

    request = StudyRequest

    def handle(self, run: Run, request: StudyRequest, source: Source, context: Context) -> Product[StudyResult]:
        """Sample and score the variants of a resolved request."""
        return _Study(run, request, source, context).result()


class _Study:
    """A running study, at the worker that holds its job."""

    def __init__(self, run: Run, request: StudyRequest, source: Source, context: Context) -> None:
        self._run, self._request, self._context = run, request, context
        self._size = context.settings.shard_samples
        self._blocks = [] if request.samples_nothing else blocks_of(request, self._size)
        self._samples_a_variant = sum(len(block.subjects) for block in self._blocks)
        self._planned = 0 if request.search is None or request.search.scored_by is None else request.search.trials
        run.phase = "loading"
        run.step(0, self._samples_a_variant * (1 + len(request.prunes or []) + self._planned), UNIT)
        self._maker = ShardMaker.of(request, source, context)
        drift = dtype_drift(request, source, self._maker.inputs, context, run.check)
        self._scorer = Scorer(self._maker, context.evaluators, run, self._count_samples)
        engine = engine_of(context.models.device, self._maker.system, drift)
        registered = context.evaluators.registered
        if request.reference is not None:
            self._scorer.reference()  # one that cannot be used fails the job before it samples
        self._results = StudyResults(source, self._blocks, self._scorer, engine, registered)

    @torch.no_grad()
    def result(self) -> Product[StudyResult]:
        """Do the study. `run` is called at every step of sampling, and may raise to stop it."""
        search, prunes = self._request.search, list(self._request.prunes or [])
        self._results.found = len(self._blocks) * (1 + len(prunes)) - self._missing([None, *prunes])
        self._sample(prunes, self._planned)
        if search is not None:
            prunes += self._search(search, prunes)
        self._score([None, *prunes])
        result = self._results.complete(prunes)
        samples = self._samples_a_variant * (1 + len(prunes))
        self._run.phase = "drawing"
        self._run.step(samples, samples, UNIT)
        files = JobArtifacts(self._context.artifacts)
        exports = write(result, files, self._request)
        return Product(result.model_copy(update={"exports": exports}), files.artifacts)

    def _search(self, search: Search, prunes: Sequence[PruneSpec]) -> list[PruneSpec]:
        """Search for the threshold; return the prunes that were sampled and are not among `prunes`."""
        results, measure = self._results, search.scored_by
        sampled = self._maker.system, self._maker.plan([None], []), self._maker.inputs
        magnitudes = magnitudes_of(*sampled, search)
        trials: list[PruneSpec] = []

        def on_trial(search_so_far: SearchResult) -> None:
            results.search = search_so_far

        if measure is None:
            candidates = Candidates(search, magnitudes, predicted_errors(*sampled, most=None, on_step=self._may_stop))
            results.search = search_error(search, candidates, results.fraction_of, on_trial)
            return trials
        candidates = Candidates(search, magnitudes, predicted_errors(*sampled))

        def try_out(spec: PruneSpec) -> StudyVariant:
            if spec not in prunes:
                results.found += len(self._blocks) - self._missing([spec])
                self._sample([*prunes, *trials, spec], max(0, search.trials - len(trials) - 1), trial=spec)
                trials.append(spec)
            return results.complete_variant(spec, [measure])

        baseline = results.complete_variant(None, [measure])
        results.search = search_threshold(search, candidates, baseline, try_out, on_trial)
        return trials

    def _sample(self, prunes: Sequence[PruneSpec], planned: int, trial: PruneSpec | None = None) -> None:
        """Have all shards under some prunes made.

        prunes: all prunes so far, of which the samples count in the progress.
        planned: how many more there may be, whose samples count in its total.
        trial: the last of `prunes`, if the others are done; None by default, where all are to be made.
        """
        self._run.phase = "sampling"
        each = self._samples_a_variant
        total = each * (1 + len(prunes) + planned)
        published = prunes if trial is None else prunes[:-1]

        def on_progress(samples: float) -> None:
            done = samples * (1 + len(prunes)) if trial is None else each * len(prunes) + samples
            self._run.step(round(done), total, UNIT)
            with contextlib.suppress(redis.RedisError):
                self._results.publish(self._run, published)

        missing = prunes if trial is None else [trial]
        tasks = [
            SamplingTask(self._maker, block, index, missing, self._size) for index, block in enumerate(self._blocks)
        ]
        complete_tasks(tasks, self._context.shards, self._run, on_progress, self._count_samples)

    def _score(self, prunes: Sequence[PruneSpec | None]) -> None:
        """Have all samples scored under these prunes."""
        self._run.phase = "scoring"
        tasks = scoring_tasks(self._scorer, self._blocks, prunes, self._request.measures or [], self._size)
        complete_tasks(tasks, self._context.shards, self._run, lambda _: None, self._count_samples)

    def _may_stop(self, _done: int, _total: int) -> None:
        self._run.check()

    def _missing(self, prunes: Sequence[PruneSpec | None]) -> int:
        """How many shards under these prunes are missing."""
        missing = self._run.retry(lambda: self._maker.missing(self._blocks, prunes))
        return sum(map(len, missing.values()))

    def _count_samples(self, samples: int) -> None:
        self._context.count_samples(self._request.model, samples)


handler = StudyHandler()
