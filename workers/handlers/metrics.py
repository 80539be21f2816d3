"""The job `metrics`: statistics of a model's condition vectors, from its condition tensors alone."""

from __future__ import annotations

import torch

import tailprune
from jobs.requests.metrics import MetricsRequest
from jobs.results import Cosine, Histogram, MetricsResult, ModelUsed, Sparsity, Variance
from workers.context import Context
from workers.lease import Product, Run
from workers.model_pool import Source
from workers.sampling.inputs import Vectors

__all__ = ["handler"]


class MetricsHandler:
    """Measures condition vectors."""

    request = MetricsRequest

    @torch.inference_mode()
    def handle(self, run: Run, request: MetricsRequest, source: Source, context: Context) -> Product[MetricsResult]:
        """The statistics that a resolved request asks for."""
        condition = context.models.conditions.get(source)
        vectors = Vectors.of(source, condition, request.conditions, context.conditions)
        found = tailprune.describe(vectors.of_part(request.part, request.timestep))
        result = MetricsResult(
            model=ModelUsed(name=request.model, digest=source.identity.weights),
            part=request.part,
            timestep=request.timestep,
            count=found.count,
            dim=found.dim,
            cosine=Cosine.model_validate(found.cosine),
            pr=found.pr,
            npr=found.npr,
            norm=found.norm,
            sparsity=[Sparsity(threshold=tau, fraction=found.sparsity(tau)) for tau in request.thresholds],
            histogram=Histogram.model_validate(found.histogram),
            variance=Variance(
                components=found.variance.tolist(),
                components_for={f"{share:g}": count for share, count in found.components_for_variance.items()},
            ),
        )
        return Product(result)


handler = MetricsHandler()
