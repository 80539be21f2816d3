"""The samples of a plan, chunk by chunk; or of several plans that share a batch.

Samples are made in chunks of as many as fit one call of the network, variants side by side. Where a plan has several,
each is a shard: kept when it is made, and found again by a worker that takes up the job. Plans that share a batch have
one chunk together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice

import redis
import torch
from safetensors.torch import load, save
from torch import Tensor

import tailprune
from jobs.keys import digest
from jobs.storage.shards import ShardStore
from tailprune.spec import InputError
from tailprune.systems import System
from workers.sampling.inputs import SampleInputs
from workers.sampling.plan import Plan, Sample

__all__ = ["chunks_of", "finite", "sample_plan"]

AppState = Sequence[Sequence[Sample]]
"""The samples of a chunk, plan by plan."""
Make = Callable[[], list[list[Tensor]]]
OnStep = Callable[[int, int], None]


def chunks_of(
    system: System,
    plans: Sequence[Plan],
    inputs: SampleInputs,
    shards: ShardStore,
    job_key: str,
    step: Callable[[int, int, str], None],
) -> Iterator[tuple[AppState, Make]]:
    """Each chunk, and what makes its latents: plan by plan, on the CPU, a tensor with shape (B, C, H, W) a variant.

    plans: one, of the job with this key; or several that are sampled alike, and have so few samples that one call of
    the network takes them all. step(done, total, unit) is called at every step of sampling, and may raise to stop it.
    """
    chunks: list[AppState]
    chunks = [[chunk] for chunk in plans[0].chunks] if len(plans) == 1 else [[plan.samples for plan in plans]]
    steps_of = _steps_of_chunks(plans[0], chunks, step)
    for place, (parts, (on_step, steps)) in enumerate(zip(chunks, steps_of, strict=True)):
        key = digest({"job": job_key, "chunk": place, "size": plans[0].chunk_size}) if len(chunks) > 1 else None
        yield parts, partial(_made, system, plans, parts, inputs, shards, key, on_step, steps)


def _made(
    system: System,
    plans: Sequence[Plan],
    parts: AppState,
    inputs: SampleInputs,
    shards: ShardStore,
    key: str | None,
    on_step: OnStep,
    steps: int,
) -> list[list[Tensor]]:
    """The latents of a chunk; where it is a shard, under this key."""
    latents = None if key is None else _found(shards, key, len(plans[0].variants))
    if latents is None:
        latents = _sample(system, plans, parts, inputs, on_step)
        if key is not None:
            shards.put(key, save({str(variant): made for variant, made in enumerate(finite(latents[0]))}))
    on_step(steps, steps)
    return latents


def sample_plan(
    system: System, plan: Plan, samples: Sequence[Sample], inputs: SampleInputs, on_step: OnStep
) -> list[Tensor]:
    """Latents of these samples of a plan, on the CPU, one tensor with shape (B, C, H, W) a variant.

    Raises InputError where they diverged.
    """
    return finite(_sample(system, [plan], [samples], inputs, on_step)[0])


def finite(latents: list[Tensor]) -> list[Tensor]:
    """The latents of a plan. Raises InputError where they diverged."""
    if not all(variant.isfinite().all() for variant in latents):
        raise InputError(
            "sampling diverged: the latents hold NaN or infinity; lower guidance_scale, or guide fewer channels"
        )
    return latents


def _sample(
    system: System, plans: Sequence[Plan], parts: AppState, inputs: SampleInputs, on_step: OnStep
) -> list[list[Tensor]]:
    """Latents of these samples of each plan, all as one batch: on the CPU, a tensor (B, C, H, W) a variant."""
    first, rows = plans[0], [(plan, sample) for plan, part in zip(plans, parts, strict=True) for sample in part]
    made = tailprune.sample_each(
        system,
        inputs.of([sample.subject for _, sample in rows]),
        prunes=[[variant.prune for variant in plan.variants] for plan, _ in rows],
        sampler=first.request.sampler,
        steps=first.steps,
        guidance=first.guidance,
        seeds=[sample.seed(plan.request.seed) for plan, sample in rows],
        population=inputs.population,
        on_step=on_step,
        diffusion=first.request.diffusion,
        last_step=first.request.last_step,
        shift=first.request.timestep_shift,
    )
    latents = iter(made)
    return [
        [torch.stack(variant).float().cpu() for variant in zip(*islice(latents, len(part)), strict=True)]
        for part in parts
    ]


def _found(shards: ShardStore, key: str, variants: int) -> list[list[Tensor]] | None:
    """The latents of a shard, one tensor a variant, where it was made before."""
    try:
        kept = shards.get(key)
    except redis.RedisError:  # it is made anew
        return None
    if kept is None:
        return None
    tensors = load(kept)
    return [[tensors[str(variant)] for variant in range(variants)]]


def _steps_of_chunks(
    plan: Plan, chunks: Sequence[AppState], step: Callable[[int, int, str], None]
) -> list[tuple[OnStep, int]]:
    """For each chunk, what its sampling calls with (done, total) of that chunk, and that total.

    `step` hears of all of them together.
    """
    unit, sizes = "steps", [plan.steps for _ in chunks]
    if plan.request.sampler == "dopri5":  # chooses its steps, and tells of each finished sample
        unit, sizes = "samples", [len(samples) * len(plan.variants) for (samples,) in chunks]
    total = sum(sizes)
    step(0, total, unit)

    def step_from(before: int) -> OnStep:
        return lambda done, _: step(before + done, total, unit)

    return [(step_from(sum(sizes[:place])), size) for place, size in enumerate(sizes)]
