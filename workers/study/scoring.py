"""From what was measured of each sample to the scores of a variant.

Shards are put together in the order of the study's blocks, whoever made them and whenever: the same shards give the
same numbers, to the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from jobs.registry.evaluation import MEASURES, Measure
from jobs.requests.study import StudyRequest
from jobs.study_results import MeasureUsed, Score
from tailprune.quality import (
    FeatureMoments,
    Manifold,
    Predictions,
    Reference,
    bootstrap,
    frechet_distance,
    kernel_distance,
)
from workers.study.measures import SampleMeasures

__all__ = ["Scorer", "measures_used"]

NEIGHBOUR = 3
"""Precision and recall are of the third, as published (arXiv 1904.06991)."""
SUBSET = 1000
"""The size of the kernel distance's subsets, where there are as many samples."""
INCEPTION = "inception-2015-12-05"
PUBLISHED_NAMES: dict[Measure, str] = {"fid": "FID", "kid": "KID"}
"""What distances of the published network's features are called, and no others."""
AVERAGES: tuple[Measure, ...] = ("accuracy", "clip-score", "psnr", "ssim", "lpips")


@dataclass
class Scorer:
    """Scores variants of one study against one reference."""

    reference: Callable[[], Reference]
    """What samples are compared with; asked for when a measure needs it."""
    manifold: Callable[[int], Manifold]
    """The balls about its features to the neighbour of this place; asked for once, when a measure needs them."""
    with_targets: bool
    check: Callable[[], None]
    """Called between measures; may raise to stop."""
    _manifold: Manifold | None = field(default=None, init=False)

    def scores(
        self, measures: Sequence[Measure], shards: Sequence[dict[str, Tensor]], baseline: bool, intervals: bool = True
    ) -> dict[Measure, Score]:
        """The scores of one variant, from what was measured of its shards in order.

        baseline: whether they are of the unpruned samples, which have no drift. Without intervals it is quicker.
        """
        if not shards:
            return {}
        found: dict[Measure, Score] = {}
        for measure in measures:
            if self.applies(measure, baseline):
                self.check()
                found[measure] = self._score(measure, shards, intervals)
        return found

    def applies(self, measure: Measure, baseline: bool) -> bool:
        """Whether there is such a score: the baseline is not compared with itself."""
        return not baseline or (measure != "drift" and (self.with_targets or not MEASURES[measure].paired))

    def _score(self, measure: Measure, shards: Sequence[dict[str, Tensor]], intervals: bool) -> Score:
        if measure in AVERAGES:
            return _average(torch.cat([shard[measure] for shard in shards]), intervals)
        if measure == "drift":
            error, energy = (torch.cat([shard[name] for shard in shards]).sum() for name in ("error", "energy"))
            return Score(value=math.sqrt(error.item() / energy.item()))
        if measure == "inception-score":
            return Score(value=_inception_score(shards))
        reference = self.reference()
        if measure == "fid":
            moments = FeatureMoments(shards[0]["features"].shape[1])
            for features in _features(shards):
                moments.add(features)
            if moments.count < 2:
                return Score(value=None)
            return Score(value=frechet_distance(moments.gaussian(), reference.gaussian))
        features = torch.cat(list(_features(shards)))
        known = reference.features
        if known is None:
            raise ValueError(
                f"measure {measure!r} compares single features, and the reference has their moments alone: "
                "register one with images, or leave the measure out"
            )
        if measure == "kid":
            size = min(SUBSET, len(features) // 2, len(known) // 2)  # all of a set would vary in nothing
            if size < 2:
                return Score(value=None)
            found = kernel_distance(features, known, subset_size=size)
            return Score(value=found.mean, std=found.std)
        return self._of_manifolds(measure, features, known)

    def _of_manifolds(self, measure: Measure, features: Tensor, known: Tensor) -> Score:
        if min(len(features), len(known)) <= NEIGHBOUR:
            return Score(value=None)
        if measure == "recall":
            return Score(value=Manifold(features, NEIGHBOUR).covers(known).double().mean().item())
        if self._manifold is None:
            self._manifold = self.manifold(NEIGHBOUR)
        return Score(value=self._manifold.covers(features).double().mean().item())


def measures_used(request: StudyRequest, meter: SampleMeasures) -> list[MeasureUsed]:
    """The measures of a resolved request, each with the network that it is of."""
    by = {
        "features": meter.extractor,
        "classes": meter.classifier,
        "clip": meter.clip,
        "lpips": meter.lpips,
    }
    used = []
    for measure in request.measures or []:
        facts = MEASURES[measure]
        network = None if facts.by is None else by[facts.by]
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


def _average(values: Tensor, intervals: bool) -> Score:
    """Over those that are finite: of equal images there is no PSNR."""
    known = values[values.isfinite()]
    left_out = len(values) - len(known)
    if not len(known):
        return Score(value=None, left_out=left_out)
    if not intervals:
        return Score(value=known.mean().item(), left_out=left_out)
    found = bootstrap(known)
    return Score(value=found.mean, low=found.low, high=found.high, left_out=left_out)


def _inception_score(shards: Sequence[dict[str, Tensor]]) -> float:
    whole = Predictions.from_state(shards[0])
    for shard in shards[1:]:
        whole.merge(Predictions.from_state(shard))
    return whole.score()
