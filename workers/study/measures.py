"""What is measured of a batch of samples, sample by sample, so that batches can be put together in any number.

features            (B, d)     what the extractor sees
probabilities, entropy, count  the sums of its predictions that an Inception score is made of
accuracy            (B,)       1 where the classifier names the label
clip-score, psnr, ssim, lpips  (B,)
error, energy       (B,)       |x - x_0|^2 and |x_0|^2 of the latents
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from jobs.registry.evaluation import MEASURES, Measure
from jobs.registry.models import ModelEntry
from jobs.requests.study import StudyRequest
from tailprune.quality import Extractor, Lpips, Predictions, class_matches, clip_scores, psnr, ssim
from tailprune.quality.extractors import ClipFeatures, ShapesFeatures
from tailprune.spec import InputError
from workers.evaluators import Evaluators

__all__ = ["SampleMeasures"]

PAIRED: Mapping[Measure, Callable[[Tensor, Tensor], Tensor]] = {"psnr": psnr, "ssim": ssim}
"""The measures that compare two images without a network: two (B, 3, H, W), uint8 -> (B,)."""


@dataclass(frozen=True)
class SampleMeasures:
    """The measures of one study, with the networks they need."""

    measures: Sequence[Measure]
    extractor: Extractor | None
    classifier: ShapesFeatures | None
    clip: ClipFeatures | None
    texts: Tensor | None
    """What CLIP makes of each label's name, with shape (classes, d)."""
    lpips: Lpips | None
    targets: Tensor | None
    """The image of each label or condition, uint8 with shape (N, 3, H, W); None for the baseline's."""

    @classmethod
    def of(
        cls, request: StudyRequest, entry: ModelEntry, evaluators: Evaluators, digests: dict[str, str]
    ) -> SampleMeasures:
        """Those of a resolved request. Raises InputError for files that cannot be used."""
        measures = request.measures or []
        needs = {MEASURES[measure].by for measure in measures}
        extractor = classifier = clip = texts = lpips = targets = None
        if "features" in needs and request.extractor is not None:
            extractor = evaluators.extractor(request.extractor, digests)
        if "classes" in needs and entry.classifier is not None:
            classifier = cast(ShapesFeatures, evaluators.extractor(entry.classifier, digests))
        if "clip" in needs:
            clip = cast(ClipFeatures, evaluators.extractor("clip", digests))
            texts = clip.texts([entry.prompt.format(name) for name in entry.names])
        if "lpips" in needs:
            lpips = evaluators.lpips(digests)
        if request.targets is not None and any(MEASURES[measure].paired for measure in measures):
            targets = evaluators.targets(request.targets, 1 + max(request.subjects), digests)
            if tuple(targets.shape[2:]) != entry.image_size:
                height, width = targets.shape[2:]
                raise InputError(
                    f"targets {request.targets!r} are images of {height} x {width}, and {entry.name} makes "
                    f"{' x '.join(map(str, entry.image_size))}"
                )
        return cls(measures, extractor, classifier, clip, texts, lpips, targets)

    @property
    def sees_images(self) -> bool:
        """Whether samples are to be decoded at all."""
        return any(measure != "drift" for measure in self.measures)

    @property
    def is_paired(self) -> bool:
        """Whether samples are compared one by one."""
        return any(MEASURES[measure].paired for measure in self.measures)

    def measure(
        self,
        subjects: Sequence[int],
        latents: Tensor,
        baseline: Tensor,
        images: Tensor | None,
        baseline_images: Tensor | None,
    ) -> dict[str, Tensor]:
        """latents, with shape (B, C, H, W); images, uint8 with shape (B, 3, H', W'), of samples and of the baseline."""
        found = {
            "error": (latents - baseline).double().square().flatten(1).sum(1),
            "energy": baseline.double().square().flatten(1).sum(1),
        }
        if images is None:
            return found
        if self.extractor is not None:
            seen = self.extractor(images)
            found["features"] = seen.features
            if seen.probabilities is not None:
                predictions = Predictions(seen.probabilities.shape[1])
                predictions.add(seen.probabilities)
                found |= predictions.state()
        if self.classifier is not None:
            found["accuracy"] = class_matches(self.classifier.classify(images), torch.tensor(subjects))
        if self.clip is not None and self.texts is not None:
            found["clip-score"] = clip_scores(self.clip(images).features, self.texts[list(subjects)])
        paired = [measure for measure in self.measures if MEASURES[measure].paired]
        beside = baseline_images if self.targets is None else self.targets[list(subjects)]
        if paired and beside is not None:
            found |= {measure: PAIRED[measure](images, beside) for measure in paired if measure in PAIRED}
            if self.lpips is not None:
                found["lpips"] = self.lpips(images, beside)
        return found
