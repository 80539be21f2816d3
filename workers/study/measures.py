"""What is measured of a batch of samples. The results of several batches can be combined.

features            (B, d)     of the extractor
probabilities, entropy, count  sums of its predictions, for the Inception score
accuracy            (B,)       1 where the classifier predicts the label, else 0
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
    """The measures of one study, with the networks that they need."""

    measures: Sequence[Measure]
    extractor: Extractor | None
    classifier: ShapesFeatures | None
    clip: ClipFeatures | None
    texts: Tensor | None
    """CLIP's features of each label's prompt, with shape (classes, d)."""
    lpips: Lpips | None
    targets: Tensor | None
    """The image that samples of each label or condition are compared with, uint8 with shape (N, 3, H, W).

    None where they are compared with the baseline.
    """

    @classmethod
    def of(
        cls, request: StudyRequest, entry: ModelEntry, evaluators: Evaluators, digests: dict[str, str]
    ) -> SampleMeasures:
        """Load what a resolved request needs.

        request: with the measures, the extractor and the targets.
        entry: the model.
        evaluators: which load the networks and the targets.
        digests: of each network and set of images, as `Evaluators` takes them.
        Raises InputError for files that cannot be used.
        """
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
        """Whether samples have to be decoded."""
        return any(measure != "drift" for measure in self.measures)

    @property
    def is_paired(self) -> bool:
        """Whether samples are compared one by one with the baseline or the targets."""
        return any(MEASURES[measure].paired for measure in self.measures)

    def measure(
        self,
        subjects: Sequence[int],
        latents: Tensor,
        baseline: Tensor,
        images: Tensor | None,
        baseline_images: Tensor | None,
    ) -> dict[str, Tensor]:
        """Measure samples; the result by name, as listed at the head of this module.

        subjects: their labels or rows, B of them.
        latents, baseline: of the samples and of the unpruned ones, with shape (B, C, H, W).
        images, baseline_images: the same decoded, uint8 with shape (B, 3, H', W'); None where they are not needed.
        """
        found = {
            "error": (latents - baseline).double().square().flatten(1).sum(1),
            "energy": baseline.double().square().flatten(1).sum(1),
        }
        if images is None:
            return found
        if self.extractor is not None:
            extracted = self.extractor(images)
            found["features"] = extracted.features
            if extracted.probabilities is not None:
                predictions = Predictions(extracted.probabilities.shape[1])
                predictions.add(extracted.probabilities)
                found |= predictions.state()
        if self.classifier is not None:
            found["accuracy"] = class_matches(self.classifier.classify(images), torch.tensor(subjects))
        if self.clip is not None and self.texts is not None:
            found["clip-score"] = clip_scores(self.clip(images).features, self.texts[list(subjects)])
        paired = [measure for measure in self.measures if MEASURES[measure].paired]
        compared = baseline_images if self.targets is None else self.targets[list(subjects)]
        if paired and compared is not None:
            found |= {measure: PAIRED[measure](images, compared) for measure in paired if measure in PAIRED}
            if self.lpips is not None:
                found["lpips"] = self.lpips(images, compared)
        return found
