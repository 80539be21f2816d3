"""The job `over-time`: statistics of condition vectors at many times, from a model's condition tensors alone."""

from __future__ import annotations

from typing import Any

import torch

from jobs.requests.over_time import OverTimeRequest
from jobs.results import BelowOverTime, CosineOverTime, ModelUsed, OverTimeResult
from tailprune.statistics_over_time import DescriptionOverTime, describe_over_time
from workers.handler import Context
from workers.lease import Product, Run
from workers.model_pool import Source
from workers.sampling.inputs import Vectors, fractions_of, spaced_times

__all__ = ["handler", "over_time_of"]


class OverTimeHandler:
    """Measures condition vectors over time."""

    request = OverTimeRequest

    @torch.inference_mode()
    def handle(self, run: Run, request: OverTimeRequest, source: Source, context: Context) -> Product[OverTimeResult]:
        """Compute the statistics of a resolved request."""
        condition, facts = context.models.conditions.get(source), source.entry.facts
        vectors = Vectors.load(source, condition, request.conditions, context.conditions)
        times = spaced_times(facts, request.points)
        run.check()
        found = describe_over_time(
            condition.embed_inputs(vectors.inputs()), condition.embed_time(times), request.thresholds
        )
        result = OverTimeResult(
            model=ModelUsed.of(request.model, request.reads, source.identity.weights),
            timesteps=times.tolist(),
            fraction=fractions_of(times, facts),
            **over_time_of(found),
        )
        return Product(result)


def over_time_of(found: DescriptionOverTime) -> dict[str, Any]:
    """The fields of an `OverTime` that say what was found."""
    cosine = CosineOverTime(
        mean=found.cosine_mean.tolist(), min=found.cosine_min.tolist(), max=found.cosine_max.tolist()
    )
    return {
        "count": found.count,
        "dim": found.dim,
        "cosine": cosine if found.count > 1 else None,
        "npr": found.npr.tolist(),
        "pr": found.pr.tolist(),
        "norm": found.norm.tolist(),
        "removed": [
            BelowOverTime(threshold=threshold, fraction=below.tolist(), mean=below.mean().item())
            for threshold, below in zip(found.thresholds, found.sparsity.T, strict=True)
        ],
    }


handler = OverTimeHandler()
