"""The job `extract`: condition vectors as tensors, from a model's condition tensors alone."""

from __future__ import annotations

import torch
from torch import Tensor

import tailprune
from jobs.requests.extract import ExtractRequest
from jobs.results import Extracted, ExtractResult, ModelUsed
from tailprune.checkpoints import encode_tensors
from workers.handler import Context
from workers.lease import Product, Run
from workers.model_pool import Source
from workers.outputs.variant import JobArtifacts
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
        vectors = Vectors.load(source, context.models.conditions.get(source), request.conditions, context.conditions)
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
        files = JobArtifacts(context.artifacts)
        files.put(FILE, encode_tensors(tensors, metadata), MEDIA_TYPE)
        result = ExtractResult(
            model=ModelUsed.of(request.model, request.reads, source.identity.weights),
            artifact=FILE,
            shapes={name: list(tensor.shape) for name, tensor in tensors.items()},
            counts=Extracted(
                timesteps=len(request.timesteps or []),
                inputs=len(request.subjects),
                dim=vectors.condition.condition_dim,
            ),
            bytes=files.artifacts[FILE].size,
        )
        return Product(result, files.artifacts)


def _tensors(request: ExtractRequest, vectors: Vectors, run: Run) -> dict[str, Tensor]:
    """The tensors of the file, by name. `run` is called at every timestep, and may raise to stop."""
    parts, times = request.parts or [], request.timesteps or []
    run.step(0, len(times), UNIT)
    tensors: dict[str, Tensor] = {}
    y = vectors.condition.embed_inputs(vectors.inputs(request.subjects)) if request.subjects else None  # (N, d)
    t = vectors.condition.embed_time(torch.tensor(times)) if times else None  # (T, d)
    if "c" in parts and y is not None and t is not None:
        tensors["c"] = torch.empty(len(t), *y.shape)  # (T, N, d)
        for place, at in enumerate(t):
            torch.add(at, y, out=tensors["c"][place])
            run.step(place + 1, len(times), UNIT)
    if "y" in parts and y is not None:
        tensors["y"] = y
    if "t" in parts and t is not None:
        tensors["t"] = t
    if t is not None:
        tensors["timesteps"] = torch.tensor(times)
    if y is not None:
        tensors["labels" if request.conditions is None else "conditions"] = torch.tensor(request.subjects)
    run.step(len(times), len(times), UNIT)
    return tensors


handler = ExtractHandler()
