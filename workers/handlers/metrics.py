"""The job `metrics`: statistics of a model's condition vectors, from its condition tensors alone."""

from __future__ import annotations

import torch

import tailprune
from jobs.requests.metrics import MetricsRequest
from jobs.results import Cosine, Histogram, MetricsResult, ModelUsed, Sparsity, Variance
from jobs.storage.uploads import ConditionStore
from workers.model_pool import Models, Source
from workers.sampling.inputs import Vectors

__all__ = ["measure"]


@torch.inference_mode()
def measure(request: MetricsRequest, source: Source, models: Models, conditions: ConditionStore) -> MetricsResult:
    """The statistics that a resolved request asks for."""
    vectors = Vectors.of(source, models.conditions.get(source), request.conditions, conditions)
    found = tailprune.describe(vectors.of_part(request.part, request.timestep))
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
