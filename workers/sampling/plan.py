"""What a request for samples comes down to: variants, samples, and the chunks they are made in.

A subject is what a sample is of: a label, or a row of uploaded conditions. A sample's noise is a function of the seed,
its subject and its number among the subject's samples, and depends neither on its chunk nor on the rest of the request.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from jobs.requests.prune_sample import PruneSampleRequest
from jobs.requests.sampled import SampledRequest
from tailprune import Guidance, Prune, sampling_times
from tailprune.condition_table import ConditionTable, with_guidance_scale
from tailprune.spec.prune import PruneSpec
from tailprune.systems import Condition, Inputs, System
from workers.sampling.inputs import SampleInputs

__all__ = ["BASELINE", "Plan", "PlannedVariant", "Sample"]


@dataclass(frozen=True)
class PlannedVariant:
    """A variant of a request: its name, and its prune; None for the baseline."""

    name: str
    spec: PruneSpec | None = None
    prune: Prune | None = None
    """The edit of the condition vectors; None for the baseline."""

    @classmethod
    def of(cls, spec: PruneSpec | None) -> PlannedVariant:
        """The variant of a resolved prune, or the baseline."""
        return BASELINE if spec is None else cls(spec.name, spec, Prune.from_spec(spec))

    @property
    def slug(self) -> str:
        """The name as a part of a file's name."""
        return self.name.replace(", ", "-").replace(" ", "-")


BASELINE = PlannedVariant("baseline")


@dataclass(frozen=True)
class Sample:
    """The `number`-th sample, from 0, of a label or of a row of the conditions."""

    subject: int
    number: int

    def seed(self, seed: int) -> tuple[int, int]:
        """The seed of its noise: the request's seed, and an index that no other sample has."""
        return seed, (self.subject << 32) + self.number


@dataclass(frozen=True)
class Plan:
    """The variants of a resolved request, the baseline first if it is compared, and its samples subject by subject."""

    request: SampledRequest
    variants: list[PlannedVariant]
    samples: list[Sample]
    chunk_size: int
    """How many samples one call of the network takes, each with all its variants."""

    @classmethod
    def of(cls, request: PruneSampleRequest, rows_at_once: int) -> Plan:
        """Plan a request. rows_at_once: how many samples x variants one call of the network may take."""
        variants = [PlannedVariant.of(spec) for spec in request.prunes]
        if request.compare:
            variants.insert(0, BASELINE)
        each = range(request.samples_per_label or 1)
        samples = [Sample(subject, number) for subject in request.subjects for number in each]
        return cls(request, variants, samples, chunk_size=max(1, rows_at_once // len(variants)))

    def over_run(self, condition: Condition, inputs: SampleInputs, family: type[System]) -> Plan:
        """The same plan with the thresholds of prunes that remove a share, which is of the whole request's vectors.

        condition: the model, or its condition alone.
        inputs: the labels or conditions of the request.
        family: the class of the model.
        """
        if all(variant.prune is None or variant.prune.removed_share is None for variant in self.variants):
            return self
        selected = self.inputs_for(condition, inputs, self.request.subjects)
        table = ConditionTable(condition, selected, self.times(family), inputs.population)
        variants = [
            each if each.prune is None else replace(each, prune=table.resolved(each.prune)) for each in self.variants
        ]
        return replace(self, variants=variants)

    def inputs_for(self, condition: Condition, inputs: SampleInputs, subjects: list[int]) -> Inputs:
        """The inputs of the condition for labels or rows, with the request's guidance scale if it takes one."""
        selected = inputs.select(subjects)
        return with_guidance_scale(selected, self.guidance.scale) if condition.takes_guidance else selected

    def times(self, family: type[System]) -> Tensor:
        """The times at which each step evaluates a model of this class, with shape (steps, stages)."""
        return sampling_times(family, self.request.sampler, self.steps, self.request.timestep_shift)

    @property
    def chunks(self) -> list[list[Sample]]:
        """The samples, `chunk_size` at a time."""
        return [self.samples[i : i + self.chunk_size] for i in range(0, len(self.samples), self.chunk_size)]

    @property
    def steps(self) -> int:
        """Sampling steps."""
        assert self.request.steps is not None, "a resolved request has its steps"
        return self.request.steps

    @property
    def guidance(self) -> Guidance:
        """The guidance of all variants."""
        request, interval = self.request, self.request.guidance_interval
        return Guidance(
            scale=request.guidance_scale or 1.0,
            channels=None if request.guided_channels == "all" else request.guided_channels,
            power=request.guidance_power,
            interval=None if interval is None else (interval[0], interval[1]),
        )
