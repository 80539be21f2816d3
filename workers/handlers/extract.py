"""The job `extract`: condition vectors as tensors, from a model's condition tensors alone."""

from __future__ import annotations

import torch
from torch import Tensor

import tailprune
from jobs.requests.extract import ExtractRequest
from jobs.results import Extracted, ExtractResult, ModelUsed
from workers.context import Stores
from workers.lease import Product, Run
from workers.model_pool import Models, Source
from workers.outputs.variant import JobArtifacts
from workers.sampling.inputs import Vectors
from workers.tensor_file import tensor_file

__all__ = ["extract"]

FILE = "vectors.safetensors"
MEDIA_TYPE = "application/octet-stream"
UNIT = "timesteps"

DESCRIPTIONS = {
    "c": "the condition c = y + t, with shape (timesteps, inputs, d)",
    "y": "its part of the input (label, pose or video), with shape (inputs, d)",
    "t": "its part of the time, with shape (timesteps, d)",
}


@torch.inference_mode()
def extract(
    request: ExtractRequest, source: Source, models: Models, stores: Stores, run: Run
) -> Product[ExtractResult]:
    """The vectors that a resolved request asks for. `run` hears of every timestep, and may raise to stop it."""
    vectors = Vectors.of(source, models.conditions.get(source), request.conditions, stores.conditions)
    tensors = _tensors(request, vectors, run)
    metadata = {
        "model": request.model,
        "digest": source.identity.weights,
        "family": source.entry.family,
        "tailprune": tailprune.__version__,
        **{part: text for part, text in DESCRIPTIONS.items() if part in tensors},
    }
    if vectors.condition.takes_guidance:
        metadata["guidance_scale"] = f"{source.entry.defaults.guidance_scale:g}"
    shelf = JobArtifacts(stores.artifacts)
    shelf.put(FILE, tensor_file(tensors, metadata), MEDIA_TYPE)
    result = ExtractResult(
        model=ModelUsed(name=request.model, digest=source.identity.weights),
        artifact=FILE,
        shapes={name: list(tensor.shape) for name, tensor in tensors.items()},
        counts=Extracted(
            timesteps=len(request.timesteps or []),
            inputs=len(request.subjects),
            dim=vectors.condition.condition_dim,
        ),
        bytes=shelf.artifacts[FILE].size,
    )
    return Product(result, shelf.artifacts)


def _tensors(request: ExtractRequest, vectors: Vectors, run: Run) -> dict[str, Tensor]:
    """The tensors of the file by name."""
    parts, times = request.parts or [], request.timesteps or []
    run.step(0, len(times), UNIT)
    made: dict[str, Tensor] = {}
    y = vectors.condition.embed_inputs(vectors.inputs(request.subjects)) if request.subjects else None  # (N, d)
    t = vectors.condition.embed_time(torch.tensor(times)) if times else None  # (T, d)
    if "c" in parts and y is not None and t is not None:
        made["c"] = torch.empty(len(t), *y.shape)  # (T, N, d)
        for place, at in enumerate(t):
            torch.add(at, y, out=made["c"][place])
            run.step(place + 1, len(times), UNIT)
    if "y" in parts and y is not None:
        made["y"] = y
    if "t" in parts and t is not None:
        made["t"] = t
    if t is not None:
        made["timesteps"] = torch.tensor(times)
    if y is not None:
        made["labels" if request.conditions is None else "conditions"] = torch.tensor(request.subjects)
    run.step(len(times), len(times), UNIT)
    return made
