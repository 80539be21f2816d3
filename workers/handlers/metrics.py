"""The job `metrics`: statistics of a model's condition vectors, from its condition tensors alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

import tailprune
from jobs.requests.metrics import MetricsRequest
from jobs.results import Cosine, Histogram, MetricsResult, ModelUsed, Sparsity, Variance
from workers.handler import Context
from workers.lease import Product, Run
from workers.model_pool import Source
from workers.sampling.inputs import Vectors

__all__ = ["handler", "statistics_of"]


class MetricsHandler:
    """Computes statistics of condition vectors."""

    request = MetricsRequest

    @torch.inference_mode()
    def handle(self, run: Run, request: MetricsRequest, source: Source, context: Context) -> Product[MetricsResult]:
        """Compute the statistics of a resolved request."""
        condition = context.models.conditions.get(source)
        vectors = Vectors.load(source, condition, request.conditions, context.conditions)
        statistics = tailprune.describe(vectors.compute(request.part, request.timestep))
        result = MetricsResult(
            model=ModelUsed.of(request.model, request.reads, source.identity.weights),
            part=request.part,
            timestep=request.timestep,
            **statistics_of(statistics, request.thresholds),
        )
        return Product(result)


def statistics_of(found: tailprune.Description, thresholds: Sequence[float]) -> dict[str, Any]:
    """The fields of a `Statistics` that say what was found. thresholds: at which sparsity is measured."""
    return {
        "count": found.count,
        "dim": found.dim,
        "cosine": Cosine.model_validate(found.cosine) if found.count > 1 else None,
        "pr": found.pr,
        "npr": found.npr,
        "norm": found.norm,
        "sparsity": [Sparsity(threshold=tau, fraction=found.sparsity(tau)) for tau in thresholds],
        "histogram": Histogram.model_validate(found.histogram),
        "variance": Variance(
            components=found.variance.tolist(),
            components_for={f"{share:g}": count for share, count in found.components_for_variance.items()},
        ),
    }


handler = MetricsHandler()
