"""The fields of requests whose samples are scored: measures, extractors and references, and what each of them needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from jobs.registry.measures import MEASURES, ExtractorName, Measure
from jobs.requests.fields import UNIQUE, all_different
from jobs.requests.sampled import SampledRequest
from tailprune.spec import MissingFileError

if TYPE_CHECKING:
    from jobs.registry.evaluation import EvaluationAssets
    from jobs.registry.models import ModelEntry

__all__ = ["MeasuredRequest", "missing_of_extractor", "missing_of_measure"]

Measures = Annotated[
    list[Measure],
    Field(min_length=1, max_length=len(MEASURES), json_schema_extra=UNIQUE),
    AfterValidator(all_different),
]
ReferenceName = Annotated[str, Field(min_length=1, max_length=100)]

FEATURE_EXTRACTORS: tuple[ExtractorName, ...] = ("shapes-classifier", "inception", "clip")
LEAST_FEATURES: dict[Measure, int] = {"fid": 2, "kid": 2, "precision": 4, "recall": 4}
"""Fewer samples have no covariance, or no third neighbour."""
OF_SINGLE_IMAGES: tuple[Measure, ...] = ("kid", "precision", "recall")
"""The measures that need the images of a reference, not only its moments."""
SSIM_WINDOW = 11
"""The least side, in pixels, of images that SSIM can compare."""


class MeasuredRequest(SampledRequest):
    """A request that samples a model and scores the samples."""

    measures: Measures | None = Field(
        default=None, description="The measures to score samples by; by default all that are available for the model."
    )
    extractor: ExtractorName | None = Field(
        default=None,
        description="The network whose features are used for Fréchet and kernel distance, Inception score, precision "
        "and recall; by default the one of the model's entry in the registry.",
    )
    reference: ReferenceName | None = Field(
        default=None,
        description="The registered set of images to compare samples with; by default the one of the model's entry in "
        "the registry.",
    )
    targets: ReferenceName | None = Field(
        default=None,
        description="A registered set of images to compare samples with by PSNR, SSIM and LPIPS: image n belongs to "
        "label or condition n. By default the unpruned samples.",
    )

    @property
    def sample_count(self) -> int:
        """How many samples each variant of a resolved request has."""
        return len(self.subjects) * (self.samples_per_label or 1)

    def extractors(self, entry: ModelEntry) -> list[ExtractorName]:
        """The extractors that a resolved request needs."""
        by: dict[str | None, ExtractorName | None] = {
            "features": self.extractor, "classes": entry.classifier, "clip": "clip", "lpips": "lpips"
        }  # fmt: skip
        needed = [by.get(MEASURES[measure].by) for measure in self.measures or []]
        return list(dict.fromkeys(name for name in needed if name is not None))

    @property
    def references(self) -> list[str]:
        """The references and targets that a resolved request needs."""
        measures = [MEASURES[measure] for measure in self.measures or []]
        named = [
            self.reference if any(measure.reference for measure in measures) else None,
            self.targets if any(measure.paired for measure in measures) else None,
        ]
        return list(dict.fromkeys(name for name in named if name is not None))

    def evaluated_with(self, entry: ModelEntry, evaluation: EvaluationAssets) -> Mapping[str, Path | str]:
        found: dict[str, Path | str] = {}
        for name in self.extractors(entry):
            path = evaluation.extractor(name)
            if path is None:
                raise MissingFileError(f"the extractor {name!r} is missing; {evaluation.missing_extractor(name)}")
            found[f"extractor {name}"] = path
        if "clip-score" in (self.measures or []):
            found["extractor clip, prompt"] = entry.prompt
        for reference in self.references:
            if lack := evaluation.missing_reference(reference):
                raise MissingFileError(lack)
            where, registered = evaluation.reference(reference), evaluation.references[reference]
            found[f"reference {reference}"] = where or f"{registered.dataset}, {registered.count}"
        return found


def missing_of_measure(
    name: Measure, request: MeasuredRequest, entry: ModelEntry, evaluation: EvaluationAssets
) -> str | None:
    """Why the samples of a resolved request cannot be scored by a measure, or None if they can.

    name: the measure.
    request: with every default filled in.
    entry: the model.
    evaluation: the registered extractors and references.
    """
    measure = MEASURES[name]
    if name == "drift":
        return None
    if not entry.shows_images:
        return f"it needs images, but {entry.name} shows {entry.decoding.in_use}; use the measure 'drift'"
    if measure.by == "features" and (lack := _missing_of_features(name, request.extractor, entry, evaluation)):
        return lack
    if measure.by == "classes":
        if entry.classifier is None:
            return f"no classifier is registered for {entry.name}; name one in its entry (`classifier`)"
        if lack := evaluation.missing_extractor(entry.classifier):
            return f"the classifier {entry.classifier!r} is missing; {lack}"
    if measure.by in ("clip", "lpips") and (lack := evaluation.missing_extractor(measure.by)):
        return f"the extractor {measure.by!r} is missing; {lack}"
    if name == "clip-score" and len(entry.names) <= max(request.subjects, default=0):
        return (
            f"it compares images with the names of their classes, and {entry.name} has {len(entry.names)} names; give "
            "its entry a file of names (`class_names`)"
        )
    if measure.reference:
        if request.reference is None:
            return f"it needs a reference, and the entry of {entry.name} has none; name a registered one (`reference`)"
        if lack := evaluation.missing_reference(request.reference):
            return lack
        count = evaluation.image_count(request.reference) if name in OF_SINGLE_IMAGES else None
        if count is not None and count < LEAST_FEATURES[name]:
            return (
                f"it compares single images, and reference {request.reference!r} has {count} of them; register one "
                f"with at least {LEAST_FEATURES[name]} images"
            )
    if measure.paired and request.targets is not None and not evaluation.missing_reference(request.targets):
        count = evaluation.image_count(request.targets)
        if count is not None and count <= max(request.subjects, default=0):
            return (
                f"targets {request.targets!r} has {count} images; it needs one for each label or condition from 0 to "
                f"{max(request.subjects)}"
            )
    least = LEAST_FEATURES.get(name, 1)
    if request.sample_count < least:
        return f"it needs at least {least} samples, and the request makes {request.sample_count}"
    if name == "ssim" and min(entry.image_size) < SSIM_WINDOW:
        height, width = entry.image_size
        least_size = f"{SSIM_WINDOW} x {SSIM_WINDOW}"
        return f"it needs images of at least {least_size} pixels, and those of {entry.name} are {height} x {width}"
    return None


def _missing_of_features(
    name: Measure, extractor: ExtractorName | None, entry: ModelEntry, evaluation: EvaluationAssets
) -> str | None:
    if extractor is None:
        return f"no extractor is registered for {entry.name}; give `extractor`"
    if name == "inception-score" and extractor == "clip":
        return "it needs class probabilities, and 'clip' has none; use another extractor, or leave this measure out"
    return missing_of_extractor(extractor, evaluation)


def missing_of_extractor(extractor: ExtractorName, evaluation: EvaluationAssets) -> str | None:
    """Why the features of an extractor cannot be used, or None if they can."""
    if extractor not in FEATURE_EXTRACTORS:
        return f"{extractor!r} gives no features; use one of {', '.join(FEATURE_EXTRACTORS)}"
    if lack := evaluation.missing_extractor(extractor):
        return f"the extractor {extractor!r} is missing; {lack}"
    return None
