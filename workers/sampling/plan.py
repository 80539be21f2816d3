"""What a request for samples comes down to: variants, samples, and the chunks they are made in.

A subject is what a sample is of: a label, or a row of uploaded conditions. A sample's noise is a function of the seed,
its subject and its number among the subject's samples, and depends neither on its chunk nor on the rest of the request.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from jobs.requests.edit import EditRequest
from jobs.requests.prune_sample import PruneSampleRequest
from jobs.requests.sampled import SampledRequest
from tailprune import Edit, Guidance, ModulationGuidance, Prune, Shift, sampling_times, shift_between
from tailprune.condition_table import ConditionTable, with_guidance_scale
from tailprune.edit import AnyEdit
from tailprune.spec.edit import EditSpec
from tailprune.spec.prune import PruneSpec
from tailprune.systems import Condition, Inputs, System
from workers.sampling.inputs import SampleInputs

__all__ = ["BASELINE", "Plan", "PlannedVariant", "Sample"]


@dataclass(frozen=True)
class PlannedVariant:
    """A variant of a request: its name, and its prune or edit; None for the baseline."""

    name: str
    spec: PruneSpec | EditSpec | None = None
    prune: AnyEdit | None = None
    """What changes the condition vectors; None for the baseline, and for an edit until `Plan.over_run`."""

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
    def of(cls, request: PruneSampleRequest | EditRequest, rows_at_once: int) -> Plan:
        """Plan a request. rows_at_once: how many samples x variants one call of the network may take."""
        if isinstance(request, EditRequest):
            variants = [PlannedVariant(spec.name, spec) for spec in request.edits]
        else:
            variants = [PlannedVariant.of(spec) for spec in request.prunes]
            if request.compare:
                variants.insert(0, BASELINE)
        each = range(request.samples_per_label or 1)
        samples = [Sample(subject, number) for subject in request.subjects for number in each]
        return cls(request, variants, samples, chunk_size=max(1, rows_at_once // len(variants)))

    def over_run(self, condition: Condition, inputs: SampleInputs, family: type[System]) -> Plan:
        """The same plan with what depends on the model and on all vectors of the request: the thresholds of prunes that
        remove a share, and the shifts of edits.

        condition: the model, or its condition alone.
        inputs: the labels or conditions of the request.
        family: the class of the model.
        """
        if isinstance(self.request, EditRequest):
            shift = self.shift(condition, inputs)
            edits = [
                replace(each, prune=Edit(shift, spec.strength, spec.schedule) if spec.strength else None)
                for each, spec in zip(self.variants, self.request.edits, strict=True)
            ]
            return replace(self, variants=edits)
        prunes = [each.prune for each in self.variants if isinstance(each.prune, Prune)]
        if all(prune.removed_share is None for prune in prunes):
            return self
        selected = self.inputs_for(condition, inputs, self.request.subjects)
        modulation = self.guidance.modulation
        table = ConditionTable(condition, selected, self.times(family), inputs.population, modulation)
        variants = [
            replace(each, prune=table.resolved(each.prune)) if isinstance(each.prune, Prune) else each
            for each in self.variants
        ]
        return replace(self, variants=variants)

    def shift(self, condition: Condition, inputs: SampleInputs, whole: bool = False) -> Shift:
        """The shift of the edits of a request; `whole` for all components of it."""
        spec = next(each.spec for each in self.variants if isinstance(each.spec, EditSpec))
        return shift_between(
            condition,
            inputs.select(spec.source),
            inputs.select(spec.target),
            components=None if whole else spec.components,
            directions=None if whole else spec.directions,
            population=inputs.population,
        )

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
        request, interval, moved = self.request, self.request.guidance_interval, self.request.modulation
        return Guidance(
            scale=request.guidance_scale or 1.0,
            channels=None if request.guided_channels == "all" else request.guided_channels,
            power=request.guidance_power,
            interval=None if interval is None else (interval[0], interval[1]),
            modulation=None
            if moved is None
            else ModulationGuidance(moved.weight, _number(moved.plus), _number(moved.minus)),
        )


def _number(label: int | str | None) -> int | None:
    """The number of a class of a resolved request."""
    assert not isinstance(label, str), "a resolved request has numbers"
    return label
