"""How good samples are: measures of sets of images, of pairs of images, and of single ones.

    extract = load_extractor("inception", "inception-2015-12-05.pt")
    reference = load_reference("VIRTUAL_imagenet256_labeled.npz", extract)
    moments = FeatureMoments(extract.dim)
    moments.add(extract(images).features)                                       # on every machine
    moments.merge(FeatureMoments.from_state(state))                             # on one
    frechet_distance(moments.gaussian(), reference.gaussian)

    sources            images of a folder, an npz file or the data set shapes
    extractors         networks that turn images into features: Inception, CLIP, the classifier of shapes
    moments            mean and covariance of features
    references         moments and features of a set of images, to compare with
    distances          FID and KID
    inception_score    Inception score
    manifold           precision and recall
    few_samples        from how many samples on a measure can be compared
    images             PSNR, SSIM, class accuracy, CLIP score, and confidence intervals
    lpips              LPIPS

The results of shards can be merged: `FeatureMoments` and `Predictions` by `merge`, features and values of single images
by concatenation. A number is comparable only with numbers of the same network: state `extract.name` with it. Images are
uint8 with shape (B, 3, H, W) everywhere.
"""

from __future__ import annotations

from tailprune.quality.distances import KernelDistance, frechet_distance, kernel_distance
from tailprune.quality.extractors import EXTRACTORS, Extracted, Extractor, ExtractorError, load_extractor
from tailprune.quality.few_samples import FewSamplesWarning, few_samples, least_samples
from tailprune.quality.images import (
    Interval,
    bootstrap,
    bootstrap_relative_norm,
    class_matches,
    clip_scores,
    psnr,
    ssim,
    wilson,
)
from tailprune.quality.inception_score import InceptionScore, Predictions, inception_score, joint_probabilities
from tailprune.quality.lpips import Lpips, load_lpips
from tailprune.quality.manifold import Manifold, PrecisionRecall, precision_recall
from tailprune.quality.moments import FeatureMoments, Gaussian
from tailprune.quality.references import Reference, load_reference, make_reference
from tailprune.quality.sources import ImageFolder, ImageSource, NpzImages, ShapesImages, SourceError, open_images

__all__ = [
    "EXTRACTORS",
    "Extracted",
    "Extractor",
    "ExtractorError",
    "FeatureMoments",
    "FewSamplesWarning",
    "Gaussian",
    "ImageFolder",
    "ImageSource",
    "InceptionScore",
    "Interval",
    "KernelDistance",
    "Lpips",
    "Manifold",
    "NpzImages",
    "PrecisionRecall",
    "Predictions",
    "Reference",
    "ShapesImages",
    "SourceError",
    "bootstrap",
    "bootstrap_relative_norm",
    "class_matches",
    "clip_scores",
    "few_samples",
    "frechet_distance",
    "inception_score",
    "joint_probabilities",
    "kernel_distance",
    "least_samples",
    "load_extractor",
    "load_lpips",
    "load_reference",
    "make_reference",
    "open_images",
    "precision_recall",
    "psnr",
    "ssim",
    "wilson",
]
