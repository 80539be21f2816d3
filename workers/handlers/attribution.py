"""The job `attribution`: which components and directions carry which attribute of a model's classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from jobs.attribution_results import Attribute, Attributed, AttributedPart, AttributionResult
from jobs.requests.attribution import AttributionRequest
from jobs.results import ModelUsed
from tailprune.attribution import Attribution, attribute_variance
from tailprune.directions import class_vectors, metric_of
from tailprune.spec.attributes import read_attributes
from workers.handler import Context
from workers.lease import Product, Run
from workers.model_pool import Source

__all__ = ["attributed", "attribution_of", "handler"]

MOST_COMPONENTS = 4096
"""The most components of a result; a system whose blocks have their own conditions has more."""


class AttributionHandler:
    """Divides the variance of class vectors."""

    request = AttributionRequest

    def handle(
        self, run: Run, request: AttributionRequest, source: Source, context: Context
    ) -> Product[AttributionResult]:
        """Attribute the variance for a resolved request."""
        run.phase = "loading"
        run.step(0, 1, "models")
        attributes, found, count = attribution_of(request.attributes, source, context)
        run.step(1, 1, "models")
        by_component, along = attributed(found)
        result = AttributionResult(
            model=ModelUsed.of(request.model, request.reads, source.identity.weights),
            count=count,
            dim=len(found.components),
            attributes=[
                Attribute(name=name, values=list(dict.fromkeys(values))) for name, values in attributes.items()
            ],
            shares=[
                AttributedPart(part=part, plain=plain, weighted=weighted)
                for part, plain, weighted in zip(
                    found.parts, found.plain.tolist(), found.weighted.tolist(), strict=True
                )
            ],
            components=by_component[:MOST_COMPONENTS],
            directions=along,
        )
        return Product(result)


@torch.no_grad()
def attribution_of(
    attributes: Sequence[str] | None, source: Source, context: Context
) -> tuple[dict[str, list[str]], Attribution, int]:
    """The attributes of a model's classes, the attribution to them, and how many classes there are.

    attributes: as a resolved request has them.
    """
    system = context.models.system(source, "float32")
    vectors = class_vectors(system)
    found = read_attributes(attributes, source.entry.names, len(vectors))
    return found, attribute_variance(vectors, found, metric_of(system)), len(vectors)


def attributed(found: Attribution) -> tuple[list[Attributed], list[Attributed]]:
    """Components, and directions, each with what its variance is of, the largest first."""
    return (
        _sorted(found.components, found.components.sum(1) * found.norms.square()),
        _sorted(found.directions, found.directions.sum(1)),
    )


def _sorted(variances: Tensor, sizes: Tensor) -> list[Attributed]:
    shares = sizes / sizes.sum()
    parts = variances / variances.sum(1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    order = sizes.argsort(descending=True, stable=True)
    return [
        Attributed(index=index, share=share, parts=own)
        for index, share, own in zip(
            order.tolist(), shares[order].tolist(), parts[order].tolist(), strict=True
        )
    ]  # fmt: skip


handler = AttributionHandler()
