"""The job `prune-sample`: every prune of a request sampled from the same noise, beside the unpruned baseline.

Several jobs that are sampled alike share a batch: one call of the network makes the samples of all, and each job ends
by itself. Images are stored as they are decoded, so that only the latents stay in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from jobs.requests.prune_sample import PruneSampleRequest
from jobs.results import Engine, ModelUsed, Pictures, PruneSampleResult, Timing
from jobs.store.telemetry import SAMPLING
from tailprune.decoders import Decoder
from tailprune.systems import System
from workers.handler import Context, Timer
from workers.lease import OnDone, Product, Run, Stopped
from workers.model_pool import Source
from workers.outputs.drift import dtype_drift
from workers.outputs.report import engine_of, removal_of
from workers.outputs.variant import JobArtifacts, SampleLabels, VariantWriter, samples_in_grid, variants_grid
from workers.sampling.chunks import check_finite, split_into_chunks, work_of
from workers.sampling.inputs import SampleInputs
from workers.sampling.plan import BASELINE, Plan, Sample

__all__ = ["handler"]

GRID = "grid.png"


class PruneSampleHandler:
    """Samples models under prunes."""

    request = PruneSampleRequest

    def handle_batch(
        self,
        runs: Sequence[Run],
        requests: Sequence[PruneSampleRequest],
        source: Source,
        context: Context,
        on_done: OnDone,
    ) -> None:
        """Do jobs that together fit one call of the network (`jobs.batching`), or one job of any size."""
        plans = [Plan.of(request, context.settings.batch_size) for request in requests]
        sizes, unit = work_of(plans)
        for run in runs:
            run.phase = "loading"
            run.progress = 0, sum(sizes), unit
        shared = _Shared.load(plans[0], source, context, len(runs))
        family = type(shared.system)
        plans = [plan.over_run(shared.system, shared.inputs, family) for plan in plans]
        members = [_BatchMember(run, plan, shared, context) for run, plan in zip(runs, plans, strict=True)]
        active = list(members)

        def end(member: _BatchMember, outcome: Product[PruneSampleResult] | Exception) -> None:
            active.remove(member)
            on_done(member.run, outcome)

        def for_each_run(call: Callable[[Run], None]) -> None:
            """Call each active run; end those that stop, and stop once none is left."""
            for member in list(active):
                try:
                    call(member.run)
                except Stopped as reason:
                    end(member, reason)
            if not active:
                raise Stopped

        def step(done: int, total: int, unit: str) -> None:
            for_each_run(lambda run: run.step(done, total, unit))

        with shared.timer.measure("load"):
            drift = dtype_drift(plans[0].request, source, shared.inputs, context, lambda: for_each_run(Run.check))
        engine = engine_of(context.models.device, shared.system, drift)
        chunks = split_into_chunks(shared.system, plans, shared.inputs, context.shards, runs[0].job.key, step)
        for chunk in chunks:
            for member in active:
                member.run.phase = "sampling"
            with shared.timer.measure("sample"):
                latents = chunk.latents()
            for member, samples, member_latents in zip(members, chunk.samples, latents, strict=True):
                if member in active and (outcome := member.add(samples, member_latents, engine)) is not None:
                    end(member, outcome)
            if not active:
                return


@dataclass(frozen=True)
class _Shared:
    """What the jobs of a batch share: the model and the inputs."""

    source: Source
    system: System
    decode: Decoder
    inputs: SampleInputs
    timer: Timer
    """The time of what is done once for all of them."""
    jobs: int
    """How many they are."""

    @classmethod
    def load(cls, plan: Plan, source: Source, context: Context, jobs: int) -> _Shared:
        """Load the model and the inputs of a batch. plan: of any of its jobs; jobs: how many it has."""
        timer = Timer()
        with timer.measure("load"):
            system = context.models.system(source, plan.request.precision)
            decode = context.models.decoders.get(source)
            inputs = SampleInputs.load(plan.request.conditions, context.conditions)
        return cls(source, system, decode, inputs, timer, jobs)


class _BatchMember:
    """One running job of a batch."""

    def __init__(self, run: Run, plan: Plan, shared: _Shared, context: Context) -> None:
        self.run = run
        self._plan = plan
        self._shared = shared
        self._context = context
        self._labels = SampleLabels.of(shared.source.entry)
        self._files = JobArtifacts(context.artifacts)
        scale, in_grid = shared.source.entry.display_scale, samples_in_grid(plan.samples)
        self._writers = [VariantWriter(variant, self._labels, scale, self._files, in_grid) for variant in plan.variants]
        self._shows: Literal["image", "latents", "spectrogram"] = "image"
        self._timer = Timer()
        self._samples_done = 0

    def add(
        self, samples: Sequence[Sample], latents: list[Tensor], engine: Engine
    ) -> Product[PruneSampleResult] | Exception | None:
        """Add a chunk of samples; return the product after the last chunk, the error where it fails, else None."""
        try:
            self._add(samples, latents)
            return self._product(engine) if self._samples_done == len(self._plan.samples) else None
        except Exception as error:
            return error

    def _add(self, samples: Sequence[Sample], latents: list[Tensor]) -> None:
        """Decode and store samples. latents: of these samples, with shape (B, C, H, W), a variant each.

        Raises InputError where they diverged, and Stopped.
        """
        check_finite(latents)
        self.run.phase = "decoding"
        with self._timer.measure("decode"):
            baseline = None
            for writer, variant in zip(self._writers, latents, strict=True):
                decoded = self._shared.decode(variant)
                self._shows = decoded.shows
                writer.add(samples, variant, decoded)
                if writer.planned.spec is None:
                    baseline = decoded
                elif baseline is not None:
                    writer.drift.add(variant, latents[0], decoded, baseline)
                self.run.check()
        self._samples_done += len(samples)

    def _product(self, engine: Engine) -> Product[PruneSampleResult]:
        """The result and the files of the job, once all samples are added."""
        shared, plan = self._shared, self._plan
        self.run.phase = "measuring"
        variants = [writer.variant() for writer in self._writers]
        for variant, writer in zip(variants, self._writers, strict=True):
            if (prune := writer.planned.prune) is not None:
                variant.removed, variant.embedding = removal_of(shared.system, plan, shared.inputs, prune)
                variant.drift = writer.drift.drift() if plan.variants[0] is BASELINE else None
        self.run.phase = "drawing"
        with self._timer.measure("decode"):
            self._files.put(GRID, variants_grid(self._writers, self._labels), "image/png")

        seconds = shared.timer.seconds | self._timer.seconds
        decoding = shared.source.decoding
        result = PruneSampleResult(
            model=ModelUsed.of(plan.request.model, plan.request.reads, shared.source.identity.weights),
            pictures=Pictures(show=self._shows, decoder=decoding.in_use, note=decoding.note),
            variants=variants,
            grid=GRID,
            timing=Timing(
                queue=self.run.job.queue_seconds,
                load=seconds["load"],
                sample=seconds["sample"],
                decode=seconds["decode"],
                samples_per_second=len(plan.samples) * len(plan.variants) / seconds["sample"],
                batch_jobs=shared.jobs,
            ),
            engine=engine,
        )
        self._context.count_samples(plan.request.model, sum(len(variant.images) for variant in variants))
        self._context.telemetry.observe(SAMPLING, plan.request.model, value=result.timing.sample)
        return Product(result, self._files.artifacts)


handler = PruneSampleHandler()
