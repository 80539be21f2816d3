"""The job `prune-sample`: every prune of a request sampled from the same noise, beside the unpruned baseline.

Pictures are stored as they come, so that what is held grows with the latents alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from jobs.records import Job
from jobs.requests.prune_sample import PruneSampleRequest
from jobs.results import ModelUsed, Pictures, PruneSampleResult, Timing
from workers.accounts import engine_of, removal_of
from workers.models import Models, Source
from workers.plan import Plan
from workers.run import Product, Run
from workers.sampling import chunks_of
from workers.stores import Stores
from workers.subjects import Subjects
from workers.tracks import Caption, Shelf, Track, shown, variants_grid

__all__ = ["prune_and_sample"]

GRID = "grid.png"


def prune_and_sample(
    job: Job, source: Source, models: Models, stores: Stores, rows_at_once: int, run: Run
) -> Product[PruneSampleResult]:
    """Does a job. `run.step` hears of every step of sampling, and may raise to stop it."""
    request = PruneSampleRequest.model_validate(job.request)
    plan = Plan.of(request, rows_at_once)
    shelf = Shelf(stores.artifacts)
    clock = _Clock()
    with clock.running("load"):
        system = models.systems.get(source)
        decode = models.decoders.get(source)
        of = Subjects.of(request.conditions, stores.conditions)

    caption = Caption.of(source.entry)
    tiles_of = shown(plan.samples)
    tracks = [Track(edit, caption, source.entry.display_scale, shelf, tiles_of) for edit in plan.edits]
    shows: Literal["image", "latents", "spectrogram"] = "image"
    for chunk, make in chunks_of(system, plan, of, stores.shards, job.key, run):
        with clock.running("sample"):
            latents = make()
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
            variant.removed, variant.embedding = removal_of(system, plan, of, track.edit.prune)
            variant.drift = track.drift.drift() if request.compare else None
    with clock.running("decode"):
        shelf.put(GRID, variants_grid(tracks, caption), "image/png")

    seconds = clock.seconds
    result = PruneSampleResult(
        model=ModelUsed(name=request.model, digest=source.identity.weights),
        pictures=Pictures(show=shows, decoder=source.decoding.in_use, note=source.decoding.note),
        variants=variants,
        grid=GRID,
        timing=Timing(
            queue=job.queue_seconds,
            load=seconds["load"],
            sample=seconds["sample"],
            decode=seconds["decode"],
            samples_per_second=len(plan.samples) * len(plan.edits) / seconds["sample"],
        ),
        engine=engine_of(models.device, system),
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
