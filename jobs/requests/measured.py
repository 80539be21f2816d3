"""Requests whose samples are scored: by which measures, networks and sets of images, and what a measure lacks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from jobs.registry.evaluation import MEASURES, EvaluationAssets, Measure
from jobs.registry.models import ExtractorName, ModelEntry
from jobs.requests.fields import UNIQUE, all_different
from jobs.requests.sampled import SampledRequest
from tailprune.spec import MissingFileError

__all__ = ["MeasuredRequest", "missing_of_extractor", "missing_of_measure"]

Measures = Annotated[list[Measure], Field(min_length=1, json_schema_extra=UNIQUE), AfterValidator(all_different)]
ReferenceName = Annotated[str, Field(min_length=1, max_length=100)]

FEATURE_EXTRACTORS: tuple[ExtractorName, ...] = ("shapes-classifier", "inception", "clip")
LEAST_FEATURES: dict[Measure, int] = {"fid": 2, "kid": 2, "precision": 4, "recall": 4}
"""Fewer samples have no covariance, or no third neighbour."""
OF_SINGLE_IMAGES: tuple[Measure, ...] = ("kid", "precision", "recall")
"""What a reference of moments alone does not do for."""
SSIM_WINDOW = 11
"""The least side of an image that SSIM is measured of."""


class MeasuredRequest(SampledRequest):
    """A request for samples of a model that are scored."""

    measures: Measures | None = Field(
        default=None, description="What samples are scored by; all that can be had for the model unless said."
    )
    extractor: ExtractorName | None = Field(
        default=None,
        description="Whose features Fréchet and kernel distance, Inception score, precision and recall are of; the "
        "model's own unless said.",
    )
    reference: ReferenceName | None = Field(
        default=None, description="The registered set of images that samples are compared with."
    )
    targets: ReferenceName | None = Field(
        default=None,
        description="A registered set of images, the n-th that of label or condition n, that PSNR, SSIM and LPIPS "
        "compare with; the unpruned samples unless said.",
    )

    @property
    def sample_count(self) -> int:
        """Samples a variant, of a resolved request."""
        return len(self.subjects) * (self.samples_per_label or 1)

    def extractors(self, entry: ModelEntry) -> list[ExtractorName]:
        """The networks that a resolved request needs."""
        by: dict[str | None, ExtractorName | None] = {
            "features": self.extractor, "classes": entry.classifier, "clip": "clip", "lpips": "lpips"
        }  # fmt: skip
        needed = [by.get(MEASURES[measure].by) for measure in self.measures or []]
        return list(dict.fromkeys(name for name in needed if name is not None))

    @property
    def references(self) -> list[str]:
        """The sets of images that a resolved request needs."""
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
    """What is missing to score a resolved request by a measure, or None."""
    measure = MEASURES[name]
    if name == "drift":
        return None
    if not entry.shows_images:
        return f"it is of images, and {entry.name} shows {entry.decoding.in_use}; measure 'drift' can be had"
    if measure.by == "features" and (lack := _missing_of_features(name, request.extractor, entry, evaluation)):
        return lack
    if measure.by == "classes":
        if entry.classifier is None:
            return f"no classifier of the classes of {entry.name} is registered (`classifier` of its entry)"
        if lack := evaluation.missing_extractor(entry.classifier):
            return f"the classifier {entry.classifier!r} is missing; {lack}"
    if measure.by in ("clip", "lpips") and (lack := evaluation.missing_extractor(measure.by)):
        return f"the extractor {measure.by!r} is missing; {lack}"
    if name == "clip-score" and len(entry.names) <= max(request.subjects, default=0):
        return (
            f"it compares images with the names of their classes, and {entry.name} has {len(entry.names)} "
            "(`class_names` of its entry)"
        )
    if measure.reference:
        if request.reference is None:
            return f"it needs a reference, and {entry.name} has none of its own; say one of those registered"
        if lack := evaluation.missing_reference(request.reference):
            return lack
        count = evaluation.image_count(request.reference) if name in OF_SINGLE_IMAGES else None
        if count is not None and count < LEAST_FEATURES[name]:
            return (
                f"it compares single images, and reference {request.reference!r} has {count}, with or without moments; "
                f"register one with {LEAST_FEATURES[name]} images or more"
            )
    if measure.paired and request.targets is not None and not evaluation.missing_reference(request.targets):
        count = evaluation.image_count(request.targets)
        if count is not None and count <= max(request.subjects, default=0):
            return (
                f"targets {request.targets!r} has {count} images, and there is to be one for each label or condition "
                f"up to {max(request.subjects)}"
            )
    least = LEAST_FEATURES.get(name, 1)
    if request.sample_count < least:
        return f"it needs {least} samples or more, and {request.sample_count} are asked for"
    if name == "ssim" and min(entry.image_size) < SSIM_WINDOW:
        height, width = entry.image_size
        return f"it needs images of at least {SSIM_WINDOW} x {SSIM_WINDOW}, and {entry.name} makes {height} x {width}"
    return None


def _missing_of_features(
    name: Measure, extractor: ExtractorName | None, entry: ModelEntry, evaluation: EvaluationAssets
) -> str | None:
    if extractor is None:
        return f"no extractor of features is registered for {entry.name}; say `extractor`"
    if name == "inception-score" and extractor == "clip":
        return "it is of class probabilities, and 'clip' gives none; say another extractor, or leave this measure out"
    return missing_of_extractor(extractor, evaluation)


def missing_of_extractor(extractor: ExtractorName, evaluation: EvaluationAssets) -> str | None:
    """What is wrong with taking the features of an extractor, or None."""
    if extractor not in FEATURE_EXTRACTORS:
        return f"{extractor!r} gives no features; extractors are {', '.join(FEATURE_EXTRACTORS)}"
    if lack := evaluation.missing_extractor(extractor):
        return f"the extractor {extractor!r} is missing; {lack}"
    return None
