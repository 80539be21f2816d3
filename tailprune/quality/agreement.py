"""Whether an image shows what was asked for: its class, or its text.

Image by image, so that shards are merged by putting values together, and `bootstrap` says how sure their mean is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["class_matches", "clip_scores"]


def class_matches(predicted: Tensor, labels: Tensor) -> Tensor:
    """1 where an image is of its class, 0 elsewhere; its mean is the class accuracy. Two (B,) -> (B,), float64."""
    if predicted.shape != labels.shape:
        raise ValueError(f"one label for each image: {tuple(predicted.shape)} classes, {tuple(labels.shape)} labels")
    return (predicted.cpu() == labels.cpu()).to(torch.float64)


def clip_scores(image_features: Tensor, text_features: Tensor) -> Tensor:
    """100 times the cosine of each image with its text, from -100 to 100 (arXiv 2104.08718, not cut off at 0).

    Two (B, d), as the extractor `clip` gives them -> (B,), float64.
    """
    if image_features.shape != text_features.shape:
        raise ValueError(
            f"one text for each image: features with shape {tuple(image_features.shape)} of images, "
            f"{tuple(text_features.shape)} of texts"
        )
    return 100 * F.cosine_similarity(image_features.double().cpu(), text_features.double().cpu(), dim=1)
