"""The job `compact`: a smaller model as a checkpoint of its own, and a card that says what it is."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

import tailprune
from jobs.registry.compacted import Compacted, compacted_name
from jobs.registry.models import ModelEntry
from jobs.requests.compact import CompactRequest
from jobs.results import Change, CompactResult, CompactTiming, Covered, ModelUsed
from jobs.storage.artifacts import Artifact
from tailprune import Compaction, System
from tailprune.condition_table import with_guidance_scale
from tailprune.spec import InputError
from workers.context import Context, Timer
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
"""As many tell one of its numbers from the next, and show none of its rounding."""


class CompactHandler:
    """Makes compacted models."""

    request = CompactRequest

    def handle(self, run: Run, request: CompactRequest, source: Source, context: Context) -> Product[CompactResult]:
        """The model that a resolved request asks for; other requests can name it from here on.

        Raises InputError for what would be no smaller, and for a null condition of a model that has none.
        """
        entry, timer, files = source.entry, Timer(), JobArtifacts(context.artifacts)
        with timer.running("load"):
            whole, decode = _eager(context.models.system(source, "float32")), context.models.decoders.get(source)
            inputs = SampleInputs.load(request.conditions, context.conditions)
        covered = _Covered.of(request, entry, whole, inputs)
        plan = comparison_plan(request, entry, covered.subjects, covered.unguided, context.settings.batch_size)
        with timer.running("compact"):
            found = _compacted(request, whole, covered, inputs, run)
        _check_smaller(request, found)
        run.check()
        with timer.running("store"):
            checkpoint = _stored(found.system, source, context)
            files.artifacts[CHECKPOINT] = checkpoint
        sizes = Change(before=source.size, after=checkpoint.size)
        with timer.running("compare"):
            compared, picture = compare((whole, found.system), plan, inputs, decode, entry, sizes, run)
            files.put(PICTURE, picture, "image/png")
        result = CompactResult(
            model=ModelUsed(name=entry.name, digest=source.identity.weights),
            compacted=ModelUsed(name=compacted_name(entry.name, run.job.key), digest=checkpoint.digest),
            by=request.rule,
            fill=request.fill or "zero",
            components=whole.condition_dim,
            kept=found.width - found.time_columns,
            kept_components=None if found.kept is None else list(found.kept),
            time_columns=found.time_columns,
            width=found.width,
            bias_error=found.bias_error,
            covered=covered.shown(request),
            parameters=Change(before=found.parameters[0], after=found.parameters[1]),
            adaln_parameters=Change(before=found.adaln_parameters[0], after=found.adaln_parameters[1]),
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
        record = _record(result, checkpoint, whole.family, run.job.key)
        run.retry(lambda: context.compacted.put(result.compacted.name, record))
        for used in (result.model, result.compacted):
            context.count_samples(used.name, compared.samples)
        return Product(result, files.artifacts)


@dataclass(frozen=True)
class _Covered:
    """What the compacted model is made for."""

    times: Tensor
    subjects: list[int]
    """The labels, or the rows of the conditions."""
    guided: bool
    """Whether the null condition is covered."""
    guidance_scale: float | None
    """The one scale of a model that takes it as an input; None for any other."""

    @classmethod
    def of(cls, request: CompactRequest, entry: ModelEntry, whole: System, inputs: SampleInputs) -> _Covered:
        """What a resolved request covers."""
        scale = entry.defaults.guidance_scale if whole.takes_guidance else None
        return cls(_times(request, whole), _subjects(request, entry, inputs), _is_guided(request, whole), scale)

    @property
    def unguided(self) -> bool:
        """Whether guided sampling is not covered at all."""
        return not self.guided and self.guidance_scale is None

    def shown(self, request: CompactRequest) -> Covered:
        """As clients see it."""
        return Covered(
            timesteps=sorted({float(f"{time:.{FLOAT32_DIGITS}g}") for time in self.times.flatten().tolist()}),
            labels=self.subjects if request.conditions is None else None,
            conditions=None if request.conditions is None else len(self.subjects),
            guided=self.guided,
            guidance_scale=self.guidance_scale,
        )


def _compacted(request: CompactRequest, whole: System, covered: _Covered, inputs: SampleInputs, run: Run) -> Compaction:
    chosen = inputs.of(covered.subjects)
    if covered.guidance_scale is not None:
        chosen = with_guidance_scale(chosen, covered.guidance_scale)
    return tailprune.compact(
        whole,
        times=covered.times,
        inputs=chosen,
        guided=covered.guided,
        threshold=request.threshold,
        side=request.side or "tail",
        keep=request.keep,
        by=request.by or "variance",
        fill=request.fill or "zero",
        population=inputs.population,
        on_time=lambda done, total: run.step(done, total, "times"),
    )


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


def _subjects(request: CompactRequest, entry: ModelEntry, inputs: SampleInputs) -> list[int]:
    """The labels of a resolved request, or the rows of its conditions."""
    chosen = request.labels if request.conditions is None else request.rows
    if chosen is not None:
        return chosen
    count = entry.classes if inputs.population is None else len(next(iter(inputs.population.values())))
    assert count is not None, "a model without classes takes conditions"
    return list(range(count))


def _is_guided(request: CompactRequest, whole: System) -> bool:
    """Whether the null condition is covered."""
    if request.guided and whole.takes_guidance:
        raise InputError(
            f"{request.model} takes the guidance scale as an input, and is not guided by a null condition besides: "
            "leave guided out"
        )
    return not whole.takes_guidance if request.guided is None else request.guided


def _check_smaller(request: CompactRequest, found: Compaction) -> None:
    """Raises InputError where the compacted model has as many parameters as the whole one, or more."""
    before, after = found.parameters
    if after < before:
        return
    if request.threshold is not None:
        more = f"cut at a {'higher' if request.side == 'tail' else 'lower'} threshold"
    else:
        more = f"keep fewer than {request.keep}"
    also = f" and {found.time_columns} of the mean" if found.time_columns else ""
    what = "directions and their basis" if found.kept is None else "components"
    raise InputError(
        f"this would make {request.model} no smaller: with {found.width - found.time_columns} {what}{also}, it would "
        f"have {after:,} parameters in place of {before:,}; {more}"
    )


def _stored(system: System, source: Source, context: Context) -> Artifact:
    """The checkpoint of a system that was made of this model, by way of a file: it may be as large as memory."""
    made_of = {
        "compacted_from": source.entry.name,
        "compacted_from_digest": source.identity.weights,
        "tailprune": tailprune.__version__,
    }
    data_dir = context.settings.data_dir
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=data_dir) as folder:
        path = Path(folder) / CHECKPOINT
        tailprune.save_system(system, path, made_of)
        return context.artifacts.put_file(path, "application/octet-stream")


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


handler = CompactHandler()
