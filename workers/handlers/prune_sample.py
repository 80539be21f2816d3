"""The job `prune-sample`: every prune of a request sampled from the same noise, beside the unpruned baseline.

Several jobs that are sampled alike share a batch: one call of the network makes the samples of all, and each of them
ends by itself. Pictures are stored as they come, so that what is held grows with the latents alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from jobs.requests.prune_sample import ResolvedPruneSample
from jobs.results import Engine, ModelUsed, Pictures, PruneSampleResult, Timing
from jobs.store.telemetry import SAMPLES, SAMPLING
from tailprune.decoders import Decoder
from tailprune.systems import System
from workers.context import Context, Timer
from workers.lease import OnDone, Product, Run, Stopped
from workers.model_pool import Source
from workers.outputs.report import engine_of, removal_of
from workers.outputs.variant import JobArtifacts, SampleLabels, VariantWriter, shown, variants_grid
from workers.sampling.chunks import chunks_of, finite
from workers.sampling.inputs import SampleInputs
from workers.sampling.plan import BASELINE, Plan, Sample
from workers.sampling.precision import dtype_drift

__all__ = ["handler"]

GRID = "grid.png"


class PruneSampleHandler:
    """Samples models under prunes."""

    request = ResolvedPruneSample

    def handle_batch(self, runs: Sequence[Run], source: Source, context: Context, on_done: OnDone) -> None:
        """Do jobs that together fit one call of the network (`jobs.batching`), or one of any size."""
        plans = [Plan.of(self.request.model_validate(run.job.request), context.settings.batch_size) for run in runs]
        common = _Common.load(plans[0], source, context, len(runs))
        members = [_BatchMember(run, plan, common, context) for run, plan in zip(runs, plans, strict=True)]
        left = list(members)

        def end(member: _BatchMember, ended: Product[PruneSampleResult] | Exception) -> None:
            left.remove(member)
            on_done(member.run, ended)

        def each(tell: Callable[[Run], None]) -> None:
            for member in list(left):
                try:
                    tell(member.run)
                except Stopped as reason:
                    end(member, reason)
            if not left:
                raise Stopped

        def step(done: int, total: int, unit: str) -> None:
            each(lambda run: run.step(done, total, unit))

        with common.timer.running("load"):
            drift = dtype_drift(plans[0].request, source, common.inputs, context, lambda: each(Run.check))
        engine = engine_of(context.models.device, common.system, drift)
        chunks = chunks_of(common.system, plans, common.inputs, context.shards, runs[0].job.key, step)
        for parts, make in chunks:
            with common.timer.running("sample"):
                latents = make()
            for member, samples, made in zip(members, parts, latents, strict=True):
                if member in left and (ended := member.added(samples, made, engine)) is not None:
                    end(member, ended)
            if not left:
                return


@dataclass(frozen=True)
class _Common:
    """What the jobs of a batch have in common."""

    source: Source
    system: System
    decode: Decoder
    inputs: SampleInputs
    timer: Timer
    """Of what is done once for all of them."""
    jobs: int

    @classmethod
    def load(cls, plan: Plan, source: Source, context: Context, jobs: int) -> _Common:
        """plan: that of any of the jobs."""
        timer = Timer()
        with timer.running("load"):
            system = context.models.system(source, plan.request.precision)
            decode = context.models.decoders.get(source)
            inputs = SampleInputs.load(plan.request.conditions, context.conditions)
        return cls(source, system, decode, inputs, timer, jobs)


class _BatchMember:
    """One job under way."""

    def __init__(self, run: Run, plan: Plan, common: _Common, context: Context) -> None:
        self.run = run
        self._plan = plan
        self._common = common
        self._telemetry = context.telemetry
        self._labels = SampleLabels.of(common.source.entry)
        self._files = JobArtifacts(context.artifacts)
        scale, tiles_of = common.source.entry.display_scale, shown(plan.samples)
        self._writers = [
            VariantWriter(variant, self._labels, scale, self._files, tiles_of) for variant in plan.variants
        ]
        self._shows: Literal["image", "latents", "spectrogram"] = "image"
        self._timer = Timer()
        self._made = 0

    def added(
        self, samples: Sequence[Sample], latents: list[Tensor], engine: Engine
    ) -> Product[PruneSampleResult] | Exception | None:
        """Take a chunk; what the job made, once that was the last, or what went wrong with it."""
        try:
            self._add(samples, latents)
            return self._product(engine) if self._made == len(self._plan.samples) else None
        except Exception as error:
            return error

    def _add(self, samples: Sequence[Sample], latents: list[Tensor]) -> None:
        """latents: of these samples, with shape (B, C, H, W), a variant each.

        Raises InputError where they diverged, and Stopped.
        """
        finite(latents)
        with self._timer.running("decode"):
            baseline = None
            for writer, made in zip(self._writers, latents, strict=True):
                decoded = self._common.decode(made)
                self._shows = decoded.shows
                writer.add(samples, made, decoded)
                if writer.planned.spec is None:
                    baseline = decoded
                elif baseline is not None:
                    writer.drift.add(made, latents[0], decoded, baseline)
                self.run.check()
        self._made += len(samples)

    def _product(self, engine: Engine) -> Product[PruneSampleResult]:
        """What came out, once it is whole."""
        common, plan = self._common, self._plan
        variants = [writer.variant() for writer in self._writers]
        for variant, writer in zip(variants, self._writers, strict=True):
            if (prune := writer.planned.prune) is not None:
                variant.removed, variant.embedding = removal_of(common.system, plan, common.inputs, prune)
                variant.drift = writer.drift.drift() if plan.variants[0] is BASELINE else None
        with self._timer.running("decode"):
            self._files.put(GRID, variants_grid(self._writers, self._labels), "image/png")

        seconds = common.timer.seconds | self._timer.seconds
        decoding = common.source.decoding
        result = PruneSampleResult(
            model=ModelUsed(name=plan.request.model, digest=common.source.identity.weights),
            pictures=Pictures(show=self._shows, decoder=decoding.in_use, note=decoding.note),
            variants=variants,
            grid=GRID,
            timing=Timing(
                queue=self.run.job.queue_seconds,
                load=seconds["load"],
                sample=seconds["sample"],
                decode=seconds["decode"],
                samples_per_second=len(plan.samples) * len(plan.variants) / seconds["sample"],
                batch_jobs=common.jobs,
            ),
            engine=engine,
        )
        made = sum(len(variant.images) for variant in variants)
        self._telemetry.count(SAMPLES, plan.request.model, by=made)
        self._telemetry.observe(SAMPLING, plan.request.model, value=result.timing.sample)
        return Product(result, self._files.artifacts)


handler = PruneSampleHandler()
