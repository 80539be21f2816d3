"""The job `prune-sample`: every prune of a request sampled from the same noise, beside the unpruned baseline.

Samples are made in chunks of as many as fit one call of the network, variants side by side. Where there are several,
each is a shard: kept when it is made, and found again by a worker that takes up the job. Pictures are stored as they
come, so that what is held grows with the latents alone.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from safetensors.torch import load, save
from torch import Tensor

import tailprune
from jobs.artifacts import ArtifactStore
from jobs.conditions import ConditionStore
from jobs.keys import digest
from jobs.records import Job
from jobs.registry import ModelEntry
from jobs.requests import PruneSampleRequest
from jobs.results import Embedding, Engine, ModelUsed, Pictures, PruneSampleResult, Removed, Timing
from jobs.shards import ShardStore
from tailprune.conditions import told_guidance
from tailprune.systems import System
from workers.models import Models
from workers.plan import Plan, Sample, subjects
from workers.run import Product, Run
from workers.subjects import Subjects
from workers.tracks import Caption, Shelf, Track, shown, variants_grid

__all__ = ["Stores", "prune_and_sample"]

GRID = "grid.png"


@dataclass(frozen=True)
class Stores:
    """Where a job's files come from and go to."""

    artifacts: ArtifactStore
    shards: ShardStore
    conditions: ConditionStore


def prune_and_sample(
    job: Job, models: Models, stores: Stores, rows_at_once: int, run: Run
) -> Product[PruneSampleResult]:
    """Does a job. `run.step` hears of every step of sampling, and may raise to stop it."""
    plan = Plan.of(PruneSampleRequest.model_validate(job.request), rows_at_once)
    source = models.source(plan.request.model, "prune-sample")
    shelf = Shelf(stores.artifacts)
    clock = _Clock()
    with clock.running("load"):
        system = models.systems.get(source)
        decode = models.decoders.get(source)
        of = Subjects.of(plan.request.conditions, stores.conditions)

    caption = Caption.of(source.entry)
    tiles_of = shown(plan.samples)
    tracks = [Track(edit, caption, source.entry.display_scale, shelf, tiles_of) for edit in plan.edits]
    shows: Literal["image", "latents", "spectrogram"] = "image"
    on_steps = _steps_of_chunks(plan, run)
    for place, (chunk, (on_step, steps)) in enumerate(zip(plan.chunks, on_steps, strict=True)):
        with clock.running("sample"):
            shard = digest({"job": job.key, "chunk": place, "size": plan.chunk_size})
            latents = _found(stores.shards, shard, len(plan.edits)) if len(plan.chunks) > 1 else None
            if latents is None:
                latents = [made.float().cpu() for made in _sample(system, plan, chunk, of, on_step)]
                if len(plan.chunks) > 1:
                    stores.shards.put(shard, save({str(edit): made for edit, made in enumerate(latents)}))
            on_step(steps, steps)
        with clock.running("decode"):
            baseline = None
            for track, made in zip(tracks, latents, strict=True):
                decoded = decode(made)
                shows = decoded.shows
                track.add(chunk, made, decoded)
                if track.edit.prune is None:
                    baseline = decoded
                elif baseline is not None:
                    track.drift.add(made, latents[0], decoded, baseline)
                run.check()
    variants = [track.variant() for track in tracks]
    for variant, track in zip(variants, tracks, strict=True):
        if track.edit.prune is not None:
            variant.removed, variant.embedding = _removal(system, plan, of, track.edit.prune)
            variant.drift = track.drift.drift() if plan.request.compare else None
    with clock.running("decode"):
        shelf.put(GRID, variants_grid(tracks, caption), "image/png")

    seconds = clock.seconds
    result = PruneSampleResult(
        model=ModelUsed(name=plan.request.model, digest=source.identity.weights),
        pictures=_pictures(source.entry, shows),
        variants=variants,
        grid=GRID,
        timing=Timing(
            queue=job.queue_seconds,
            load=seconds["load"],
            sample=seconds["sample"],
            decode=seconds["decode"],
            samples_per_second=len(plan.samples) * len(plan.edits) / seconds["sample"],
        ),
        engine=_engine(models.device, system),
    )
    return Product(result, shelf.artifacts)


class _Clock:
    """Seconds spent, by what they were spent on."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def running(self, part: str) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - begun


def _sample(
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
    kept = shards.get(key)
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


def _removal(system: System, plan: Plan, of: Subjects, prune: tailprune.Prune) -> tuple[Removed, Embedding]:
    """What a prune takes from the vectors of the request's labels or conditions, over all steps."""
    request = plan.request
    inputs = of.inputs(subjects(request))
    if system.takes_guidance:
        inputs = told_guidance(inputs, plan.guidance.scale)
    times = tailprune.sampling_times(system, request.sampler, plan.steps, request.timestep_shift)
    removal = tailprune.measure_removal(system, inputs, prune, times, of.population)
    removed = Removed(
        mean=removal.mean,
        min=removal.min,
        max=removal.max,
        fraction=removal.fraction,
        by_step=removal.by_step,
    )
    embedding = Embedding(
        npr_before=removal.before.npr,
        npr_after=removal.after.npr,
        cosine_before=removal.before.cosine,
        cosine_after=removal.after.cosine,
    )
    return removed, embedding


def _pictures(entry: ModelEntry, shows: Literal["image", "latents", "spectrogram"]) -> Pictures:
    """What the pictures are, and why they are no more than that."""
    decoder = entry.shown
    note = None
    if not decoder.ready:
        note = (
            f"the decoder {decoder.name} is not there (missing: {', '.join(decoder.missing)}), so the pictures show "
            "the latents; they are an artifact too, to be decoded elsewhere"
        )
    return Pictures(show=shows, decoder=entry.decoder_in_use, note=note)


def _engine(device: torch.device, system: System) -> Engine:
    return Engine(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        dtype=str(next(system.parameters()).dtype).removeprefix("torch."),
        versions={
            "tailprune": tailprune.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    )
