"""How far a narrower precision moves samples: one sample in both precisions, once for each way of sampling a model."""

from __future__ import annotations

import json
from collections.abc import Callable

import redis
import torch

from jobs.batching import OWN
from jobs.keys import RESULT_VERSION, digest
from jobs.requests.sampled import SampledRequest
from workers.context import Context
from workers.model_pool import Source
from workers.outputs.report import device_name
from workers.sampling.chunks import sample_plan
from workers.sampling.inputs import SampleInputs
from workers.sampling.plan import BASELINE, Plan, Sample

__all__ = ["dtype_drift"]


def dtype_drift(
    request: SampledRequest, source: Source, inputs: SampleInputs, context: Context, check: Callable[[], None]
) -> float | None:
    """Measure |x - x_32| / |x_32| of the latents x of the request's first sample, unpruned; None in float32.

    The result is stored, and found by every job that samples the model in the same way on the same kind of device.
    request: the resolved request, with the precision.
    source: the model.
    inputs: the labels or conditions of the request.
    context: the models and the store.
    check: called at every step; may raise to stop.
    """
    models, shards = context.models, context.shards
    if models.dtype_of(request.precision) == torch.float32:
        return None
    key = digest(
        {
            "drift of": request.model_dump(mode="json", include=set(SampledRequest.model_fields) - OWN),
            "model": {"weights": source.identity.weights, "reading": source.identity.reading},
            "on": device_name(models.device),
            "compiled": models.compiles,
            "version": RESULT_VERSION,
        }
    )
    try:
        stored = shards.get(key)
    except redis.RedisError:  # it is measured again
        stored = None
    if stored is not None:
        return float(json.loads(stored))
    plan = Plan(request, [BASELINE], [Sample(request.subjects[0], 0)], chunk_size=1)
    (narrow,), (wide,) = (
        sample_plan(models.system(source, precision), plan, plan.samples, inputs, lambda done, total: check())
        for precision in (request.precision, "float32")
    )
    drift = ((narrow - wide).norm() / wide.norm()).item()
    shards.put(key, json.dumps(drift).encode())
    return drift
