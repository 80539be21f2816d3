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

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

import tailprune
from jobs.artifacts import ArtifactStore
from jobs.keys import digest
from jobs.records import Artifact, Job
from jobs.requests import PruneSampleRequest
from jobs.results import (
    Embedding,
    Engine,
    Image,
    ModelUsed,
    PruneSampleResult,
    Removed,
    Timing,
    Variant,
)
from jobs.shards import ShardStore
from tailprune import decoders
from tailprune.systems import System
from workers.drift import DriftMeter
from workers.models import Models
from workers.pictures import Images, enlarge, grid, png
from workers.plan import Edit, Plan, Sample
from workers.run import Product, Run

__all__ = ["prune_and_sample"]

GRID_COLUMNS = 32
"""Most samples in the grid: each label's first, then each label's second, ..."""
GRID = "grid.png"


def prune_and_sample(
    job: Job, models: Models, artifacts: ArtifactStore, shards: ShardStore, rows_at_once: int, run: Run
) -> Product[PruneSampleResult]:
    """Does a job. `run.step` hears of every step of sampling, and may raise to stop it."""
    plan = Plan.of(PruneSampleRequest.model_validate(job.request), rows_at_once)
    source = models.source(plan.request.model)
    shelf = _Shelf(artifacts)
    clock = _Clock()
    with clock.running("load"):
        system = models.systems.get(source)
        decode = decoders.get(source.entry.decoder)

    names = source.entry.names
    tracks = [_Track(edit, source.entry.display_scale, names, shelf, _shown(plan.samples)) for edit in plan.edits]
    on_steps = _steps_of_chunks(plan, run)
    for place, (chunk, (on_step, steps)) in enumerate(zip(plan.chunks, on_steps, strict=True)):
        with clock.running("sample"):
            shard = digest({"job": job.key, "chunk": place, "size": plan.chunk_size})
            latents = _found(shards, shard, len(plan.edits)) if len(plan.chunks) > 1 else None
            if latents is None:
                latents = [made.float().cpu() for made in _sample(system, plan, chunk, on_step)]
                if len(plan.chunks) > 1:
                    shards.put(shard, save({str(edit): made for edit, made in enumerate(latents)}))
            on_step(steps, steps)
        with clock.running("decode"):
            images = [np.asarray(decode(made)) for made in latents]
            for track, made, pictures in zip(tracks, latents, images, strict=True):
                track.add(chunk, made, pictures)
                if plan.request.compare and track.edit.prune is not None:
                    track.drift.add(made, latents[0], pictures, images[0])
    variants = [track.variant(system, plan) for track in tracks]
    with clock.running("decode"):
        shelf.put(GRID, png(_grid(tracks, names)), "image/png")

    seconds = clock.seconds
    result = PruneSampleResult(
        model=ModelUsed(name=plan.request.model, digest=source.digest),
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


class _Shelf:
    """The artifacts of one job by name."""

    def __init__(self, store: ArtifactStore) -> None:
        self.artifacts: dict[str, Artifact] = {}
        self._store = store

    def put(self, name: str, content: bytes, media_type: str) -> None:
        self.artifacts[name] = self._store.put(content, media_type)


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


class _Track:
    """One variant under way."""

    def __init__(
        self, edit: Edit, display_scale: int, names: Sequence[str], shelf: _Shelf, shown: frozenset[Sample]
    ) -> None:
        self.edit = edit
        self.drift = DriftMeter()
        self.tiles: dict[Sample, Images] = {}
        """The pictures that the grid shows."""
        self._display_scale = display_scale
        self._names = names
        self._shelf = shelf
        self._shown = shown
        self._images: list[Image] = []
        self._latents: list[Tensor] = []

    def add(self, samples: Sequence[Sample], latents: Tensor, images: Images) -> None:
        """latents, with shape (B, C, H, W), and images, with shape (B, H, W, 3), of these samples."""
        self._latents.append(latents)
        for sample, image in zip(samples, enlarge(images, self._display_scale), strict=True):
            name = f"{self.edit.slug}-{sample.label}-{sample.number}.png"
            self._shelf.put(name, png(image), "image/png")
            class_name = _class_name(self._names, sample.label)
            self._images.append(Image(label=sample.label, class_name=class_name, sample=sample.number, artifact=name))
            if sample in self._shown:
                self.tiles[sample] = image

    def variant(self, system: System, plan: Plan) -> Variant:
        """The finished variant; its latents are stored."""
        name = f"{self.edit.slug}.safetensors"
        tensors = {
            "latents": torch.cat(self._latents),
            "labels": torch.tensor([sample.label for sample in plan.samples]),
            "samples": torch.tensor([sample.number for sample in plan.samples]),
        }
        self._shelf.put(name, save(tensors), "application/octet-stream")
        variant = Variant(name=self.edit.name, prune=self.edit.used, images=self._images, latents=name)
        if self.edit.prune is not None:
            variant.removed, variant.embedding = _removal(system, plan, self.edit.prune)
            variant.drift = self.drift.drift() if plan.request.compare else None
        return variant


def _sample(system: System, plan: Plan, samples: Sequence[Sample], on_step: Callable[[int, int], None]) -> list[Tensor]:
    """Latents of these samples, one tensor with shape (B, C, H, W) a variant."""
    request = plan.request
    made = tailprune.sample(
        system,
        {"labels": torch.tensor([sample.label for sample in samples])},
        sampler=request.sampler,
        steps=plan.steps,
        guidance=plan.guidance,
        prune=[edit.prune for edit in plan.edits],
        seeds=[sample.seed(request.seed) for sample in samples],
        on_step=on_step,
        diffusion=request.diffusion,
        last_step=request.last_step,
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


def _removal(system: System, plan: Plan, prune: tailprune.Prune) -> tuple[Removed, Embedding]:
    """What a prune takes from the vectors of the request's labels, over all steps."""
    labels = torch.tensor(plan.request.labels)
    times = tailprune.sampling_times(system, plan.request.sampler, plan.steps)
    removal = tailprune.measure_removal(system, {"labels": labels}, prune, times)
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


def _shown(samples: Sequence[Sample]) -> frozenset[Sample]:
    """The samples that the grid has room for."""
    return frozenset(sorted(samples, key=lambda sample: sample.number)[:GRID_COLUMNS])


def _grid(tracks: Sequence[_Track], names: Sequence[str]) -> Images:
    """A row a variant, a column a sample."""
    shown = list(tracks[0].tiles)
    rows = [np.stack([track.tiles[sample] for sample in shown]) for track in tracks]
    columns = [_class_name(names, sample.label) or f"class {sample.label}" for sample in shown]
    return grid(rows, [track.edit.name for track in tracks], columns)


def _class_name(names: Sequence[str], label: int) -> str | None:
    return names[label] if label < len(names) else None


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
