"""LPIPS (arXiv 1801.03924): the distance of two images as VGG-16 sees them.

    d(x, y) = |f(x) - f(y)|^2

where f is NVIDIA's TorchScript file vgg16.pt, whose features hold the learned weights of LPIPS already. From the file,
because every other home of LPIPS needs torchvision.

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
"""Pairs seen by one call: at 256 x 256 pixels the features of one image take about 50 MB."""
PROBE_SIDE = 64


class Lpips:
    """Two batches of images, uint8 with shape (B, 3, H, W) -> their distances, (B,), float64 on the CPU, from 0.

    `name` belongs beside the numbers; it has the digest of the weights in it.
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
    """From the TorchScript file. Raises ExtractorError for none, and for one that is not called as above."""
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
            f"{path}: is not called as model(images, resize_images=False, return_lpips=True); it takes {FIT}"
        ) from error
    if not fits:
        raise ExtractorError(f"{path}: does not give one vector of features an image; it takes {FIT}")
    return lpips
