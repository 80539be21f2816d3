"""The job `prune-sample`: every prune of a request sampled from the same noise, beside the unpruned baseline.

Several jobs that are sampled alike share a batch: one call of the network makes the samples of all, and each job ends
by itself. Images are stored as they are decoded, so that only the latents stay in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from jobs.requests.base import Request
from jobs.requests.edit import EditRequest
from jobs.requests.prune_sample import PruneSampleRequest
from jobs.results import Engine, ModelUsed, Pictures, PruneSampleResult, Result, Timing
from jobs.store.telemetry import SAMPLING
from tailprune import Prune
from tailprune.decoders import Decoded, Decoder
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

__all__ = ["BatchMember", "PruneSampleHandler", "Shared", "handler"]

GRID = "grid.png"


class PruneSampleHandler:
    """Samples models under prunes."""

    request: type[Request] = PruneSampleRequest

    def member(self, run: Run, plan: Plan, shared: Shared, context: Context) -> BatchMember:
        """What does one job of a batch. plan: of its request."""
        return BatchMember(run, plan, shared, context)

    def handle_batch(
        self,
        runs: Sequence[Run],
        requests: Sequence[PruneSampleRequest | EditRequest],
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
        shared = Shared.load(plans[0], source, context, len(runs))
        family = type(shared.system)
        plans = [plan.over_run(shared.system, shared.inputs, family) for plan in plans]
        members = [self.member(run, plan, shared, context) for run, plan in zip(runs, plans, strict=True)]
        active = list(members)

        def end(member: BatchMember, outcome: Product[Any] | Exception) -> None:
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
class Shared:
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
    def load(cls, plan: Plan, source: Source, context: Context, jobs: int) -> Shared:
        """Load the model and the inputs of a batch. plan: of any of its jobs; jobs: how many it has."""
        timer = Timer()
        with timer.measure("load"):
            system = context.models.system(source, plan.request.precision)
            decode = context.models.decoders.get(source)
            inputs = SampleInputs.load(plan.request.conditions, context.conditions)
        return cls(source, system, decode, inputs, timer, jobs)


class BatchMember:
    """One running job of a batch."""

    def __init__(self, run: Run, plan: Plan, shared: Shared, context: Context) -> None:
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

    def add(self, samples: Sequence[Sample], latents: list[Tensor], engine: Engine) -> Product[Any] | Exception | None:
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
        unedited: tuple[Tensor, Decoded] | None = None
        with self._timer.measure("decode"):
            # What is neither pruned nor edited comes first, since the others are compared with it.
            for place in sorted(range(len(latents)), key=lambda place: self._writers[place].planned.prune is not None):
                writer, variant = self._writers[place], latents[place]
                decoded = self._shared.decode(variant)
                self._shows = decoded.shows
                writer.add(samples, variant, decoded)
                self._look(writer, decoded)
                if writer.planned.prune is None:
                    unedited = variant, decoded
                elif unedited is not None:
                    writer.drift.add(variant, unedited[0], decoded, unedited[1])
                self.run.check()
        self._samples_done += len(samples)

    def _look(self, writer: VariantWriter, decoded: Decoded) -> None:
        """Measure what was decoded of a variant, in a job that does more than to store it."""

    def _variants(self) -> list[Any]:
        """The variants of the result, once all samples are added."""
        shared, plan = self._shared, self._plan
        variants = [writer.variant() for writer in self._writers]
        for variant, writer in zip(variants, self._writers, strict=True):
            if isinstance(prune := writer.planned.prune, Prune):
                variant.removed, variant.embedding = removal_of(shared.system, plan, shared.inputs, prune)
                variant.drift = writer.drift.drift() if plan.variants[0] is BASELINE else None
        return variants

    def _result(self, **fields: Any) -> Result:
        """The result of its kind of job. fields: those that all kinds have."""
        return PruneSampleResult(**fields)

    def _product(self, engine: Engine) -> Product[Any]:
        """The result and the files of the job, once all samples are added."""
        shared, plan = self._shared, self._plan
        self.run.phase = "measuring"
        variants = self._variants()
        self.run.phase = "drawing"
        with self._timer.measure("decode"):
            self._files.put(GRID, variants_grid(self._writers, self._labels), "image/png")

        seconds = shared.timer.seconds | self._timer.seconds
        decoding = shared.source.decoding
        timing = Timing(
            queue=self.run.job.queue_seconds,
            load=seconds["load"],
            sample=seconds["sample"],
            decode=seconds["decode"],
            samples_per_second=len(plan.samples) * len(plan.variants) / seconds["sample"],
            batch_jobs=shared.jobs,
        )
        result = self._result(
            model=ModelUsed.of(plan.request.model, plan.request.reads, shared.source.identity.weights),
            pictures=Pictures(show=self._shows, decoder=decoding.in_use, note=decoding.note),
            variants=variants,
            grid=GRID,
            timing=timing,
            engine=engine,
        )
        self._context.count_samples(plan.request.model, sum(len(variant.images) for variant in variants))
        self._context.telemetry.observe(SAMPLING, plan.request.model, value=timing.sample)
        return Product(result, self._files.artifacts)


handler = PruneSampleHandler()
