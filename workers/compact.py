"""The job `compact`: a smaller model as a checkpoint of its own, and a card that says what it is."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

import tailprune
from jobs.artifacts import Artifact, ArtifactStore
from jobs.compacted import Compacted, CompactedStore, compacted_name
from jobs.records import Job
from jobs.requests.compact import CompactRequest
from jobs.results import Change, CompactResult, CompactTiming, Covered, ModelUsed
from jobs.settings import Settings
from tailprune import Compaction, System
from tailprune.conditions import told_guidance
from workers.accounts import engine_of
from workers.clock import Clock
from workers.compact_card import card
from workers.comparison import compare, comparison_plan
from workers.models import Models, Source
from workers.run import Product, Run
from workers.stores import Stores
from workers.study.crew import patiently
from workers.subjects import Subjects
from workers.tensor_file import order_metadata
from workers.tracks import Shelf

__all__ = ["compact"]

CHECKPOINT = "model.safetensors"
CARD = "card.md"
PICTURE = "samples.png"
FLOAT32_DIGITS = 7
"""As many tell one of its numbers from the next, and show none of its rounding."""


def compact(
    job: Job, source: Source, models: Models, stores: Stores, made: CompactedStore, settings: Settings, run: Run
) -> Product[CompactResult]:
    """The model that a resolved request asks for; it is in `made` from here on, for requests to name.

    `run` hears of every step of sampling, and may raise to stop it.
    """
    request, entry, digest = CompactRequest.model_validate(job.request), source.entry, source.identity.weights
    plan = comparison_plan(request, entry, settings.batch_size)
    clock, shelf = Clock(), Shelf(stores.artifacts)
    with clock.running("load"):
        whole, decode = models.systems.get(source), models.decoders.get(source)
        of = Subjects.of(request.conditions, stores.conditions)
    times = _times(request, whole)
    with clock.running("compact"):
        found = _compacted(request, source, whole, times, of)
    run.check()
    with clock.running("store"):
        said = {"compacted_from": entry.name, "compacted_from_digest": digest, "tailprune": tailprune.__version__}
        shelf.artifacts[CHECKPOINT] = checkpoint = _stored(found.system, said, settings.data_dir, stores.artifacts)
    sizes = Change(before=source.size, after=checkpoint.size)
    with clock.running("compare"):
        compared, picture = compare((whole, found.system), plan, of, decode, entry, sizes, run)
        shelf.put(PICTURE, picture, "image/png")
    result = CompactResult(
        model=ModelUsed(name=entry.name, digest=digest),
        compacted=ModelUsed(name=compacted_name(entry.name, job.key), digest=checkpoint.digest),
        by=request.rule,
        fill=request.fill or "zero",
        components=whole.condition_dim,
        kept=found.width - found.time_columns,
        kept_components=None if found.kept is None else list(found.kept),
        time_columns=found.time_columns,
        width=found.width,
        bias_error=found.bias_error,
        covered=Covered(
            timesteps=sorted({float(f"{time:.{FLOAT32_DIGITS}g}") for time in times.flatten().tolist()}),
            labels=request.labels,
            conditions=None if request.rows is None else len(request.rows),
            guided=bool(request.guided),
        ),
        parameters=Change(before=found.parameters[0], after=found.parameters[1]),
        adaln_parameters=Change(before=found.adaln_parameters[0], after=found.adaln_parameters[1]),
        bytes=sizes,
        compared=compared,
        samples=PICTURE,
        checkpoint=CHECKPOINT,
        card=CARD,
        timing=CompactTiming(queue=job.queue_seconds, **clock.seconds),
        engine=engine_of(models.device, whole, dtype_drift=None),
    )
    shelf.put(CARD, card(request, result).encode(), "text/markdown; charset=utf-8")
    run.check()
    patiently(lambda: made.put(result.compacted.name, _record(result, checkpoint)), run)
    return Product(result, shelf.artifacts)


def _times(request: CompactRequest, system: System) -> Tensor:
    """The times that a resolved request has covered."""
    if request.timesteps is not None:
        return torch.tensor(request.timesteps)
    assert request.steps is not None, "a resolved request without timesteps says its steps"
    return tailprune.sampling_times(system, request.sampler, request.steps, request.timestep_shift)


def _compacted(request: CompactRequest, source: Source, whole: System, times: Tensor, of: Subjects) -> Compaction:
    inputs = of.inputs(request.subjects)
    if whole.takes_guidance:
        inputs = told_guidance(inputs, source.entry.defaults.guidance_scale)
    return tailprune.compact(
        whole,
        times=times,
        inputs=inputs,
        guided=bool(request.guided),
        threshold=request.threshold,
        side=request.side or "tail",
        keep=request.keep,
        by=request.by or "variance",
        fill=request.fill or "zero",
        population=of.population,
    )


def _stored(system: System, said: Mapping[str, str], data_dir: Path, artifacts: ArtifactStore) -> Artifact:
    """The checkpoint of a system, by way of a file: it may be as large as memory."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=data_dir) as folder:
        path = Path(folder) / CHECKPOINT
        tailprune.save_system(system, path, said)
        order_metadata(path)
        return artifacts.put_file(path, "application/octet-stream")


def _record(result: CompactResult, checkpoint: Artifact) -> Compacted:
    return Compacted(
        model=result.model.name,
        model_digest=result.model.digest,
        by=result.by,
        fill=result.fill,
        components=result.components,
        kept=result.kept,
        time_columns=result.time_columns,
        created=datetime.now(UTC),
        parameters=result.parameters.after,
        checkpoint=checkpoint,
    )
