"""Features of Inception-v3 (2015), which FID, KID, Inception score, precision and recall are published with.

The file is NVIDIA's TorchScript translation of the network that the first FID was computed with. It scales images to
299 x 299 itself, as TensorFlow does, so they go in as they are.

    model(images, return_features=True)    uint8 (B, 3, H, W) -> what its last pooling gives, (B, 2048)
    softmax(features W^T)                  with W = model.output.weight, (1008, 2048); without its bias, as the
                                           Inception score is computed (arXiv 1606.03498, and the evaluator of ADM)
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.jit import ScriptModule

from tailprune.quality.extractors.base import Extracted, ExtractorError
from tailprune.quality.extractors.torchscript import named, open_torchscript
from tailprune.quality.images import check_images

__all__ = ["InceptionFeatures", "load_inception"]

PUBLISHED = "inception-2015-12-05"
PUBLISHED_DIGEST = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
FIT = f"the TorchScript file {PUBLISHED}.pt, published with StyleGAN2-ADA"
FEATURES = 2048
CLASSES = 1008
PROBE_SIDE = 32


class InceptionFeatures:
    """images, uint8 with shape (B, 3, H, W) -> features (B, 2048) and probabilities (B, 1008).

    `name` is `inception-2015-12-05` for the published file, and has the digest in it for any other.
    """

    dim = FEATURES

    def __init__(self, model: ScriptModule, digest: str, device: str | torch.device = "cpu") -> None:
        self.model = model
        self.digest = digest
        self.name = PUBLISHED if digest == PUBLISHED_DIGEST else named("inception", digest)
        self.device = device

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Extracted:
        check_images(images)
        features = self.model(images.to(self.device), return_features=True).float()
        probabilities = (features @ self.model.output.weight.float().T).softmax(1)
        return Extracted(features.cpu(), probabilities.cpu())


def load_inception(source: Path, device: str | torch.device) -> InceptionFeatures:
    """From the TorchScript file. Raises ExtractorError for one that does not do as above for a black image."""
    model, digest = open_torchscript(source, device, FIT)
    extractor = InceptionFeatures(model, digest, device)
    try:
        found = extractor(torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE, dtype=torch.uint8))
    except (RuntimeError, AttributeError, TypeError) as error:
        raise ExtractorError(
            f"{source}: is not called as model(images, return_features=True); it takes {FIT}"
        ) from error
    assert found.probabilities is not None
    shapes = found.features.shape[1:], found.probabilities.shape[1:]
    if shapes != ((FEATURES,), (CLASSES,)):
        raise ExtractorError(
            f"{source}: gives {tuple(shapes[0])} features and {tuple(shapes[1])} classes, and has to give {FEATURES} "
            f"and {CLASSES}; it takes {FIT}"
        )
    return extractor
