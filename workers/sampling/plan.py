"""What a request for samples comes down to: variants, samples, and the chunks they are made in.

A sample's noise is a function of (seed, label or row, which of its samples): it depends neither on its chunk nor on the
rest of the request.
"""

from __future__ import annotations

from dataclasses import dataclass

from jobs.requests.prune_sample import ResolvedPruneSample
from jobs.requests.sampled import SampledRequest
from tailprune import Guidance, Prune
from tailprune.spec.prune import PruneSpec

__all__ = ["BASELINE", "Plan", "PlannedVariant", "Sample"]


@dataclass(frozen=True)
class PlannedVariant:
    """A variant to make: its name, and its prune; no prune is the baseline."""

    name: str
    spec: PruneSpec | None = None

    @classmethod
    def of(cls, spec: PruneSpec | None) -> PlannedVariant:
        """The variant of a resolved prune, or the baseline."""
        return BASELINE if spec is None else cls(spec.name, spec)

    @property
    def prune(self) -> Prune | None:
        """The edit of condition vectors that this is."""
        return None if self.spec is None else Prune.of(self.spec)

    @property
    def slug(self) -> str:
        """The name as a part of a file's name."""
        return self.name.replace(" ", "-")


BASELINE = PlannedVariant("baseline")


@dataclass(frozen=True)
class Sample:
    """The `number`-th sample of a label, or of a row of the conditions."""

    subject: int
    number: int

    def seed(self, seed: int) -> tuple[int, int]:
        """What its noise is drawn from: the request's seed, and an index that no other sample has."""
        return seed, (self.subject << 32) + self.number


@dataclass(frozen=True)
class Plan:
    """The variants of a resolved request, the baseline first where there is one, and its samples subject by subject."""

    request: SampledRequest
    variants: list[PlannedVariant]
    samples: list[Sample]
    chunk_size: int
    """Samples made at once, each with all its variants."""

    @classmethod
    def of(cls, request: ResolvedPruneSample, rows_at_once: int) -> Plan:
        """rows_at_once: how many samples x variants one call of the network may take."""
        # They have one schedule and one fill, so that the rule alone tells them apart.
        variants = [PlannedVariant(spec.rule, spec) for spec in request.prunes]
        if request.compare:
            variants.insert(0, BASELINE)
        each = range(request.samples_per_label or 1)
        samples = [Sample(subject, number) for subject in request.subjects for number in each]
        return cls(request, variants, samples, chunk_size=max(1, rows_at_once // len(variants)))

    @property
    def chunks(self) -> list[list[Sample]]:
        """The samples, as many at a time as are made at once."""
        return [self.samples[i : i + self.chunk_size] for i in range(0, len(self.samples), self.chunk_size)]

    @property
    def steps(self) -> int:
        """Sampling steps."""
        assert self.request.steps is not None, "a resolved request says its steps"
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
