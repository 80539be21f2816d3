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
from tailprune.decoders import Decoder
from tailprune.systems import System
from workers.context import Stores, Timer
from workers.lease import OnDone, Product, Run, Stopped
from workers.model_pool import Models, Source
from workers.outputs.report import engine_of, removal_of
from workers.outputs.variant import JobArtifacts, SampleLabels, VariantWriter, shown, variants_grid
from workers.sampling.chunks import chunks_of, finite
from workers.sampling.inputs import SampleInputs
from workers.sampling.plan import BASELINE, Plan, Sample
from workers.sampling.precision import dtype_drift

__all__ = ["prune_and_sample"]

GRID = "grid.png"


def prune_and_sample(
    runs: Sequence[Run], source: Source, models: Models, stores: Stores, rows_at_once: int, settle: OnDone
) -> None:
    """Does a job, or several that can share a batch (`jobs.batching`) and together fit one call of the network.

    Each is settled as soon as it is made, goes wrong or is stopped; the others go on. What goes wrong with all of them
    is raised, as is Stopped at the step that finds none left; those not settled by then are undone.
    """
    plans = [Plan.of(ResolvedPruneSample.model_validate(run.job.request), rows_at_once) for run in runs]
    clock = Timer()
    with clock.running("load"):
        system = models.system(source, plans[0].request.precision)
        decode = models.decoders.get(source)
        of = SampleInputs.of(plans[0].request.conditions, stores.conditions)
    common = _Common(source, system, decode, of, clock, len(runs))
    makings = [_BatchMember(run, plan, common, stores) for run, plan in zip(runs, plans, strict=True)]
    left = list(makings)

    def end(making: _BatchMember, ended: Product[PruneSampleResult] | Exception) -> None:
        left.remove(making)
        settle(making.run, ended)

    def each(tell: Callable[[Run], None]) -> None:
        for making in list(left):
            try:
                tell(making.run)
            except Stopped as reason:
                end(making, reason)
        if not left:
            raise Stopped

    def step(done: int, total: int, unit: str) -> None:
        each(lambda run: run.step(done, total, unit))

    with clock.running("load"):
        drift = dtype_drift(plans[0].request, source, models, of, stores.shards, lambda: each(Run.check))
    engine = engine_of(models.device, system, drift)
    for parts, make in chunks_of(system, plans, of, stores.shards, runs[0].job.key, step):
        with clock.running("sample"):
            latents = make()
        for making, samples, made in zip(makings, parts, latents, strict=True):
            if making not in left:
                continue
            ended: Product[PruneSampleResult] | Exception | None
            try:
                making.add(samples, made)
                ended = making.product(engine) if making.is_whole else None
            except Exception as error:
                ended = error
            if ended is not None:
                end(making, ended)
        if not left:
            return


@dataclass(frozen=True)
class _Common:
    """What the jobs of a batch have in common."""

    source: Source
    system: System
    decode: Decoder
    of: SampleInputs
    clock: Timer
    """Of what is done once for all of them."""
    jobs: int


class _BatchMember:
    """One job under way."""

    def __init__(self, run: Run, plan: Plan, common: _Common, stores: Stores) -> None:
        self.run = run
        self._plan = plan
        self._common = common
        self._caption = SampleLabels.of(common.source.entry)
        self._shelf = JobArtifacts(stores.artifacts)
        scale, tiles_of = common.source.entry.display_scale, shown(plan.samples)
        self._tracks = [
            VariantWriter(variant, self._caption, scale, self._shelf, tiles_of) for variant in plan.variants
        ]
        self._shows: Literal["image", "latents", "spectrogram"] = "image"
        self._clock = Timer()
        self._made = 0

    @property
    def is_whole(self) -> bool:
        """Whether all samples are there."""
        return self._made == len(self._plan.samples)

    def add(self, samples: Sequence[Sample], latents: list[Tensor]) -> None:
        """latents: of these samples, with shape (B, C, H, W), a variant each.

        Raises ValueError where they diverged, and Stopped.
        """
        finite(latents)
        with self._clock.running("decode"):
            baseline = None
            for track, made in zip(self._tracks, latents, strict=True):
                decoded = self._common.decode(made)
                self._shows = decoded.shows
                track.add(samples, made, decoded)
                if track.planned.spec is None:
                    baseline = decoded
                elif baseline is not None:
                    track.drift.add(made, latents[0], decoded, baseline)
                self.run.check()
        self._made += len(samples)

    def product(self, engine: Engine) -> Product[PruneSampleResult]:
        """What came out, once it is whole."""
        common, plan = self._common, self._plan
        variants = [track.variant() for track in self._tracks]
        for variant, track in zip(variants, self._tracks, strict=True):
            if (prune := track.planned.prune) is not None:
                variant.removed, variant.embedding = removal_of(common.system, plan, common.of, prune)
                variant.drift = track.drift.drift() if plan.variants[0] is BASELINE else None
        with self._clock.running("decode"):
            self._shelf.put(GRID, variants_grid(self._tracks, self._caption), "image/png")

        seconds = common.clock.seconds | self._clock.seconds
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
        return Product(result, self._shelf.artifacts)
