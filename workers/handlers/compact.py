"""The job `compact`: a smaller model as a checkpoint of its own, and a card that says what it is."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

import tailprune
from jobs.records import Job
from jobs.registry.compacted import Compacted, CompactedStore, compacted_name
from jobs.registry.models import ModelEntry
from jobs.requests.compact import CompactRequest
from jobs.results import Change, CompactResult, CompactTiming, Covered, ModelUsed
from jobs.settings import Settings
from jobs.storage.artifacts import Artifact, ArtifactStore
from tailprune import Compaction, System
from tailprune.condition_table import with_guidance_scale
from workers.context import Stores, Timer
from workers.handlers.compact_card import card
from workers.handlers.compact_comparison import compare, comparison_plan
from workers.lease import Product, Run
from workers.model_pool import Models, Source
from workers.outputs.report import engine_of
from workers.outputs.variant import JobArtifacts
from workers.sampling.inputs import SampleInputs

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

    `run` hears of every covered time and of every step of sampling, and may raise to stop it.

    Raises ValueError for what would be no smaller, and for a null condition of a model that has none.
    """
    request, entry, digest = CompactRequest.model_validate(job.request), source.entry, source.identity.weights
    clock, shelf = Timer(), JobArtifacts(stores.artifacts)
    with clock.running("load"):
        whole, decode = _eager(models.system(source, "float32")), models.decoders.get(source)
        of = SampleInputs.of(request.conditions, stores.conditions)
    times, subjects, scale = _times(request, whole), _subjects(request, entry, of), _told_scale(entry, whole)
    guided = _is_guided(request, whole)
    unguided = not guided and scale is None
    plan = comparison_plan(request, entry, subjects, unguided, settings.batch_size)
    with clock.running("compact"):
        inputs = of.inputs(subjects) if scale is None else with_guidance_scale(of.inputs(subjects), scale)
        found = tailprune.compact(
            whole,
            times=times,
            inputs=inputs,
            guided=guided,
            threshold=request.threshold,
            side=request.side or "tail",
            keep=request.keep,
            by=request.by or "variance",
            fill=request.fill or "zero",
            population=of.population,
            on_time=lambda done, total: run.step(done, total, "times"),
        )
    _check_smaller(request, found)
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
            labels=subjects if request.conditions is None else None,
            conditions=None if request.conditions is None else len(subjects),
            guided=guided,
            guidance_scale=scale,
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
    record = _record(result, checkpoint, whole.family, job.key)
    run.retry(lambda: made.put(result.compacted.name, record))
    return Product(result, shelf.artifacts)


def _times(request: CompactRequest, system: System) -> Tensor:
    """The times that a resolved request has covered."""
    if request.timesteps is not None:
        return torch.tensor(request.timesteps)
    assert request.steps is not None, "a resolved request without timesteps says its steps"
    return tailprune.sampling_times(system, request.sampler, request.steps, request.timestep_shift)


def _eager(system: System) -> System:
    """The same system, with no compiled network: what it is compared with has none."""
    eager = copy.copy(system)
    eager.compiled = None
    return eager


def _subjects(request: CompactRequest, entry: ModelEntry, of: SampleInputs) -> list[int]:
    """The labels of a resolved request, or the rows of its conditions."""
    chosen = request.labels if request.conditions is None else request.rows
    if chosen is not None:
        return chosen
    count = entry.classes if of.population is None else len(next(iter(of.population.values())))
    assert count is not None, "a model without classes takes conditions"
    return list(range(count))


def _told_scale(entry: ModelEntry, whole: System) -> float | None:
    """The guidance scale that is covered of a model that takes one as an input; None for any other."""
    return entry.defaults.guidance_scale if whole.takes_guidance else None


def _is_guided(request: CompactRequest, whole: System) -> bool:
    """Whether the null condition is covered."""
    if request.guided and whole.takes_guidance:
        raise ValueError(
            f"{request.model} takes the guidance scale as an input, and is not guided by a null condition besides: "
            "leave guided out"
        )
    return not whole.takes_guidance if request.guided is None else request.guided


def _check_smaller(request: CompactRequest, found: Compaction) -> None:
    """Raises ValueError where the compacted model has as many parameters as the whole one, or more."""
    before, after = found.parameters
    if after < before:
        return
    if request.threshold is not None:
        more = f"cut at a {'higher' if request.side == 'tail' else 'lower'} threshold"
    else:
        more = f"keep fewer than {request.keep}"
    also = f" and {found.time_columns} of the mean" if found.time_columns else ""
    what = "directions and their basis" if found.kept is None else "components"
    raise ValueError(
        f"this would make {request.model} no smaller: with {found.width - found.time_columns} {what}{also}, it would "
        f"have {after:,} parameters in place of {before:,}; {more}"
    )


def _stored(system: System, said: Mapping[str, str], data_dir: Path, artifacts: ArtifactStore) -> Artifact:
    """The checkpoint of a system, by way of a file: it may be as large as memory."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=data_dir) as folder:
        path = Path(folder) / CHECKPOINT
        tailprune.save_system(system, path, said)
        return artifacts.put_file(path, "application/octet-stream")


def _record(result: CompactResult, checkpoint: Artifact, family: str, job_key: str) -> Compacted:
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
        family=family,
        key=job_key,
    )
