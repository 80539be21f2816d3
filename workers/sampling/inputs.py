"""What condition vectors and samples are computed from: labels, or the rows of uploaded conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import load
from torch import Tensor

from jobs.requests.fields import Part
from jobs.storage.uploads import ConditionStore
from tailprune.condition_table import with_guidance_scale
from tailprune.figures.labelled_vectors import LabelledVectors
from tailprune.spec.families import Family
from tailprune.systems import Condition, Inputs
from workers.model_pool import Source

__all__ = ["SampleInputs", "Vectors", "fractions_of", "labelled", "spaced_times", "times_of"]

TIMES = 1000
"""How many times part `t` is measured at in a family with continuous time; with whole timesteps, at each of them."""


@dataclass(frozen=True)
class SampleInputs:
    """The inputs of a request: labels, or uploaded conditions by row. A subject is one of either."""

    features: dict[str, Tensor] | None = None
    """The uploaded conditions, all rows; None for labels."""

    @classmethod
    def load(cls, conditions: str | None, store: ConditionStore) -> SampleInputs:
        """Load the conditions with this id; labels for None. Raises UnknownConditions where they are not stored."""
        return cls(None if conditions is None else load(store.read(conditions)))

    def select(self, subjects: Sequence[int]) -> Inputs:
        """The inputs of a system for these labels or rows, in this order."""
        if self.features is None:
            return {"labels": torch.tensor(subjects)}
        return {name: tensor[list(subjects)] for name, tensor in self.features.items()}

    @property
    def population(self) -> Inputs | None:
        """The inputs that a mean over the population is taken over: all uploaded conditions; None for all classes."""
        return self.features


def times_of(family: Family) -> Tensor:
    """The times that part `t` is measured at, from noise to data, with shape (T,)."""
    count = round(abs(family.data_time - family.noise_time)) + 1 if family.whole_times else TIMES
    return torch.linspace(family.noise_time, family.data_time, count)


def spaced_times(family: Family, count: int) -> Tensor:
    """So many times, evenly spaced from noise to data, rounded where they are whole in the family, with shape (T,)."""
    times = torch.linspace(family.noise_time, family.data_time, count)
    return times.round() if family.whole_times else times


def fractions_of(times: Tensor, family: Family) -> list[float]:
    """How much of sampling is done at these times, from 0 at the time of noise to 1 at that of data."""
    span = family.data_time - family.noise_time
    return ((times.double() - family.noise_time) / span).tolist()


@dataclass(frozen=True)
class Vectors:
    """The condition vectors of a model's classes, or of uploaded conditions.

    Of a model that takes the guidance scale as an input, they are those at the scale of its defaults.
    """

    source: Source
    condition: Condition
    samples: SampleInputs

    @classmethod
    def load(cls, source: Source, condition: Condition, conditions: str | None, store: ConditionStore) -> Vectors:
        """Load what the vectors are computed from.

        source: the model.
        condition: its embedders, or its whole system.
        conditions: the id of uploaded conditions; None for the model's classes.
        store: where conditions are uploaded to.
        Raises UnknownConditions where the conditions are not stored.
        """
        return cls(source, condition, SampleInputs.load(conditions, store))

    def inputs(self, subjects: Sequence[int] | None = None) -> Inputs:
        """The inputs of the condition for these labels or rows; for all of them by default."""
        if subjects is not None:
            inputs = self.samples.select(subjects)
        else:
            inputs = self.samples.population or self.condition.all_inputs()
        self.condition.check_inputs(inputs)
        if self.condition.takes_guidance:
            return with_guidance_scale(inputs, self.source.entry.defaults.guidance_scale)
        return inputs

    def compute(self, part: Part, timestep: float | None) -> Tensor:
        """Compute a part, with shape (N, d): c at one timestep and y over all inputs, t over all times."""
        if part == "t":
            return self.condition.embed_time(times_of(self.source.entry.facts))
        inputs = self.condition.embed_inputs(self.inputs())  # (N, d)
        if part == "y":
            return inputs
        assert timestep is not None, "a resolved request for part c has its timestep"
        return self.condition.embed_time(torch.tensor([timestep], dtype=torch.float32)) + inputs


def labelled(vectors: Vectors, part: Part, timestep: float | None) -> LabelledVectors:
    """The vectors of a part with their names: of classes, or else numbers; times of part t."""
    entry, values = vectors.source.entry, vectors.compute(part, timestep)
    if part == "t":
        names = [f"{time:.3g}" for time in times_of(entry.facts).tolist()]
        return LabelledVectors(values, entry.name, part, None, "time", names)
    if vectors.samples.features is not None:
        return LabelledVectors(values, entry.name, part, timestep, "condition", [*map(str, range(len(values)))])
    names = [entry.names[label] if label < len(entry.names) else str(label) for label in range(len(values))]
    return LabelledVectors(values, entry.name, part, timestep, "class", names)
