"""The measures of samples, and what each of them needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["MEASURES", "ExtractorName", "Measure", "MeasureInfo"]

ExtractorName = Literal["shapes-classifier", "inception", "clip", "lpips"]
"""The networks with which samples can be measured."""
Measure = Literal[
    "fid", "kid", "inception-score", "precision", "recall", "accuracy", "clip-score", "drift", "psnr", "ssim", "lpips"
]


@dataclass(frozen=True)
class MeasureInfo:
    """What a measure is, and what it needs."""

    title: str
    better: Literal["higher", "lower"]
    by: Literal["features", "classes", "clip", "lpips"] | None = None
    """What it reads from images: the features of the study's extractor, the probabilities of the model's classifier,
    or the network of this name; None for the pixels or latents themselves."""
    reference: bool = False
    """Whether samples are compared with a set of images."""
    paired: bool = False
    """Whether each sample is compared with one image: its baseline, or its target."""


MEASURES: Mapping[Measure, MeasureInfo] = {
    "fid": MeasureInfo("Fréchet distance", "lower", by="features", reference=True),
    "kid": MeasureInfo("Kernel distance", "lower", by="features", reference=True),
    "inception-score": MeasureInfo("Inception score", "higher", by="features"),
    "precision": MeasureInfo("Precision", "higher", by="features", reference=True),
    "recall": MeasureInfo("Recall", "higher", by="features", reference=True),
    "accuracy": MeasureInfo("Class accuracy", "higher", by="classes"),
    "clip-score": MeasureInfo("CLIP score", "higher", by="clip"),
    "drift": MeasureInfo("Drift of the latents", "lower"),
    "psnr": MeasureInfo("PSNR", "higher", paired=True),
    "ssim": MeasureInfo("SSIM", "higher", paired=True),
    "lpips": MeasureInfo("LPIPS", "lower", by="lpips", paired=True),
}
"""In the order in which they are shown."""
