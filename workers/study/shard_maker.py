"""Makes a study's shards: samples a block under the prunes that are missing, measures it, and stores both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from safetensors.torch import load, save
from torch import Tensor

from jobs.requests.study import StudyRequest
from jobs.storage.shards import ShardStore
from tailprune.decoders import Decoder
from tailprune.spec.prune import PruneSpec
from tailprune.systems import System
from workers.handler import Context
from workers.model_pool import Source
from workers.sampling.chunks import sample_plan
from workers.sampling.inputs import SampleInputs
from workers.sampling.plan import Plan, PlannedVariant, Sample
from workers.study.coordination import OnFraction
from workers.study.measures import SampleMeasures
from workers.study.shards import Addresses, SampleBlock

__all__ = ["ShardMaker"]

LATENTS = "latents"
PRUNES_AT_ONCE = 16
"""How many prunes share the trajectories of one call; their shards are stored before the next are sampled."""


@dataclass(frozen=True)
class ShardMaker:
    """Makes any shard of a study. `prune` is None for the baseline."""

    request: StudyRequest
    system: System
    decode: Decoder
    inputs: SampleInputs
    measures: SampleMeasures
    addresses: Addresses
    evaluation: dict[str, str]
    """The digest of each network and set of images that samples are measured with, as `Evaluators` takes them."""
    shards: ShardStore
    rows_at_once: int
    variants: dict[PruneSpec | None, PlannedVariant] = field(default_factory=dict)
    """The variants that plans had so far, with the thresholds of prunes that remove a share."""

    @classmethod
    def of(cls, request: StudyRequest, source: Source, context: Context) -> ShardMaker:
        """Load what a resolved request needs: the model, its inputs and its measures."""
        evaluation = source.identity.reading.get("instruments", {})
        system = context.models.system(source, request.precision)
        return cls(
            request=request,
            system=system,
            decode=context.models.decoders.get(source),
            inputs=SampleInputs.load(request.conditions, context.conditions),
            measures=SampleMeasures.of(request, source.entry, context.evaluators, evaluation),
            addresses=Addresses(request, source.identity, str(system.precision).removeprefix("torch.")),
            evaluation=evaluation,
            shards=context.shards,
            rows_at_once=context.settings.batch_size,
        )

    def missing(
        self, blocks: Sequence[SampleBlock], prunes: Sequence[PruneSpec | None]
    ) -> dict[SampleBlock, list[str]]:
        """The blocks with a shard missing under one of these prunes, and the keys of their missing shards."""
        keys = {(block, prune): self.addresses.measured(block, prune) for block in blocks for prune in prunes}
        stored = self.shards.present(list(keys.values()))
        missing: dict[SampleBlock, list[str]] = {}
        for (block, _), key in keys.items():
            if key not in stored:
                missing.setdefault(block, []).append(key)
        return missing

    def make(self, block: SampleBlock, prunes: Sequence[PruneSpec | None], on_fraction: OnFraction) -> int:
        """Make the shards of a block that are missing; return how many samples were made.

        block, prunes: the shards, one a prune.
        on_fraction: called with the fraction that is done; may raise to stop.
        """
        missing_keys = set(self.missing([block], prunes).get(block, ()))
        missing = [prune for prune in prunes if self.addresses.measured(block, prune) in missing_keys]
        samples = 0
        for start in range(0, len(missing), PRUNES_AT_ONCE):
            group = missing[start : start + PRUNES_AT_ONCE]

            def on_group(fraction: float, start: int = start, count: int = len(group)) -> None:
                on_fraction((start + fraction * count) / len(missing))

            samples += self._make_group(block, group, on_group)
        return samples

    def _make_group(self, block: SampleBlock, prunes: Sequence[PruneSpec | None], on_fraction: OnFraction) -> int:
        latents, samples = self._latents(block, list(dict.fromkeys([None, *prunes])), on_fraction)
        baseline = latents[None]
        compared = self.measures.targets is None and self.measures.is_paired
        baseline_images = self._images(baseline) if None in prunes or compared else None
        for prune in prunes:
            images = baseline_images if prune is None else self._images(latents[prune])
            compared_with = None if prune is None else baseline_images
            measured = self.measures.measure(block.subjects, latents[prune], baseline, images, compared_with)
            contiguous = {name: tensor.contiguous() for name, tensor in measured.items()}
            self.shards.put(self.addresses.measured(block, prune), save(contiguous))
            on_fraction(1.0)
        return samples

    def measured(self, block: SampleBlock, prune: PruneSpec | None) -> dict[str, Tensor] | None:
        """What was measured of a shard, as `SampleMeasures.measure` returns it; None where it is missing."""
        stored = self.shards.get(self.addresses.measured(block, prune))
        return None if stored is None else load(stored)

    def plan(self, prunes: Sequence[PruneSpec | None], samples: list[Sample]) -> Plan:
        """The plan of these samples under these prunes."""
        new = [prune for prune in prunes if prune not in self.variants]
        if new:
            plan = Plan(self.request, list(map(PlannedVariant.of, new)), [], chunk_size=1)
            found = plan.over_run(self.system, self.inputs, type(self.system)).variants
            self.variants.update(zip(new, found, strict=True))
        variants = [self.variants[prune] for prune in prunes]
        return Plan(self.request, variants, samples, chunk_size=max(1, self.rows_at_once // max(1, len(variants))))

    def _latents(
        self, block: SampleBlock, prunes: Sequence[PruneSpec | None], on_fraction: OnFraction
    ) -> tuple[dict[PruneSpec | None, Tensor], int]:
        """Load or sample the latents of a block, by prune; return also how many samples were made."""
        latents: dict[PruneSpec | None, Tensor] = {}
        for prune in prunes:
            if (stored := self.shards.get(self.addresses.latents(block, prune))) is not None:
                latents[prune] = load(stored)[LATENTS]
        missing = [prune for prune in prunes if prune not in latents]
        if not missing:
            return latents, 0
        plan = self.plan(missing, block.samples)
        chunks: list[list[Tensor]] = []
        for place, chunk in enumerate(plan.chunks):

            def on_step(done: int, total: int, place: int = place) -> None:
                on_fraction((place + done / total) / len(plan.chunks))

            chunks.append(sample_plan(self.system, plan, chunk, self.inputs, on_step))
        for prune, tensors in zip(missing, zip(*chunks, strict=True), strict=True):
            latents[prune] = torch.cat(tensors)
            self.shards.put(self.addresses.latents(block, prune), save({LATENTS: latents[prune]}))
        return latents, len(block.samples) * len(missing)

    def _images(self, latents: Tensor) -> Tensor | None:
        """Decode latents to images, uint8 with shape (B, 3, H, W); None where no measure needs images."""
        if not self.measures.sees_images:
            return None
        parts = [self.decode(part).images for part in latents.split(self.rows_at_once)]
        return torch.cat(parts).permute(0, 3, 1, 2).contiguous()
