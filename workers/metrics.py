"""The job `metrics`: statistics of a model's condition vectors, from its condition tensors alone."""

from __future__ import annotations

import torch
from torch import Tensor

import tailprune
from jobs.families import Family
from jobs.requests import MetricsRequest
from jobs.results import Cosine, Histogram, MetricsResult, ModelUsed, Sparsity, Variance
from tailprune.systems import Condition
from workers.models import Models

__all__ = ["measure"]

TIMES = 1000
"""How many times part `t` is measured at where time is continuous; where it is whole, all of them."""


@torch.inference_mode()
def measure(request: MetricsRequest, models: Models) -> MetricsResult:
    """The statistics that a resolved request asks for."""
    source = models.source(request.model)
    vectors = _vectors(request, models.conditions.get(source), source.entry.facts)
    found = tailprune.describe(vectors)
    return MetricsResult(
        model=ModelUsed(name=request.model, digest=source.digest),
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


def _vectors(request: MetricsRequest, condition: Condition, family: Family) -> Tensor:
    """The vectors of a part: over all classes at one time (c), over all classes (y), or over all times (t)."""
    if request.part == "t":
        return condition.embed_time(_times(family))
    classes = condition.embed_inputs(condition.all_inputs())  # (classes, d)
    if request.part == "y":
        return classes
    assert request.timestep is not None, "a resolved request for part c has its timestep"
    return condition.embed_time(torch.tensor([request.timestep], dtype=torch.float32)) + classes


def _times(family: Family) -> Tensor:
    count = round(abs(family.last_time - family.first_time)) + 1 if family.whole_times else TIMES
    return torch.linspace(family.first_time, family.last_time, count)
