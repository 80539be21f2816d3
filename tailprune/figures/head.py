"""Which components are the head of some vectors: few, large, and as many as the participation ratio.

    PR(v) = (sum_k |v_k|)^2 / sum_k v_k^2        head: the round(mean PR) components of greatest mean |v_k|

The participation ratio is how many components carry a vector, so the head needs no constant of ours, and it is chosen
by magnitude, as pruning chooses. It is not chosen by the variance over the classes: that the head tells classes apart
is a finding of a figure, and would otherwise be put into it.
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
    """In order of their number."""
    threshold: float
    """The least mean magnitude in the head."""
    pr: float
    """The mean participation ratio."""
    dim: int

    @property
    def tail(self) -> list[int]:
        """The other components."""
        head = set(self.components)
        return [component for component in range(self.dim) if component not in head]

    def rule(self, part: str) -> str:
        """How it was chosen, for a reader of a figure."""
        count = len(self.components)
        return (
            f"Head: the {count} component{'s' if count != 1 else ''} of greatest mean |{part}| "
            f"({self.threshold:.2g} and above), as many as the participation ratio, {self.pr:.1f}."
        )


def head_of(values: Tensor) -> Head:
    """The head of some vectors. values, with shape (N, d)."""
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
