"""What AdaLN reads of c in a compacted system: fewer columns than the d components (see `tailprune.compaction`).

components:  read = (SiLU(c_k), k kept;  z(t), columns that depend on time alone, if any)
directions:  read = basis SiLU(c)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailprune.spec import InputError

__all__ = ["BASIS", "KEPT", "TIMES", "VALUES", "Directions", "KeptComponents", "TimeColumns"]

KEPT, BASIS = "reader.kept", "reader.basis"
TIMES, VALUES = "time_columns.times", "time_columns.values"
"""The tensors that only a compacted file has, with shape (k,), (r, d), (T,) and (T, rho)."""


class KeptComponents(nn.Module):
    """k kept components of SiLU(c), and the columns of time behind c. c, with shape (B, d + rho) -> (B, k + rho)."""

    kept: Tensor

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("kept", torch.zeros(count, dtype=torch.int64))

    def forward(self, c: Tensor) -> Tensor:
        return torch.cat([F.silu(c[..., self.kept]), c[..., self.dim :]], dim=-1)

    def __str__(self) -> str:
        return f"{len(self.kept)} of {self.dim} components"

    def check(self) -> None:
        """Raise InputError for indices that do not ascend, or lie outside 0 to d - 1."""
        if self.kept.dtype != torch.int64:
            raise InputError(f"{KEPT} must hold indices of type torch.int64, not {self.kept.dtype}")
        if self.kept[0] < 0 or self.kept[-1] >= self.dim or not (self.kept.diff() > 0).all():
            raise InputError(f"{KEPT} must hold ascending indices from 0 to {self.dim - 1}, components of c")


class Directions(nn.Module):
    """Projections of SiLU(c) on r directions. c, with shape (B, d) -> (B, r)."""

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        self.basis = nn.Parameter(torch.zeros(count, dim))

    def forward(self, c: Tensor) -> Tensor:
        return F.linear(F.silu(c), self.basis)

    def __str__(self) -> str:
        return f"{self.basis.shape[0]} directions of {self.basis.shape[1]} components"

    def check(self) -> None:
        """Raise InputError for numbers that are not finite."""
        if not torch.isfinite(self.basis).all():
            raise InputError(f"{BASIS} holds NaN or infinity")


class TimeColumns(nn.Module):
    """rho functions of time, interpolated linearly between stored values. t, with shape (B,) -> (B, rho).

    They are constant before the first and after the last stored time.
    """

    times: Tensor
    values: Tensor

    def __init__(self, times: int, count: int) -> None:
        super().__init__()
        self.register_buffer("times", torch.zeros(times))
        self.register_buffer("values", torch.zeros(times, count))

    def forward(self, t: Tensor) -> Tensor:
        if len(self.times) == 1:
            return self.values.expand(len(t), -1)
        t = t.to(self.times.dtype).clamp(self.times[0], self.times[-1])
        after = torch.searchsorted(self.times, t).clamp(min=1)
        before = after - 1
        share = (t - self.times[before]) / (self.times[after] - self.times[before])
        return torch.lerp(self.values[before], self.values[after], share.unsqueeze(-1))

    def __str__(self) -> str:
        return f"{self.values.shape[1]} columns of {len(self.times)} times"

    def check(self) -> None:
        """Raise InputError for times that do not ascend, or numbers that are not finite."""
        if not (self.times.diff() > 0).all() or not torch.isfinite(self.times).all():
            raise InputError(f"{TIMES} must hold ascending, finite times")
        if not torch.isfinite(self.values).all():
            raise InputError(f"{VALUES} holds NaN or infinity")
