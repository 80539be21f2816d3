"""The job `metrics`: statistics of a model's condition vectors, from its condition tensors alone."""

from __future__ import annotations

import torch

import tailprune
from jobs.requests.metrics import MetricsRequest
from jobs.results import Cosine, Histogram, MetricsResult, ModelUsed, Sparsity, Variance
from workers.handler import Context
from workers.lease import Product, Run
from workers.model_pool import Source
from workers.sampling.inputs import Vectors

__all__ = ["handler"]


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
            count=statistics.count,
            dim=statistics.dim,
            cosine=Cosine.model_validate(statistics.cosine) if statistics.count > 1 else None,
            pr=statistics.pr,
            npr=statistics.npr,
            norm=statistics.norm,
            sparsity=[Sparsity(threshold=tau, fraction=statistics.sparsity(tau)) for tau in request.thresholds],
            histogram=Histogram.model_validate(statistics.histogram),
            variance=Variance(
                components=statistics.variance.tolist(),
                components_for={f"{share:g}": count for share, count in statistics.components_for_variance.items()},
            ),
        )
        return Product(result)


handler = MetricsHandler()
