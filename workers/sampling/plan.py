"""What a request for samples comes down to: variants, samples, and the chunks they are made in.

A sample's noise is a function of (seed, label or row, which of its samples): it depends neither on its chunk nor on the
rest of the request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from jobs.requests.prune_sample import PruneSampleRequest
from jobs.requests.prunes import PruneSpec, plain
from jobs.requests.sampled import SampledRequest
from jobs.results import PruneUsed
from tailprune import Guidance, Prune

__all__ = ["Edit", "Plan", "Sample"]

T = TypeVar("T")


@dataclass(frozen=True)
class Edit:
    """A variant to make: its name, and its prune as the science and as the result say it. No prune: the baseline."""

    name: str
    prune: Prune | None = None
    used: PruneUsed | None = None

    @classmethod
    def of(cls, spec: PruneSpec, name: str | None = None) -> Edit:
        """That of a resolved prune, under the prune's own name unless another is given."""
        assert spec.fill is not None, "a resolved prune says its fill"
        when, count = spec.schedule.when, spec.schedule.count
        if spec.keep is not None:
            prune = Prune.keep(spec.keep, "variance", spec.fill, when, count)
        else:
            prune = Prune(spec.side, spec.threshold, when, count, spec.fill)
        return cls(name or spec.name, prune, PruneUsed(**spec.model_dump()))

    @property
    def slug(self) -> str:
        """The name as a part of a file's name."""
        return self.name.replace(" ", "-")


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
    edits: list[Edit]
    samples: list[Sample]
    chunk_size: int
    """Samples made at once, each with all its variants."""

    @classmethod
    def of(cls, request: PruneSampleRequest, rows_at_once: int) -> Plan:
        """rows_at_once: how many samples x variants one call of the network may take."""
        edits = [*([Edit("baseline")] if request.compare else []), *_prunes(request)]
        each = range(request.samples_per_label or 1)
        samples = [Sample(subject, number) for subject in request.subjects for number in each]
        return cls(request, edits, samples, chunk_size=max(1, rows_at_once // len(edits)))

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


def _prunes(request: PruneSampleRequest) -> list[Edit]:
    """The variants of a request that has one schedule and one fill: it is the rule alone that tells them apart."""
    edits = []
    for threshold in _each(request.threshold):
        spec = PruneSpec(threshold=threshold, side=request.side, fill=request.fill, schedule=request.schedule)
        edits.append(Edit.of(spec, f"{request.side} {plain(threshold)}"))
    for kept in _each(request.keep):
        spec = PruneSpec(keep=kept, by=request.by, fill=request.fill, schedule=request.schedule)
        edits.append(Edit.of(spec, f"keep {kept}"))
    return edits


def _each(values: T | list[T] | None) -> list[T]:
    """A field that a resolved request holds as a list, or not at all."""
    if values is None:
        return []
    return values if isinstance(values, list) else [values]
