"""Condition vectors by part: of what a request names, from the condition part of a model alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jobs.requests.fields import Part
from jobs.storage.uploads import ConditionStore
from tailprune.condition_table import with_guidance_scale
from tailprune.spec.families import Family
from tailprune.systems import Condition, Inputs
from workers.model_pool import Source
from workers.subjects import SampleInputs

__all__ = ["Vectors", "times_of"]

TIMES = 1000
"""How many times part `t` is measured at where time is continuous; where it is whole, all of them."""


def times_of(family: Family) -> Tensor:
    """The times that part `t` is measured at, from noise to data, with shape (T,)."""
    count = round(abs(family.data_time - family.noise_time)) + 1 if family.whole_times else TIMES
    return torch.linspace(family.noise_time, family.data_time, count)


@dataclass(frozen=True)
class Vectors:
    """The vectors of a model's classes, or of uploaded conditions, told its own guidance scale where it takes one."""

    source: Source
    condition: Condition
    subjects: SampleInputs

    @classmethod
    def of(cls, source: Source, condition: Condition, conditions: str | None, store: ConditionStore) -> Vectors:
        """conditions: the id of those that a request names. Raises UnknownConditions where they are gone."""
        return cls(source, condition, SampleInputs.of(conditions, store))

    def inputs(self, subjects: Sequence[int] | None = None) -> Inputs:
        """What the condition takes for these labels or rows; for all of them unless said."""
        if subjects is not None:
            inputs = self.subjects.inputs(subjects)
        else:
            inputs = self.subjects.population or self.condition.all_inputs()
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
