"""The samples of a plan, chunk by chunk.

Samples are made in chunks of as many as fit one call of the network, variants side by side. Where there are several,
each is a shard: kept when it is made, and found again by a worker that takes up the job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import redis
from safetensors.torch import load, save
from torch import Tensor

import tailprune
from jobs.keys import digest
from jobs.shards import ShardStore
from tailprune.systems import System
from workers.plan import Plan, Sample
from workers.run import Run
from workers.subjects import Subjects

__all__ = ["chunks_of", "sample_plan"]

Make = Callable[[], list[Tensor]]


def chunks_of(
    system: System, plan: Plan, of: Subjects, shards: ShardStore, job_key: str, run: Run
) -> Iterator[tuple[list[Sample], Make]]:
    """Each chunk, and what makes its latents: on the CPU, one tensor with shape (B, C, H, W) a variant.

    `run` hears of every step of sampling, and may raise to stop it.
    """
    for place, (chunk, (on_step, steps)) in enumerate(zip(plan.chunks, _steps_of_chunks(plan, run), strict=True)):
        key = digest({"job": job_key, "chunk": place, "size": plan.chunk_size}) if len(plan.chunks) > 1 else None
        yield chunk, partial(_made, system, plan, chunk, of, shards, key, on_step, steps)


def _made(
    system: System,
    plan: Plan,
    chunk: Sequence[Sample],
    of: Subjects,
    shards: ShardStore,
    key: str | None,
    on_step: Callable[[int, int], None],
    steps: int,
) -> list[Tensor]:
    """The latents of a chunk; where it is a shard, under this key."""
    latents = None if key is None else _found(shards, key, len(plan.edits))
    if latents is None:
        latents = [made.float().cpu() for made in sample_plan(system, plan, chunk, of, on_step)]
        if key is not None:
            shards.put(key, save({str(edit): made for edit, made in enumerate(latents)}))
    on_step(steps, steps)
    return latents


def sample_plan(
    system: System, plan: Plan, samples: Sequence[Sample], of: Subjects, on_step: Callable[[int, int], None]
) -> list[Tensor]:
    """Latents of these samples, one tensor with shape (B, C, H, W) a variant."""
    request = plan.request
    made = tailprune.sample(
        system,
        of.inputs([sample.subject for sample in samples]),
        sampler=request.sampler,
        steps=plan.steps,
        guidance=plan.guidance,
        prune=[edit.prune for edit in plan.edits],
        seeds=[sample.seed(request.seed) for sample in samples],
        population=of.population,
        on_step=on_step,
        diffusion=request.diffusion,
        last_step=request.last_step,
        shift=request.timestep_shift,
    )
    assert isinstance(made, list), "a list of prunes makes a list of latents"
    if not all(latents.isfinite().all() for latents in made):
        raise ValueError(
            "sampling diverged: the latents hold NaN or infinity; lower guidance_scale, or guide fewer channels"
        )
    return made


def _found(shards: ShardStore, key: str, edits: int) -> list[Tensor] | None:
    """The latents of a shard, one tensor a variant, where it was made before."""
    try:
        kept = shards.get(key)
    except redis.RedisError:  # it is made anew
        return None
    if kept is None:
        return None
    tensors = load(kept)
    return [tensors[str(edit)] for edit in range(edits)]


def _steps_of_chunks(plan: Plan, run: Run) -> list[tuple[Callable[[int, int], None], int]]:
    """For each chunk, what its sampling calls with (done, total) of that chunk, and that total.

    `run` hears of the whole job.
    """
    chunks = plan.chunks
    unit, sizes = "steps", [plan.steps for _ in chunks]
    if plan.request.sampler == "dopri5":  # chooses its steps, and tells of each finished sample
        unit, sizes = "samples", [len(chunk) * len(plan.edits) for chunk in chunks]
    total = sum(sizes)
    run.step(0, total, unit)

    def step_from(before: int) -> Callable[[int, int], None]:
        return lambda done, _: run.step(before + done, total, unit)

    return [(step_from(sum(sizes[:place])), size) for place, size in enumerate(sizes)]
