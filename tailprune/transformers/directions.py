"""The directions that AdaLN reads in place of SiLU(c): for a schedule all that its vectors span, or the r best.

    x = B (s - m),    W s + b  ->  (W D) x + (b + W m),    s = SiLU(c), m its mean over the covered vectors

    schedule    B = V', D = V, of the singular value decomposition of the covered s - m = U S V'
    rank r      the modulations (s - m) W' = U C' of rows of W that are drawn, C = W V S, have P of the r largest
                eigenvectors of C'C as their first left singular vectors in the space of U; B = P'S^-1 V', D = V S P

So x = U P, orthonormal over what is covered, and BD = 1 to rounding however small a direction is. With all rows drawn
rank r is optimal, as in `tailprune.compaction`. No matrix of d x d is made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tailprune.checkpoints.files import CheckpointError
from tailprune.checkpoints.save import write_tensors
from tailprune.spec import InputError
from tailprune.transformers.ranks import check_size, errors_by_rank, sampled_rows
from tailprune.transformers.recognise import Model
from tailprune.transformers.schedule import Covered
from tailprune.transformers.source import open_file

__all__ = ["DIRECTIONS", "Directions", "all_directions", "best_directions", "read_decode", "write_decode"]

DIRECTIONS = "directions.safetensors"
"""The file of a compacted folder with D, as the tensor `decode`, for what is projected onto the directions later."""
EXACT = 1e-8
"""Directions in which the covered vectors vary by less than this, of the most, are left out of an exact table."""
NOISE = 1e-12
"""And by less than this, are none: float64's own rounding."""
MARGIN = 0.9
"""Of a wanted error, what the estimate from drawn rows may take."""


@dataclass(frozen=True)
class Directions:
    """What takes the place of SiLU(c), in float64."""

    mean: Tensor
    """m, with shape (d,)."""
    encode: Tensor
    """B, with shape (r, d)."""
    decode: Tensor
    """D, with shape (d, r)."""

    @property
    def digest(self) -> str:
        """The sha256 of all three, in float64."""
        parts = (each.contiguous().numpy().tobytes() for each in (self.mean, self.encode, self.decode))
        return hashlib.sha256(b"".join(parts)).hexdigest()


def all_directions(covered: Covered) -> Directions:
    """Those that the covered vectors span, which is exact for them."""
    mean = covered.read.mean(0)
    _, values, directions = torch.linalg.svd(covered.read - mean, full_matrices=False)
    kept = directions[values > EXACT * values[0]] if len(values) else directions
    return Directions(mean, kept, kept.T)


def best_directions(model: Model, covered: Covered, rank: int | None, error: float | None) -> Directions:
    """The `rank` with the least error of all modulations, or as many as an error needs.

    Raises InputError for more than there are.
    """
    mean = covered.read.mean(0)
    check_size(covered.read.square().sum())
    _, sizes, axes = torch.linalg.svd(covered.read - mean, full_matrices=False)
    known = sizes > NOISE * sizes[0]
    sizes, axes = sizes[known], axes[known]
    weights, shares = sampled_rows(model)
    modulations = sizes[:, None] * (axes @ weights.T.double()) * shares
    products = modulations @ modulations.T
    whole = len(covered.read) * ((weights.double() @ mean) * shares).square().sum() + products.trace()
    check_size(whole)
    squares, vectors = torch.linalg.eigh(products)
    if rank is None:
        assert error is not None, "one of rank and error is given"
        rank = min(max(1, int((errors_by_rank(squares, whole) > MARGIN * error).sum())), len(squares))
    if rank > len(squares):
        raise InputError(
            f"the covered vectors have {len(squares)} directions that matter, which is less than rank {rank}"
        )
    chosen = vectors[:, -rank:].flip(1)
    return Directions(mean, (chosen / sizes[:, None]).T @ axes, axes.T @ (chosen * sizes[:, None]))


def write_decode(folder: Path, directions: Directions) -> str:
    """Write D in float32 into a compacted folder, and return the sha256 of its file."""
    write_tensors(folder / DIRECTIONS, {"decode": directions.decode.float()}, {"format": "pt"})
    return hashlib.sha256((folder / DIRECTIONS).read_bytes()).hexdigest()


def read_decode(folder: Path, rank: int, width: int, digests: Mapping[str, str]) -> Tensor:
    """D of a compacted folder, with shape (width, rank), float32.

    digests: the sha256 that the folder states for its files

    Raises InputError for a folder of before D was written, CheckpointError for another file than was written.
    """
    path, digest = folder / DIRECTIONS, digests.get(DIRECTIONS)
    if digest is None or not path.is_file():
        raise InputError(
            f"{folder}: has no {DIRECTIONS}, which says how SiLU(c) is made of its directions: compact the whole model "
            "again"
        )
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise CheckpointError(f"{path}: is not the file that was written: its sha256 differs")
    source, _ = open_file(path)
    if source.shape("decode") != (width, rank):
        raise CheckpointError(
            f"{path}: decode has the shape {list(source.shape('decode'))}, and AdaLN reads {rank} directions of {width}"
        )
    return source.read("decode")
