"""The job `compact`: a smaller model as a checkpoint of its own, with a card that describes it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from datetime import UTC, datetime

import torch
from torch import Tensor

import tailprune
from jobs.registry.compacted import Compacted
from jobs.registry.compaction import compacted_name
from jobs.registry.models import ModelEntry
from jobs.requests.compact import CompactRequest
from jobs.requests.labels import subjects_of
from jobs.results import Change, CompactResult, CompactTiming, Covered, ModelUsed
from jobs.storage.artifacts import Artifact
from tailprune import Compaction, System
from tailprune.condition_table import with_guidance_scale
from tailprune.spec import InputError
from workers.handler import Context, Timer
from workers.handlers.compact_card import card
from workers.handlers.compact_comparison import compare, comparison_plan
from workers.lease import Product, Run
from workers.model_pool import Source
from workers.outputs.report import engine_of
from workers.outputs.variant import JobArtifacts
from workers.sampling.inputs import SampleInputs

__all__ = ["handler"]

CHECKPOINT = "model.safetensors"
CARD = "card.md"
PICTURE = "samples.png"
FLOAT32_DIGITS = 7
"""Significant digits that distinguish neighbouring numbers and do not show their rounding."""


class CompactHandler:
    """Makes compacted models."""

    request = CompactRequest

    def handle(self, run: Run, request: CompactRequest, source: Source, context: Context) -> Product[CompactResult]:
        """Compact the model of a resolved request, and register the result as a model.

        Raises InputError where the result would be no smaller, and for a null condition of a model that has none.
        """
        entry, timer, files = source.entry, Timer(), JobArtifacts(context.artifacts)
        run.phase = "loading"
        with timer.measure("load"):
            whole, decode = _eager(context.models.system(source, "float32")), context.models.decoders.get(source)
            inputs = SampleInputs.load(request.conditions, context.conditions)
        covered = _Covered.of(request, entry, whole, inputs)
        plan = comparison_plan(request, entry, covered.subjects, covered.unguided, context.settings.batch_size)
        run.phase = "compacting"
        with timer.measure("compact"):
            compaction = _compact(request, whole, covered, inputs, run)
        _check_smaller(request, compaction)
        run.check()
        run.phase = "storing"
        with timer.measure("store"):
            checkpoint = _store(compaction.system, source, context)
            files.artifacts[CHECKPOINT] = checkpoint
        sizes = Change(before=source.size, after=checkpoint.size)
        with timer.measure("compare"):
            compared, picture = compare((whole, compaction.system), plan, inputs, decode, entry, sizes, run)
            files.put(PICTURE, picture, "image/png")
        result = CompactResult(
            model=ModelUsed(name=entry.name, digest=source.identity.weights),
            compacted=ModelUsed(name=compacted_name(entry.name, run.job.key), digest=checkpoint.digest),
            by=request.rule,
            fill=request.fill or "zero",
            components=whole.condition_dim,
            kept=compaction.width - compaction.time_columns,
            kept_components=None if compaction.kept is None else list(compaction.kept),
            time_columns=compaction.time_columns,
            width=compaction.width,
            bias_error=compaction.bias_error,
            covered=covered.public(request),
            parameters=Change(before=compaction.parameters[0], after=compaction.parameters[1]),
            adaln_parameters=Change(before=compaction.adaln_parameters[0], after=compaction.adaln_parameters[1]),
            bytes=sizes,
            compared=compared,
            samples=PICTURE,
            checkpoint=CHECKPOINT,
            card=CARD,
            timing=CompactTiming(queue=run.job.queue_seconds, **timer.seconds),
            engine=engine_of(context.models.device, whole, dtype_drift=None),
        )
        files.put(CARD, card(request, result).encode(), "text/markdown; charset=utf-8")
        run.check()
        _register(result, checkpoint, source, run, context)
        return Product(result, files.artifacts)


@dataclass(frozen=True)
class _Covered:
    """The times and inputs that the compacted model is made for."""

    times: Tensor
    subjects: list[int]
    """Labels, or rows of the conditions."""
    guided: bool
    """Whether the null condition is covered."""
    guidance_scale: float | None
    """The one scale of a model that takes it as an input; None for any other."""

    @classmethod
    def of(cls, request: CompactRequest, entry: ModelEntry, whole: System, inputs: SampleInputs) -> _Covered:
        """The coverage of a resolved request. entry, whole: its model; inputs: its labels or conditions.

        Raises InputError for a null condition of a model that has none.
        """
        scale = entry.defaults.guidance_scale if whole.takes_guidance else None
        return cls(_times(request, whole), _subjects(request, entry, inputs), _is_guided(request, whole), scale)

    @property
    def unguided(self) -> bool:
        """Whether guided sampling is not covered at all."""
        return not self.guided and self.guidance_scale is None

    def public(self, request: CompactRequest) -> Covered:
        """The coverage as the result has it."""
        return Covered(
            timesteps=sorted({float(f"{time:.{FLOAT32_DIGITS}g}") for time in self.times.flatten().tolist()}),
            labels=self.subjects if request.conditions is None else None,
            conditions=None if request.conditions is None else len(self.subjects),
            guided=self.guided,
            guidance_scale=self.guidance_scale,
        )


def _compact(request: CompactRequest, whole: System, covered: _Covered, inputs: SampleInputs, run: Run) -> Compaction:
    selected = inputs.select(covered.subjects)
    if covered.guidance_scale is not None:
        selected = with_guidance_scale(selected, covered.guidance_scale)
    return tailprune.compact(
        whole,
        times=covered.times,
        inputs=selected,
        guided=covered.guided,
        threshold=request.threshold,
        side=request.side,
        of=request.of,
        keep=request.keep,
        by=request.by,
        fill=request.fill,
        population=inputs.population,
        on_time=lambda done, total: run.step(done, total, "times"),
    )


def _times(request: CompactRequest, system: System) -> Tensor:
    """The times that a resolved request covers."""
    if request.timesteps is not None:
        return torch.tensor(request.timesteps)
    assert request.steps is not None, "a resolved request without timesteps has its steps"
    return tailprune.sampling_times(system, request.sampler, request.steps, request.timestep_shift)


def _eager(system: System) -> System:
    """The same system without its compiled network, as the compacted one has none."""
    eager = copy.copy(system)
    eager.compiled = None
    return eager


def _subjects(request: CompactRequest, entry: ModelEntry, inputs: SampleInputs) -> list[int]:
    """The labels of a resolved request, or the rows of its conditions; all by default."""
    if subjects := subjects_of(request.labels if request.conditions is None else request.rows):
        return subjects
    count = entry.classes if inputs.population is None else len(next(iter(inputs.population.values())))
    assert count is not None, "a model without classes takes conditions"
    return list(range(count))


def _is_guided(request: CompactRequest, whole: System) -> bool:
    """Whether the null condition is covered."""
    if request.guided and whole.takes_guidance:
        raise InputError(
            f"{request.model} takes the guidance scale as an input, and is not guided by a null condition: "
            "leave guided out"
        )
    return not whole.takes_guidance if request.guided is None else request.guided


def _check_smaller(request: CompactRequest, compaction: Compaction) -> None:
    """Raise InputError where the compacted model has no fewer parameters than the whole one."""
    before, after = compaction.parameters
    if after < before:
        return
    if request.threshold is not None:
        advice = f"cut at a {'higher' if request.side == 'tail' else 'lower'} threshold"
    else:
        advice = f"keep fewer than {request.keep}"
    columns = "directions and their basis" if compaction.kept is None else "components"
    if compaction.time_columns:
        columns += f" and {compaction.time_columns} of the mean"
    raise InputError(
        f"this would make {request.model} no smaller: with {compaction.width - compaction.time_columns} {columns}, "
        f"it would have {after:,} parameters in place of {before:,}; {advice}"
    )


def _store(system: System, source: Source, context: Context) -> Artifact:
    """Store the checkpoint of a compacted system, which may be as large as memory."""
    origin = {
        "compacted_from": source.entry.name,
        "compacted_from_digest": source.identity.weights,
        "tailprune": tailprune.__version__,
    }
    return context.store_file(
        CHECKPOINT, "application/octet-stream", lambda path: tailprune.save_system(system, path, origin), "models"
    )


def _register(result: CompactResult, checkpoint: Artifact, source: Source, run: Run, context: Context) -> None:
    """Register the compacted model, and count the samples of the comparison.

    result: with its name.
    checkpoint: its file.
    source: the whole model.
    run: the job.
    context: with the store of compacted models.
    """
    record = Compacted(
        model=result.model.name,
        model_digest=source.identity.weights,
        by=result.by,
        fill=result.fill,
        components=result.components,
        kept=result.kept,
        time_columns=result.time_columns,
        created=datetime.now(UTC),
        parameters=result.parameters.after,
        checkpoint=checkpoint,
        family=source.entry.family,
        key=run.job.key,
    )
    run.retry(lambda: context.compacted.put(result.compacted.name, record))
    for used in (result.model, result.compacted):
        context.count_samples(used.name, result.compared.samples)


handler = CompactHandler()
