"""Values that no trained network has: NaN, infinity, and the zeros of a download that did not finish."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["no_plain_numbers", "not_finite", "zeroed"]

NEVER_ZERO = ("x_embedder.", "t_embedder.", "y_embedder.", "attn.qkv.", "attn.proj.", "mlp.")
"""Parts of the names of matrices that are not zero after training, nor before: AdaLN and the final layer begin at 0."""
SHARE = 8
"""Zeros in one row of this many, one after another, are a hole in the file; training leaves single ones at most."""


def no_plain_numbers(name: str, tensor: Tensor) -> str | None:
    """Why a tensor is not a dense one of real numbers with values, and what to do; None if it is one."""
    if tensor.is_meta:
        return f"{name} has a shape but no values (device meta): save the model after its weights were loaded"
    kind = (
        "sparse" if tensor.layout is not torch.strided
        else "quantized" if tensor.is_quantized
        else "of complex numbers" if tensor.is_complex()
        else f"of type {tensor.dtype}" if not tensor.is_floating_point() and name.endswith((".weight", ".bias"))
        else None
    )  # fmt: skip
    return kind and f"{name} is {kind}, not of floating-point numbers: save the weights as float32, float16 or bfloat16"


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The first tensor with NaN or infinity, and what to do, as a text; None if all values are finite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel() and not torch.isfinite(torch.stack(tensor.aminmax())).all():
            wrong = int((~torch.isfinite(tensor)).sum())
            return (
                f"{name} holds NaN or infinity, in {wrong:,} of {tensor.numel():,} values: use a checkpoint from "
                "before the training diverged, or download it again"
            )
    return None


def zeroed(tensors: Mapping[str, Tensor]) -> str | None:
    """The matrices that are zero in whole or from some row to another, and what to do, as a text; None for none."""
    holes = [name for name, tensor in tensors.items() if _can_tell(name, tensor) and _has_hole(tensor)]
    if not holes:
        return None
    more = f" and {len(holes) - 1} more" if len(holes) > 1 else ""
    return f"{holes[0]}{more} hold long runs of zeros, as in a download that did not finish: download it again"


def _can_tell(name: str, tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.ndim > 1 and any(part in name for part in NEVER_ZERO)


def _has_hole(tensor: Tensor) -> bool:
    """Whether an eighth of the rows, two at least (or the only one), are zero one after another."""
    low, high = tensor.flatten(1).aminmax(dim=1)
    empty = (low == 0) & (high == 0)
    if not empty.any():
        return False
    length = min(len(empty), max(2, -(-len(empty) // SHARE)))
    return bool(empty.float().unfold(0, length, 1).amin(1).max() > 0)
