"""What samples are made of: labels, or the rows of uploaded conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import load
from torch import Tensor

from jobs.storage.uploads import ConditionStore
from tailprune.systems import Inputs

__all__ = ["SampleInputs"]


@dataclass(frozen=True)
class SampleInputs:
    """Labels, or conditions by row."""

    features: dict[str, Tensor] | None = None
    """All rows of the conditions; None for labels."""

    @classmethod
    def of(cls, conditions: str | None, store: ConditionStore) -> SampleInputs:
        """Those that a request names. Raises UnknownConditions where they are no longer stored."""
        return cls(None if conditions is None else load(store.read(conditions)))

    def inputs(self, subjects: Sequence[int]) -> Inputs:
        """What a system takes for these labels or rows."""
        if self.features is None:
            return {"labels": torch.tensor(subjects)}
        return {name: tensor[list(subjects)] for name, tensor in self.features.items()}

    @property
    def population(self) -> Inputs | None:
        """What stands for all classes, where there are none: all conditions of the file."""
        return self.features
