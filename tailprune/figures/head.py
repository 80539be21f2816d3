"""The head of a set of vectors: as many of the largest components as the participation ratio.

    PR(v) = (sum_k |v_k|)^2 / sum_k v_k^2        head: the round(mean PR) components of greatest mean |v_k|

The participation ratio is the effective number of components of a vector, so the head needs no free constant, and it is
chosen by magnitude, as in pruning. It is not chosen by the variance over the classes, so that a figure can show whether
the head distinguishes the classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tailprune.statistics import participation_ratio

__all__ = ["Head", "head_of"]


@dataclass(frozen=True)
class Head:
    """The head of N vectors of d components."""

    components: list[int]
    """The indices of the head's components, ascending."""
    threshold: float
    """The smallest mean magnitude in the head."""
    pr: float
    """The mean participation ratio."""
    dim: int

    @property
    def tail(self) -> list[int]:
        """The other components."""
        head = set(self.components)
        return [component for component in range(self.dim) if component not in head]

    def rule(self, part: str) -> str:
        """How the head was chosen, for the note of a figure."""
        count = len(self.components)
        return (
            f"Head: the {count} component{'s' if count != 1 else ''} of greatest mean |{part}| "
            f"({self.threshold:.2g} and above), as many as the participation ratio PR.\n"
            f"PR = (Σ|{part}ᵢ|)² / Σ{part}ᵢ² = {self.pr:.1f}, nPR = PR / d = {self.pr / self.dim:.3f}, "
            f"means over the vectors of d = {self.dim:,} components."
        )


def head_of(values: Tensor) -> Head:
    """The head of vectors with shape (N, d)."""
    pr = participation_ratio(values).mean().item()
    mean = values.double().abs().mean(0)
    count = min(max(1, round(pr)), len(mean))
    order = torch.sort(mean, descending=True, stable=True)
    return Head(
        components=sorted(order.indices[:count].tolist()),
        threshold=order.values[count - 1].item(),
        pr=pr,
        dim=len(mean),
    )
