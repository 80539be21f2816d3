"""The job `over-time-transformer`: statistics of a large transformer's condition vectors at many times."""

from __future__ import annotations

from pathlib import Path

import torch

from jobs.anatomy_results import TransformerUsed
from jobs.requests.metrics_transformer import OverTimeTransformerRequest
from jobs.transformer_results import OverTimeTransformerResult, PartCovered
from tailprune.statistics_over_time import describe_over_time
from tailprune.transformers import ConditionVectors, condition_vectors
from workers.handler import Context, read_transformer, transformer_of
from workers.handlers.over_time import over_time_of
from workers.lease import Product, Run

__all__ = ["handler"]

UNIT = "models"


class OverTimeTransformerHandler:
    """Measures condition vectors of large transformers over time. Nothing of them stays in memory."""

    request = OverTimeTransformerRequest

    @torch.inference_mode()
    def handle(
        self, run: Run, request: OverTimeTransformerRequest, source: None, context: Context
    ) -> Product[OverTimeTransformerResult]:
        """Compute the statistics of a resolved request. Raises InputError as the handler of `metrics-transformer`."""
        entry, digest = transformer_of(run.job, request, context)
        run.phase = "measuring"
        run.step(0, 1, UNIT)

        def read(path: Path) -> ConditionVectors:
            resolutions = [(width, height) for width, height in request.resolutions or []]
            return condition_vectors(
                path,
                points=request.points,
                resolutions=resolutions,
                guidance=request.guidance,
                classes=request.classes,
                population=texts,
            )

        with context.uploaded(request.population) as texts:
            vectors = read_transformer(entry, digest, read)
        run.check()
        y = torch.zeros(1, vectors.t.shape[1]) if vectors.y is None else vectors.y
        result = OverTimeTransformerResult(
            model=TransformerUsed(name=entry.name, files_digest=digest),
            timesteps=vectors.times.tolist(),
            fraction=vectors.fraction.tolist(),
            **over_time_of(describe_over_time(y, vectors.t, request.thresholds)),
            parts=[PartCovered(what=part.what, covers=part.covers) for part in vectors.parts],
        )
        run.step(1, 1, UNIT)
        return Product(result)


handler = OverTimeTransformerHandler()
