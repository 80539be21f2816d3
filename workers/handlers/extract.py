"""The job `extract`: condition vectors as tensors, from a model's condition tensors alone."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

import tailprune
from jobs.requests.extract import FLOAT_BYTES, ExtractRequest
from jobs.results import Extracted, ExtractResult, ModelUsed
from tailprune.checkpoints import Pieces, write_tensors
from tailprune.condition_table import PIECE_BYTES, sums_in_pieces
from tailprune.systems import Condition
from workers.handler import Context
from workers.lease import Product, Run
from workers.model_pool import Source
from workers.sampling.inputs import Vectors

__all__ = ["handler"]

FILE = "vectors.safetensors"
MEDIA_TYPE = "application/octet-stream"
UNIT = "timesteps"

DESCRIPTIONS = {
    "c": "the condition c = y + t, with shape (timesteps, inputs, d)",
    "y": "its part of the input (label, pose or video), with shape (inputs, d)",
    "t": "its part of the time, with shape (timesteps, d)",
}


class ExtractHandler:
    """Extracts condition vectors."""

    request = ExtractRequest

    @torch.inference_mode()
    def handle(self, run: Run, request: ExtractRequest, source: Source, context: Context) -> Product[ExtractResult]:
        """Extract the vectors of a resolved request."""
        run.phase = "loading"
        run.step(0, len(request.timesteps or []), UNIT)
        vectors = Vectors.load(source, context.models.conditions.get(source), request.conditions, context.conditions)
        run.phase = "extracting"
        tensors = _tensors(request, vectors, run)
        metadata = {
            "model": request.model,
            "condition_digest": source.identity.weights,
            "family": source.entry.family,
            "tailprune": tailprune.__version__,
            **{part: text for part, text in DESCRIPTIONS.items() if part in tensors},
        }
        if vectors.condition.takes_guidance:
            metadata["guidance_scale"] = f"{source.entry.defaults.guidance_scale:g}"
        artifact = context.store_file(FILE, MEDIA_TYPE, lambda path: write_tensors(path, tensors, metadata))
        run.step(len(request.timesteps or []), len(request.timesteps or []), UNIT)
        result = ExtractResult(
            model=ModelUsed.of(request.model, request.reads, source.identity.weights),
            artifact=FILE,
            shapes={name: list(tensor.shape) for name, tensor in tensors.items()},
            counts=Extracted(
                timesteps=len(request.timesteps or []),
                inputs=len(request.subjects),
                dim=vectors.condition.condition_dim,
            ),
            bytes=artifact.size,
        )
        return Product(result, {FILE: artifact})


def _tensors(request: ExtractRequest, vectors: Vectors, run: Run) -> dict[str, Tensor | Pieces]:
    """The tensors of the file, by name. `run` is called at every timestep of c, and may raise to stop."""
    parts, times = request.parts or [], torch.tensor(request.timesteps or [])
    condition, tensors = vectors.condition, dict[str, Tensor | Pieces]()
    y = condition.embed_inputs(vectors.inputs(request.subjects)) if request.subjects else None  # (N, d)

    def c(inputs: Tensor) -> Iterator[Tensor]:
        done = 0
        for some_times in _time_parts(condition, times):
            for at in some_times:
                yield from sums_in_pieces(at.unsqueeze(0), inputs)
                done += 1
                run.step(done, len(times), UNIT)

    if "c" in parts and y is not None and len(times):
        tensors["c"] = Pieces(y.dtype, (len(times), *y.shape), c(y))
    if "y" in parts and y is not None:
        tensors["y"] = y
    if "t" in parts and len(times):
        tensors["t"] = Pieces(torch.float32, (len(times), condition.condition_dim), _time_parts(condition, times))
    if len(times):
        tensors["timesteps"] = times
    if y is not None:
        tensors["labels" if request.conditions is None else "conditions"] = torch.tensor(request.subjects)
    return tensors


def _time_parts(condition: Condition, times: Tensor) -> Iterator[Tensor]:
    """The time parts, some times at once. times, with shape (T,) -> (t, d) each."""
    at_once = max(1, PIECE_BYTES // (FLOAT_BYTES * condition.condition_dim))
    return map(condition.embed_time, times.split(at_once))


handler = ExtractHandler()
