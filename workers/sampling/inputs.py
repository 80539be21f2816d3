"""What condition vectors and samples are made of: labels, or the rows of uploaded conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import load
from torch import Tensor

from jobs.requests.fields import Part
from jobs.storage.uploads import ConditionStore
from tailprune.condition_table import with_guidance_scale
from tailprune.spec.families import Family
from tailprune.systems import Condition, Inputs
from workers.model_pool import Source

__all__ = ["SampleInputs", "Vectors", "times_of"]

TIMES = 1000
"""How many times part `t` is measured at where time is continuous; where it is whole, all of them."""


@dataclass(frozen=True)
class SampleInputs:
    """Labels, or conditions by row."""

    features: dict[str, Tensor] | None = None
    """All rows of the conditions; None for labels."""

    @classmethod
    def load(cls, conditions: str | None, store: ConditionStore) -> SampleInputs:
        """Those that a request names. Raises UnknownConditions where they are no longer stored."""
        return cls(None if conditions is None else load(store.read(conditions)))

    def of(self, subjects: Sequence[int]) -> Inputs:
        """What a system takes for these labels or rows."""
        if self.features is None:
            return {"labels": torch.tensor(subjects)}
        return {name: tensor[list(subjects)] for name, tensor in self.features.items()}

    @property
    def population(self) -> Inputs | None:
        """What stands for all classes, where there are none: all conditions of the file."""
        return self.features


def times_of(family: Family) -> Tensor:
    """The times that part `t` is measured at, from noise to data, with shape (T,)."""
    count = round(abs(family.data_time - family.noise_time)) + 1 if family.whole_times else TIMES
    return torch.linspace(family.noise_time, family.data_time, count)


@dataclass(frozen=True)
class Vectors:
    """The vectors of a model's classes, or of uploaded conditions, told its own guidance scale where it takes one."""

    source: Source
    condition: Condition
    samples: SampleInputs

    @classmethod
    def of(cls, source: Source, condition: Condition, conditions: str | None, store: ConditionStore) -> Vectors:
        """conditions: the id of those that a request names. Raises UnknownConditions where they are gone."""
        return cls(source, condition, SampleInputs.load(conditions, store))

    def inputs(self, subjects: Sequence[int] | None = None) -> Inputs:
        """What the condition takes for these labels or rows; for all of them unless said."""
        if subjects is not None:
            inputs = self.samples.of(subjects)
        else:
            inputs = self.samples.population or self.condition.all_inputs()
        self.condition.check_inputs(inputs)
        if self.condition.takes_guidance:
            return with_guidance_scale(inputs, self.source.entry.defaults.guidance_scale)
        return inputs

    def of_part(self, part: Part, timestep: float | None) -> Tensor:
        """The vectors of a part, with shape (N, d): c at one time and y over all inputs, t over all times."""
        if part == "t":
            return self.condition.embed_time(times_of(self.source.entry.facts))
        inputs = self.condition.embed_inputs(self.inputs())  # (N, d)
        if part == "y":
            return inputs
        assert timestep is not None, "a resolved request for part c has its timestep"
        return self.condition.embed_time(torch.tensor([timestep], dtype=torch.float32)) + inputs
