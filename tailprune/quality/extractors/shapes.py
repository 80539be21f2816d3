"""Features of the data set shapes, by the classifier that is shipped."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from tailprune.quality.extractors.base import Extracted, ExtractorError
from tailprune.quality.files import digest_of_files
from tailprune.quality.images import check_images
from tailprune.quality.inception_score import joint_probabilities
from tailprune.shapes.classifier import ShapesClassifier, load_classifier

__all__ = ["ShapesFeatures", "load_shapes_classifier"]

FILE = "model.safetensors"


class ShapesFeatures:
    """images, uint8 with shape (B, 3, H, W) -> features (B, 96) and probabilities (B, 100), shape times colour.

    The classifier learned at 16 x 16 pixels.
    """

    name = "shapes-classifier"

    def __init__(self, classifier: ShapesClassifier, digest: str, device: str | torch.device = "cpu") -> None:
        self.classifier = classifier.to(device)
        self.device = device
        self.digest = digest
        self.dim: int = classifier.hidden.out_features

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Extracted:
        features = self.classifier.features(self._scaled(images))
        shape, colour = (head(features).double().softmax(1) for head in (self.classifier.shape, self.classifier.colour))
        return Extracted(features.float().cpu(), joint_probabilities(shape, colour).float().cpu())

    def classify(self, images: Tensor) -> Tensor:
        """The class of each image, `10 * shape + colour`. images, uint8 with shape (B, 3, H, W) -> (B,), on the CPU."""
        return self.classifier.classify(self._scaled(images)).cpu()

    def _scaled(self, images: Tensor) -> Tensor:
        check_images(images)
        return images.to(self.device).float() / 127.5 - 1


def load_shapes_classifier(source: Path, device: str | torch.device) -> ShapesFeatures:
    """From models/shapes-classifier, or its file. Raises ExtractorError."""
    path = source / FILE if source.is_dir() else source
    fit = "model.safetensors of models/shapes-classifier would fit"
    if not path.is_file():
        raise ExtractorError(f"{source}: has no {FILE}; {fit}")
    try:
        classifier = load_classifier(path)
    except SafetensorError as error:
        raise ExtractorError(f"{path}: is not a safetensors file ({error}); {fit}") from error
    except RuntimeError as error:  # of load_state_dict: tensors missing, foreign, or of another shape
        raise ExtractorError(f"{path}: does not hold the tensors of the classifier of shapes; {fit}") from error
    return ShapesFeatures(classifier, digest_of_files([path]), device)
