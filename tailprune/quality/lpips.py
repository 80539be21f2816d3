"""LPIPS (arXiv 1801.03924): the distance of two images in the features of VGG-16.

    d(x, y) = |f(x) - f(y)|^2

where f is NVIDIA's TorchScript file vgg16.pt, whose features include the learned weights of LPIPS. It is used because
other implementations of LPIPS need torchvision.

    model(images, resize_images=False, return_lpips=True)    float32 in [0, 255], (B, 3, H, W) -> (B, n)
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import torch
from torch import Tensor
from torch.jit import ScriptModule

from tailprune.quality.extractors import ExtractorError, named, open_torchscript
from tailprune.quality.images import check_pairs

__all__ = ["Lpips", "load_lpips"]

FIT = "the TorchScript file vgg16.pt, published with StyleGAN2-ADA"
AT_ONCE = 4
"""The number of pairs in one call: at 256 x 256 pixels the features of one image take about 50 MB."""
PROBE_SIDE = 64


class Lpips:
    """The distance of each pair. Two (B, 3, H, W), uint8 -> (B,), float64, 0 or more, on the CPU.

    `name` is to be stated with the numbers; it contains the digest of the weights.
    """

    def __init__(self, model: ScriptModule, digest: str, device: str | torch.device = "cpu") -> None:
        self.model = model
        self.digest = digest
        self.name = named("lpips-vgg16", digest)
        self.device = device

    @torch.inference_mode()
    def __call__(self, images: Tensor, references: Tensor) -> Tensor:
        check_pairs(images, references)
        distances = [
            (self._features(a) - self._features(b)).square().sum(1).double().cpu()
            for a, b in zip(images.split(AT_ONCE), references.split(AT_ONCE), strict=True)
            if len(a)
        ]
        return torch.cat(distances) if distances else torch.zeros(0, dtype=torch.float64)

    def _features(self, images: Tensor) -> Tensor:
        return self.model(images.to(self.device).float(), resize_images=False, return_lpips=True).float()


def load_lpips(source: str | PathLike[str] | None = None, device: str | torch.device = "cpu") -> Lpips:
    """LPIPS from its TorchScript file. Raises ExtractorError if it is missing or cannot be called as above."""
    if source is None:
        raise ExtractorError(f"LPIPS needs a source: {FIT}")
    path = Path(source)
    model, digest = open_torchscript(path, device, FIT)
    lpips = Lpips(model, digest, device)
    probe = torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE, dtype=torch.uint8)
    try:
        fits = lpips(probe, probe).shape == (1,)
    except (RuntimeError, TypeError, IndexError) as error:
        raise ExtractorError(
            f"{path}: cannot be called as model(images, resize_images=False, return_lpips=True); give {FIT}"
        ) from error
    if not fits:
        raise ExtractorError(f"{path}: does not return one vector of features per image; give {FIT}")
    return lpips
