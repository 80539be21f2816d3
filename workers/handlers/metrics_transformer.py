"""The job `metrics-transformer`: statistics of a large transformer's condition vectors, from what makes them alone."""

from __future__ import annotations

from pathlib import Path

import torch

import tailprune
from jobs.anatomy_results import TransformerUsed
from jobs.requests.metrics_transformer import MetricsTransformerRequest
from jobs.results import Cosine
from jobs.transformer_results import MetricsTransformerResult, PartMeasured
from tailprune.transformers import ConditionVectors, Summand, condition_vectors
from workers.handler import Context, read_transformer, transformer_of
from workers.handlers.metrics import statistics_of
from workers.lease import Product, Run

__all__ = ["handler"]

UNIT = "models"


class MetricsTransformerHandler:
    """Computes statistics of condition vectors of large transformers. Nothing of them stays in memory."""

    request = MetricsTransformerRequest

    @torch.inference_mode()
    def handle(
        self, run: Run, request: MetricsTransformerRequest, source: None, context: Context
    ) -> Product[MetricsTransformerResult]:
        """Compute the statistics of a resolved request.

        Raises InputError for files that cannot be used or that were written to meanwhile, and for a condition that
        cannot be computed, as of quantised weights; UnknownConditions.
        """
        entry, digest = transformer_of(run.job, request, context)
        run.phase = "measuring"
        run.step(0, 1, UNIT)

        def read(path: Path) -> ConditionVectors:
            resolutions = [(width, height) for width, height in request.resolutions or []]
            return condition_vectors(
                path,
                steps=request.steps,
                scheduler=entry.scheduler if request.scheduler == "own" else None,
                resolutions=resolutions,
                guidance=request.guidance,
                classes=request.classes,
                population=texts,
            )

        with context.uploaded(request.population) as texts:
            vectors = read_transformer(entry, digest, read)
        run.check()
        measured = {"c": vectors.c, "t": vectors.t, "y": vectors.y}[request.part]
        assert measured is not None, "a resolved request is of a part that there is"
        result = MetricsTransformerResult(
            model=TransformerUsed(name=entry.name, files_digest=digest),
            part=request.part,
            timestep=None,
            **statistics_of(tailprune.describe(measured), request.thresholds),
            scheduler=request.scheduler or "plain",
            times=vectors.times.tolist(),
            parts=[_measured(part) for part in vectors.parts],
        )
        run.step(1, 1, UNIT)
        return Product(result)


def _measured(part: Summand) -> PartMeasured:
    found = tailprune.describe(part.vectors.float())
    return PartMeasured(
        what=part.what,
        covers=part.covers,
        count=found.count,
        cosine=Cosine.model_validate(found.cosine) if found.count > 1 else None,
        pr=found.pr,
        npr=found.npr,
        norm=found.norm,
    )


handler = MetricsTransformerHandler()
