"""The shards that the chunks of a plan are stored in."""

from __future__ import annotations

import torch

from jobs.requests.prune_sample import PruneSampleRequest
from tests.workers.conftest import Submit
from workers.handler import Context
from workers.sampling.chunks import split_into_chunks
from workers.sampling.inputs import SampleInputs
from workers.sampling.plan import Plan


def test_chunks_in_another_precision_are_others(submit: Submit, context: Context) -> None:
    job = submit(labels=[0, 1, 2], precision="auto")
    plan = Plan.of(PruneSampleRequest.model_validate(job.request), rows_at_once=2)
    inputs = SampleInputs.load(None, context.conditions)
    keys = []
    for precision in ("float32", "bfloat16"):
        system = context.models.system(context.models.source("tiny", "model"), precision)
        chunks = split_into_chunks(system, [plan], inputs, context.shards, job.key, lambda *_: None)
        keys += [chunk.key for chunk in chunks]
        assert system.precision == getattr(torch, precision)
    assert len(keys) == len(set(keys)) == 6
    assert None not in keys
