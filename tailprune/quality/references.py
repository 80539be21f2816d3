"""What samples are compared with: moments and features of a set of images, or published moments.

The evaluator of ADM (arXiv 2105.05233) publishes its references as npz files with `mu` and `sigma`, the moments of
Inception's features over a whole data set (`mu_s` and `sigma_s` are those of sFID), with `arr_0`, images, or with both.
From a file with both, the moments are the published ones, and the features those of the images.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tailprune.quality.extractors import Extractor
from tailprune.quality.moments import FeatureMoments, Gaussian
from tailprune.quality.sources import (
    ARRAY,
    ImageSource,
    NpzImages,
    SourceError,
    damage_as,
    digest_of_files,
    digest_of_text,
    open_array,
    open_images,
    open_npz,
)

__all__ = ["Reference", "load_reference", "make_reference"]

MOST_FEATURES = 10_000
"""The number of features kept for KID, precision and recall; the references of ADM have as many images."""
MOST_NAMES = 10
"""The most names of arrays that a message lists."""
TENSORS = ("mean", "covariance")
FIT = f"give a folder of images, or an npz file (numpy.savez) with mu and sigma, or {ARRAY}"
ROUNDING = 1e-4
"""How far a covariance of float32 may be from symmetric, relative to its largest entry."""


@dataclass(frozen=True)
class Reference:
    """The features of a set of images, from one extractor."""

    extractor: str
    """The name of the extractor."""
    digest: str
    """A digest of images and extractor: equal digests mean equal references."""
    gaussian: Gaussian
    """The moments of the features, for FID."""
    features: Tensor | None = None
    """Of M images, evenly spaced over the set, with shape (M, d), float32; None if only moments are published."""
    spatial: Gaussian | None = None
    """The moments for sFID, if the file has them."""

    def save(self, path: str | PathLike[str]) -> None:
        """Write the reference to a safetensors file."""
        gaussian = self.gaussian
        tensors = {"mean": gaussian.mean, "covariance": gaussian.covariance}
        metadata = {"extractor": self.extractor, "digest": self.digest}
        if gaussian.count is not None:
            metadata["count"] = str(gaussian.count)
        if self.features is not None:
            tensors["features"] = self.features
        if self.spatial is not None:
            tensors |= {"spatial_mean": self.spatial.mean, "spatial_covariance": self.spatial.covariance}
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, path, metadata)

    @classmethod
    def open(cls, path: str | PathLike[str]) -> Reference:
        """Read a file that `save` wrote. Raises SourceError for another file."""
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            spatial = [tensors[f"spatial_{name}"] for name in TENSORS if f"spatial_{name}" in tensors]
            count = metadata.get("count")
            return cls(
                metadata["extractor"],
                metadata["digest"],
                Gaussian(tensors["mean"], tensors["covariance"], None if count is None else int(count)),
                tensors.get("features"),
                Gaussian(*spatial) if spatial else None,
            )
        except (SafetensorError, OSError, KeyError) as error:
            raise SourceError(f"{path}: is not a saved reference ({error}); make it again") from error


def make_reference(
    images: ImageSource, extractor: Extractor, batch_size: int = 64, most_features: int = MOST_FEATURES
) -> Reference:
    """The reference of a set of images: moments over all of them, and the features of some.

    images: at least two images
    extractor: the network of the features
    batch_size: the number of images in one call of the extractor, 64 by default
    most_features: the largest number of images whose features are kept, evenly spaced over the set, 10,000 by default

    Raises SourceError for fewer than two images.
    """
    if images.count < 2:
        raise SourceError(f"a reference needs at least two images, not {images.count}")
    moments = FeatureMoments(extractor.dim)
    kept = min(images.count, most_features)
    wanted = torch.arange(kept) * images.count // kept if kept else torch.zeros(0, dtype=torch.int64)
    features, start = [torch.zeros(0, extractor.dim)], 0
    for batch in images.batches(batch_size):
        found = extractor(batch).features
        moments.add(found)
        features.append(found[wanted[(wanted >= start) & (wanted < start + len(batch))] - start])
        start += len(batch)
    digest = _digest(images.digest, extractor, most_features)
    return Reference(extractor.name, digest, moments.gaussian(), torch.cat(features))


def load_reference(
    path: str | PathLike[str], extractor: Extractor, batch_size: int = 64, most_features: int = MOST_FEATURES
) -> Reference:
    """The reference from a folder of images, or from an npz file of the evaluator of ADM.

    path: the folder or the file
    extractor: the network of the features; published moments must have as many
    batch_size, most_features: as in `make_reference`

    Raises SourceError for anything else, and for moments of another number of features than the extractor's.
    """
    path = Path(path)

    def measured(images: ImageSource) -> Reference:
        if images.count < 2:
            raise SourceError(f"{path}: has {images.count} image, and a reference needs at least two")
        return make_reference(images, extractor, batch_size, most_features)

    arrays = set() if path.is_dir() else _arrays(path)
    if not {"mu", "sigma"} <= arrays:
        if not path.is_dir() and ARRAY not in arrays:
            names = sorted(arrays)
            shown = ", ".join(names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")
            raise SourceError(f"{path}: has neither mu and sigma nor {ARRAY}; its arrays are {shown or 'none'}; {FIT}")
        return measured(open_images(path))
    dim = _dim(path, "mu", "sigma")
    if dim != extractor.dim and ARRAY in arrays:  # the moments are another network's; the images are there
        return measured(NpzImages(path))
    if dim != extractor.dim:
        raise SourceError(
            f"{path}: mu has {dim} features, and {extractor.name} has {extractor.dim}; use the extractor that the "
            "moments were computed with"
        )
    gaussian = _published(path, "mu", "sigma")
    spatial = _published(path, "mu_s", "sigma_s") if {"mu_s", "sigma_s"} <= arrays else None
    features = measured(NpzImages(path)).features if ARRAY in arrays else None
    digest = _digest(digest_of_files([path]), extractor, most_features)
    return Reference(extractor.name, digest, gaussian, features, spatial)


def _digest(images: str, extractor: Extractor, most_features: int) -> str:
    return digest_of_text(f"{images} {extractor.digest} {most_features}")


def _arrays(path: Path) -> set[str]:
    """The names of the arrays of an npz file."""
    with open_npz(path, FIT) as archive:
        return {name.removesuffix(".npy") for name in archive.namelist()}


def _dim(path: Path, mean: str, covariance: str) -> int:
    """The number of features of published moments, by the headers of both arrays."""
    shapes = []
    for name in (mean, covariance):
        with open_array(path, name, FIT) as array:
            if array.dtype.kind not in "fiu":
                raise SourceError(f"{path}: {name} is {array.dtype}; {mean} and {covariance} must be real numbers")
            if not array.complete:
                raise SourceError(f"{path}: {name} is incomplete; download it again")
            shapes.append(array.shape)
    if len(shapes[0]) != 1 or shapes[1] != shapes[0] * 2 or not shapes[0][0]:
        raise SourceError(
            f"{path}: {mean} has shape {shapes[0]} and {covariance} {shapes[1]}; they must be (d,) and (d, d)"
        )
    return shapes[0][0]


def _published(path: Path, mean: str, covariance: str) -> Gaussian:
    """Published moments, which are read once their headers fit."""
    _dim(path, mean, covariance)
    with (
        damage_as(f"{path}: {mean} and {covariance} cannot be read", "download it again"),
        np.load(path, allow_pickle=False) as arrays,
    ):
        m, c = (torch.from_numpy(arrays[name].astype(np.float64)) for name in (mean, covariance))
    for name, tensor in ((mean, m), (covariance, c)):
        if not tensor.isfinite().all():
            raise SourceError(f"{path}: {name} has NaN or infinity; download it again")
    if (c.diagonal() < 0).any() or (c - c.T).abs().amax() > ROUNDING * c.abs().amax():
        raise SourceError(
            f"{path}: {covariance} is no covariance, which is symmetric, with variances of 0 or more; compute it again"
        )
    return Gaussian(m, c)
