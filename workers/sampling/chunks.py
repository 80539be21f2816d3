"""The samples of a plan, chunk by chunk; or of several plans that share a batch.

A chunk is as many samples as fit one call of the network, with all their variants. Where a plan has several chunks,
each is a shard: it is stored once it is sampled, and a worker that takes over the job finds it. Plans that share a
batch have one chunk together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import redis
import torch
from safetensors.torch import load, save
from torch import Tensor

import tailprune
from jobs.keys import digest
from jobs.storage.shards import ShardStore
from jobs.tracing import span
from tailprune.spec import InputError
from tailprune.systems import System
from workers.sampling.inputs import SampleInputs
from workers.sampling.plan import Plan, Sample

__all__ = ["Chunk", "check_finite", "sample_plan", "split_into_chunks", "work_of"]

OnStep = Callable[[int, int], None]
"""Called at every step of sampling with the steps done and their total; may raise to stop it."""


@dataclass(frozen=True)
class Chunk:
    """Samples that are made by one call of the network."""

    system: System
    plans: Sequence[Plan]
    samples: Sequence[Sequence[Sample]]
    """The samples of the chunk, plan by plan."""
    inputs: SampleInputs
    on_step: OnStep
    steps: int
    """The total that `on_step` is called with at the end."""
    shards: ShardStore
    key: str | None
    """The key of the shard; None where the chunk is not stored."""

    def latents(self) -> list[list[Tensor]]:
        """Load or sample the latents: plan by plan, on the CPU, a tensor with shape (B, C, H, W) a variant.

        They may hold NaN: where one plan of a batch diverges, the others are whole. Those of a shard are checked before
        it is stored, and InputError is raised.
        """
        with span("shard", tailprune__samples=sum(map(len, self.samples))) as traced:
            latents = self._load()
            traced.note(tailprune__found=latents is not None)
            if latents is None:
                latents = _sample(self.system, self.plans, self.samples, self.inputs, self.on_step)
                self._store(latents)
        self.on_step(self.steps, self.steps)
        return latents

    def _load(self) -> list[list[Tensor]] | None:
        if self.key is None:
            return None
        try:
            content = self.shards.get(self.key)
        except redis.RedisError:  # it is sampled again
            return None
        if content is None:
            return None
        tensors = load(content)
        return [[tensors[str(variant)] for variant in range(len(self.plans[0].variants))]]

    def _store(self, latents: list[list[Tensor]]) -> None:
        if self.key is not None:
            tensors = enumerate(check_finite(latents[0]))
            self.shards.put(self.key, save({str(variant): tensor for variant, tensor in tensors}))


def split_into_chunks(
    system: System,
    plans: Sequence[Plan],
    inputs: SampleInputs,
    shards: ShardStore,
    job_key: str,
    step: Callable[[int, int, str], None],
) -> Iterator[Chunk]:
    """The chunks of one plan, or the one chunk of several plans.

    plans: one; or several that are sampled alike, with so few samples that one call of the network takes them all.
    inputs: the labels or conditions that the plans sample.
    shards: where the chunks of a plan with several are stored.
    job_key: the key of the plan's job, a part of the keys of its shards.
    step: called with (done, total, unit) of all chunks together at every step; may raise to stop the sampling.
    """
    chunks = _chunks(plans)
    sizes, unit = work_of(plans)
    total = sum(sizes)
    step(0, total, unit)
    done_before = 0
    for place, (samples, size) in enumerate(zip(chunks, sizes, strict=True)):

        def on_step(done: int, _: int, before: int = done_before) -> None:
            step(before + done, total, unit)

        key = _key(job_key, place, plans[0].chunk_size, system) if len(chunks) > 1 else None
        yield Chunk(system, plans, samples, inputs, on_step, size, shards, key)
        done_before += size


def _key(job_key: str, place: int, size: int, system: System) -> str:
    """The key of a chunk, with the precision, which workers may choose differently for `auto`."""
    return digest({"job": job_key, "chunk": place, "size": size, "precision": str(system.precision)})


def work_of(plans: Sequence[Plan]) -> tuple[list[int], str]:
    """What is counted in each chunk of one plan, or in the one chunk of several: how many, and the unit."""
    chunks = _chunks(plans)
    if plans[0].request.sampler == "dopri5":  # it chooses its own steps, and reports each finished sample
        return [len(samples) * len(plans[0].variants) for (samples,) in chunks], "samples"
    return [plans[0].steps for _ in chunks], "steps"


def _chunks(plans: Sequence[Plan]) -> list[Sequence[Sequence[Sample]]]:
    """The samples of each chunk, plan by plan."""
    return [[chunk] for chunk in plans[0].chunks] if len(plans) == 1 else [[plan.samples for plan in plans]]


def sample_plan(
    system: System, plan: Plan, samples: Sequence[Sample], inputs: SampleInputs, on_step: OnStep
) -> list[Tensor]:
    """Sample some of a plan's samples in one call: latents on the CPU, a tensor with shape (B, C, H, W) a variant.

    system: the model.
    plan: how they are sampled, and the variants.
    samples: those of the plan to make, B of them.
    inputs: the labels or conditions that the plan samples.
    on_step: called at every step; may raise to stop the sampling.
    Raises InputError where the latents diverged.
    """
    return check_finite(_sample(system, [plan], [samples], inputs, on_step)[0])


def check_finite(latents: list[Tensor]) -> list[Tensor]:
    """Return the latents of a plan. Raises InputError where they diverged."""
    if not all(variant.isfinite().all() for variant in latents):
        raise InputError(
            "sampling diverged: the latents hold NaN or infinity; lower guidance_scale, or guide fewer channels"
        )
    return latents


def _sample(
    system: System,
    plans: Sequence[Plan],
    samples_by_plan: Sequence[Sequence[Sample]],
    inputs: SampleInputs,
    on_step: OnStep,
) -> list[list[Tensor]]:
    """Sample these samples of each plan as one batch: plan by plan, on the CPU, a tensor (B, C, H, W) a variant."""
    first = plans[0]
    rows = [(plan, sample) for plan, samples in zip(plans, samples_by_plan, strict=True) for sample in samples]
    sampled = tailprune.sample_each(
        system,
        inputs.select([sample.subject for _, sample in rows]),
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
    latents = iter(sampled)
    return [
        [torch.stack(variant).float().cpu() for variant in zip(*islice(latents, len(samples)), strict=True)]
        for samples in samples_by_plan
    ]
