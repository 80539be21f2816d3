"""From what was measured of each sample to the scores of a variant, stored as shards are.

Shards are combined in the order of the study's blocks, whichever worker made them: the same shards give the same
numbers, to the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import structlog
import torch
from torch import Tensor

from jobs.keys import canonical_json
from jobs.registry.evaluation import MEASURES, Measure
from jobs.registry.models import ExtractorName
from jobs.requests.study import StudyRequest
from jobs.study_results import MeasureUsed, Score
from tailprune.quality import (
    FeatureMoments,
    Manifold,
    Predictions,
    Reference,
    bootstrap,
    bootstrap_relative_norm,
    few_samples,
    frechet_distance,
    kernel_distance,
    wilson,
)
from tailprune.spec import InputError
from tailprune.spec.prune import PruneSpec
from workers.evaluators import Evaluators
from workers.lease import Interruptible
from workers.study.measures import SampleMeasures
from workers.study.shard_maker import ShardMaker
from workers.study.shards import SampleBlock

__all__ = ["Scorer", "measures_used"]

NEIGHBOUR = 3
"""Precision and recall use the third nearest neighbour, as published (arXiv 1904.06991)."""
SUBSET = 1000
"""The size of the kernel distance's subsets, if both sets have at least twice as many samples."""
INCEPTION = "inception-2015-12-05"
PUBLISHED_NAMES: dict[Measure, str] = {"fid": "FID", "kid": "KID"}
"""The names of distances between features of the published network, and of no other."""
MOST_REPAIRS = 3
"""How often a shard that is missing when scores are computed is made again."""

log = structlog.get_logger(__name__)


class Scorer:
    """Scores the variants of a study. `prune` is None for the baseline. While Redis is unavailable, it waits.

    maker: makes shards that are missing.
    evaluators: have the reference.
    run: the job or task that the scores are for; stops it.
    on_made: called with the number of samples that were made for a missing shard.
    """

    def __init__(
        self, maker: ShardMaker, evaluators: Evaluators, run: Interruptible, on_made: Callable[[int], None]
    ) -> None:
        self.maker = maker
        self._evaluators, self._run, self._on_made = evaluators, run, on_made
        self._manifold: Manifold | None = None

    def reference(self) -> Reference:
        """The reference that the study's samples are compared with. Raises what `Evaluators.reference` raises."""
        name, extractor = self._names
        digests, check = self.maker.evaluation, self._run.check
        return self._run.retry(lambda: self._evaluators.reference(name, extractor, digests, check))

    def keys(
        self, blocks: Sequence[SampleBlock], prune: PruneSpec | None, measures: Sequence[Measure]
    ) -> dict[Measure, str]:
        """The keys of the scores, of the measures that apply to the variant."""
        applicable = [measure for measure in measures if self._applies(measure, prune)]
        return dict(zip(applicable, self.maker.addresses.scores(blocks, prune, applicable), strict=True))

    def final_scores(
        self, blocks: Sequence[SampleBlock], prune: PruneSpec | None, measures: Sequence[Measure]
    ) -> dict[Measure, Score]:
        """The scores of all samples, with intervals: loaded where they are stored, else computed and stored.

        blocks: all blocks of the study.
        prune: the variant.
        measures: those that do not apply to it are left out.
        """
        shards, keys = self.maker.shards, self.keys(blocks, prune, measures)
        found: dict[Measure, Score] = {}
        for measure, key in keys.items():
            if (stored := self._run.retry(partial(shards.get, key))) is not None:
                found[measure] = Score.model_validate_json(stored)
        if missing := [measure for measure in keys if measure not in found]:
            for measure, score in self.scores(blocks, prune, missing, intervals=True).items():
                shards.put(keys[measure], canonical_json(score.model_dump()))
                found[measure] = score
            log.info("variant scored", prune="baseline" if prune is None else prune.name, measures=missing)
        return {measure: found[measure] for measure in keys}

    def scores(
        self,
        blocks: Sequence[SampleBlock],
        prune: PruneSpec | None,
        measures: Sequence[Measure],
        intervals: bool = False,
    ) -> dict[Measure, Score]:
        """Compute the scores of some samples.

        blocks: the samples.
        prune: the variant.
        measures: those that do not apply to it are left out.
        intervals: whether averages get a bootstrap interval, which takes longer; False by default.
        """
        shards = self._shards(blocks, prune)
        found: dict[Measure, Score] = {}
        for measure in measures if shards else []:
            if self._applies(measure, prune):
                self._run.check()
                found[measure] = self._score(measure, shards, intervals)
        return found

    def _applies(self, measure: Measure, prune: PruneSpec | None) -> bool:
        """Whether a variant has a score by this measure: the baseline is not compared with itself."""
        if prune is not None:
            return True
        with_targets = self.maker.request.targets is not None
        return measure != "drift" and (with_targets or not MEASURES[measure].paired)

    def _score(self, measure: Measure, shards: Sequence[dict[str, Tensor]], intervals: bool) -> Score:
        if measure == "accuracy":
            return _share(torch.cat([shard[measure] for shard in shards]), intervals)
        if measure in shards[0]:  # it has a value for each sample
            return _average(torch.cat([shard[measure] for shard in shards]), intervals)
        if measure == "drift":
            error, energy = (torch.cat([shard[name] for shard in shards]) for name in ("error", "energy"))
            return _drift(error, energy, intervals)
        if measure == "inception-score":
            return _inception_score(shards)
        reference = self.reference()
        if measure == "fid":
            moments = FeatureMoments(shards[0]["features"].shape[1])
            for features in _features(shards):
                moments.add(features)
            if moments.count < 2:
                return Score(value=None)
            samples = moments.gaussian()
            distance = frechet_distance(samples, reference.gaussian, warn=False)
            return _marked(Score(value=distance), moments.dim, samples.count, reference.gaussian.count)
        features = torch.cat(list(_features(shards)))
        known = reference.features
        if known is None:
            raise InputError(
                f"measure {measure!r} compares single features, and the reference has only their moments: "
                "register one with images, or leave the measure out"
            )
        if measure == "kid":
            size = min(SUBSET, len(features) // 2, len(known) // 2)  # subsets of all samples would not vary
            if size < 2:
                return Score(value=None)
            found = kernel_distance(features, known, subset_size=size)
            score = Score(value=found.mean, std=found.std)
            return _marked(score, features.shape[1], len(features), len(known))
        return self._manifold_score(measure, features, known, intervals)

    def _manifold_score(self, measure: Measure, features: Tensor, known: Tensor, intervals: bool) -> Score:
        if min(len(features), len(known)) <= NEIGHBOUR:
            return Score(value=None)
        dim = features.shape[1]
        if measure == "recall":
            recall = Manifold(features, NEIGHBOUR).covers(known).double().mean().item()
            return _marked(Score(value=recall), dim, samples=len(features))
        if self._manifold is None:
            self._manifold = self._reference_manifold()
        return _marked(_share(self._manifold.covers(features), intervals), dim, reference=len(known))

    def _reference_manifold(self) -> Manifold:
        name, extractor = self._names
        digests, check = self.maker.evaluation, self._run.check
        return self._run.retry(lambda: self._evaluators.manifold(name, extractor, digests, NEIGHBOUR, check))

    @property
    def _names(self) -> tuple[str, ExtractorName]:
        request = self.maker.request
        assert request.reference is not None, "a measure against a reference has one"
        assert request.extractor is not None, "a measure against a reference has an extractor"
        return request.reference, request.extractor

    def _shards(self, blocks: Sequence[SampleBlock], prune: PruneSpec | None) -> list[dict[str, Tensor]]:
        """What was measured of these blocks; a shard that is missing is made again."""
        found = []
        for block in blocks:
            self._run.check()
            read = partial(self.maker.measured, block, prune)
            shard = self._run.retry(read)
            for _ in range(MOST_REPAIRS):
                if shard is not None:
                    break
                make = partial(self.maker.make, block, [prune], lambda _: self._run.check())
                self._on_made(self._run.retry(make))
                shard = self._run.retry(read)
            if shard is None:
                raise RuntimeError("shards are missing as soon as they are stored: is there space for them?")
            found.append(shard)
        return found


def measures_used(request: StudyRequest, measures: SampleMeasures) -> list[MeasureUsed]:
    """The measures of a resolved request, each with its network. measures: of the same request."""
    networks = {
        "features": measures.extractor,
        "classes": measures.classifier,
        "clip": measures.clip,
        "lpips": measures.lpips,
    }
    used = []
    for measure in request.measures or []:
        facts = MEASURES[measure]
        network = None if facts.by is None else networks[facts.by]
        name = None if network is None else network.name
        title = PUBLISHED_NAMES.get(measure, facts.title) if name == INCEPTION else facts.title
        compared = request.reference if facts.reference else None
        if facts.paired:
            compared = request.targets or "baseline"
        if measure == "drift":
            compared = "baseline"
        used.append(
            MeasureUsed(
                measure=measure,
                title=title if name is None else f"{title} ({name})",
                better=facts.better,
                extractor=name,
                reference=compared,
            )
        )
    return used


def _features(shards: Sequence[dict[str, Tensor]]) -> Iterator[Tensor]:
    return (shard["features"] for shard in shards)


def _marked(score: Score, features: int, samples: int | None = None, reference: int | None = None) -> Score:
    """A score, marked as not reliable if there are too few samples or reference images for so many features."""
    reasons = (few_samples(samples, features), few_samples(reference, features, what="reference images"))
    note = "; ".join(reason for reason in reasons if reason)
    return score.model_copy(update={"reliable": False, "note": note}) if note else score


def _share(matches: Tensor, intervals: bool) -> Score:
    """The mean of values that are 0 or 1."""
    if not intervals:
        return Score(value=matches.double().mean().item())
    found = wilson(matches)
    return Score(value=found.mean, low=found.low, high=found.high)


def _drift(error: Tensor, energy: Tensor, intervals: bool) -> Score:
    if not intervals or len(error) < 2:
        return Score(value=math.sqrt(error.sum().item() / energy.sum().item()))
    found = bootstrap_relative_norm(error, energy)
    return Score(value=found.mean, low=found.low, high=found.high)


def _average(values: Tensor, intervals: bool) -> Score:
    """The mean of the finite values: equal images have no PSNR."""
    finite = values[values.isfinite()]
    left_out = len(values) - len(finite)
    if not len(finite):
        return Score(value=None, left_out=left_out)
    if not intervals or len(finite) < 2:  # one value does not vary
        return Score(value=finite.mean().item(), left_out=left_out)
    found = bootstrap(finite)
    return Score(value=found.mean, low=found.low, high=found.high, left_out=left_out)


def _inception_score(shards: Sequence[dict[str, Tensor]]) -> Score:
    predictions = Predictions.from_state(shards[0])
    for shard in shards[1:]:
        predictions.merge(Predictions.from_state(shard))
    note = few_samples(predictions.count, classes=predictions.classes)
    return Score(value=predictions.score(), reliable=note is None, note=note)
