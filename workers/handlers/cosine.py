"""The job `cosine`: the cosine of every pair of condition vectors, from a model's condition tensors alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch

from jobs.requests.cosine import MOST_COSINES_IN_JSON, CosineRequest, Order
from jobs.results import CosineMatrix, CosineResult, ModelUsed
from tailprune.checkpoints import write_tensors
from tailprune.statistics import cosine_matrix, order_by_likeness, summarise_cosine
from workers.handler import Context
from workers.lease import Product, Run
from workers.model_pool import Source
from workers.outputs.variant import JobArtifacts
from workers.sampling.inputs import Vectors, labelled

__all__ = ["handler"]

FILE = "cosine.safetensors"
MATRIX = "cosine.json"


class CosineHandler:
    """Computes cosines."""

    request = CosineRequest

    @torch.inference_mode()
    def handle(self, run: Run, request: CosineRequest, source: Source, context: Context) -> Product[CosineResult]:
        """Compute the cosines of a resolved request."""
        condition = context.models.conditions.get(source)
        vectors = Vectors.load(source, condition, request.conditions, context.conditions)
        shown = labelled(vectors, request.part, request.timestep)
        run.check()
        cosine, summary = cosine_matrix(shown.values).clamp(-1, 1).cpu(), summarise_cosine(shown.values)
        run.check()
        order = _ordered(request.order, cosine, shown.names)
        cosine = cosine[order][:, order]
        files = JobArtifacts(context.artifacts)
        files.artifacts[FILE] = context.store_file(
            FILE,
            "application/octet-stream",
            lambda path: write_tensors(
                path, {"cosine": cosine.half().contiguous(), "labels": torch.tensor(order)}, {"model": request.model}
            ),
        )
        facts: dict[str, Any] = {
            "model": ModelUsed.of(request.model, request.reads, source.identity.weights),
            "part": request.part,
            "timestep": request.timestep,
            "count": len(order),
            "order": request.order,
            "mean": summary.mean,
            "min": summary.min,
            "max": summary.max,
        }
        if len(order) <= MOST_COSINES_IN_JSON:
            names = [shown.names[row] for row in order]
            matrix = CosineMatrix(**facts, labels=order, names=names, values=cosine.tolist())
            files.put(MATRIX, matrix.model_dump_json().encode(), "application/json")
        result = CosineResult(**facts, artifact=FILE, matrix=MATRIX if MATRIX in files.artifacts else None)
        return Product(result, files.artifacts)


def _ordered(order: Order, cosine: torch.Tensor, names: Sequence[str]) -> list[int]:
    """The rows in an order. cosine: of every pair; names: of the rows."""
    if order == "likeness":
        return order_by_likeness(cosine)
    rows = list(range(len(names)))
    return sorted(rows, key=lambda row: _by_name(names[row])) if order == "name" else rows


def _by_name(name: str) -> list[str | int]:
    """What names are sorted by: numbers in them count as numbers, and case does not matter."""
    return [int(part) if place % 2 else part.casefold() for place, part in enumerate(re.split(r"([0-9]+)", name))]


handler = CosineHandler()
