"""The job `metrics`: statistics of a model's condition vectors, from its condition tensors alone."""

from __future__ import annotations

import torch
from torch import Tensor

import tailprune
from jobs.conditions import ConditionStore
from jobs.families import Family
from jobs.requests import MetricsRequest
from jobs.results import Cosine, Histogram, MetricsResult, ModelUsed, Sparsity, Variance
from tailprune.conditions import told_guidance
from tailprune.systems import Condition, Inputs
from workers.models import Models
from workers.subjects import Subjects

__all__ = ["measure"]

TIMES = 1000
"""How many times part `t` is measured at where time is continuous; where it is whole, all of them."""


@torch.inference_mode()
def measure(request: MetricsRequest, models: Models, conditions: ConditionStore) -> MetricsResult:
    """The statistics that a resolved request asks for."""
    source = models.source(request.model, "metrics")
    condition = models.conditions.get(source)
    population = Subjects.of(request.conditions, conditions).population
    if population is None and request.part != "t":
        population = condition.all_inputs()
        if condition.takes_guidance:
            population = told_guidance(population, source.entry.defaults.guidance_scale)
    vectors = _vectors(request, condition, population, source.entry.facts)
    found = tailprune.describe(vectors)
    return MetricsResult(
        model=ModelUsed(name=request.model, digest=source.identity.weights),
        part=request.part,
        timestep=request.timestep,
        count=found.count,
        dim=found.dim,
        cosine=Cosine(mean=found.cosine.mean, min=found.cosine.min, max=found.cosine.max),
        pr=found.pr,
        npr=found.npr,
        norm=found.norm,
        sparsity=[Sparsity(threshold=tau, fraction=found.sparsity(tau)) for tau in request.thresholds],
        histogram=Histogram(edges=found.histogram.edges, counts=found.histogram.counts),
        variance=Variance(
            components=found.variance.tolist(),
            components_for={f"{share:g}": count for share, count in found.components_for_variance.items()},
        ),
    )


def _vectors(request: MetricsRequest, condition: Condition, population: Inputs | None, family: Family) -> Tensor:
    """The vectors of a part: over the population at one time (c), over the population (y), or over all times (t)."""
    if request.part == "t":
        return condition.embed_time(_times(family))
    assert population is not None, "parts c and y have a population"
    parts = condition.embed_inputs(population)  # (count, d)
    if request.part == "y":
        return parts
    assert request.timestep is not None, "a resolved request for part c has its timestep"
    return condition.embed_time(torch.tensor([request.timestep], dtype=torch.float32)) + parts


def _times(family: Family) -> Tensor:
    count = round(abs(family.last_time - family.first_time)) + 1 if family.whole_times else TIMES
    return torch.linspace(family.first_time, family.last_time, count)
