"""What a narrower precision does to samples: one sample made in both, once for each way of sampling a model."""

from __future__ import annotations

import json
from collections.abc import Callable

import redis
import torch

from jobs.batching import OWN
from jobs.keys import RESULT_VERSION, digest
from jobs.requests.sampled import SampledRequest
from jobs.storage.shards import ShardStore
from workers.model_pool import Models, Source
from workers.outputs.report import device_name
from workers.sampling.chunks import sample_plan
from workers.sampling.inputs import SampleInputs
from workers.sampling.plan import BASELINE, Plan, Sample

__all__ = ["dtype_drift"]


def dtype_drift(
    request: SampledRequest,
    source: Source,
    models: Models,
    of: SampleInputs,
    shards: ShardStore,
    check: Callable[[], None],
) -> float | None:
    """|latents - those in float32| / |those in float32|, of the request's first sample, unpruned; None in float32.

    It is kept, and found again by whoever samples the model in the same way on such a device. check: called at every
    step, and may raise to stop it.
    """
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
        kept = shards.get(key)
    except redis.RedisError:  # it is measured anew
        kept = None
    if kept is not None:
        return float(json.loads(kept))
    plan = Plan(request, [BASELINE], [Sample(request.subjects[0], 0)], chunk_size=1)
    (narrow,), (wide,) = (
        sample_plan(models.system(source, precision), plan, plan.samples, of, lambda done, total: check())
        for precision in (request.precision, "float32")
    )
    drift = ((narrow - wide).norm() / wide.norm()).item()
    shards.put(key, json.dumps(drift).encode())
    return drift
