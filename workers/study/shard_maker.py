"""Makes a study's shards: samples a block under the prunes that are missing, measures it, and keeps both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import load, save
from torch import Tensor

from jobs.requests.study import StudyRequest
from jobs.storage.shards import ShardStore
from tailprune.decoders import Decoder
from tailprune.spec.prune import PruneSpec
from tailprune.systems import System
from workers.context import Stores
from workers.evaluators import Evaluators
from workers.model_pool import Models, Source
from workers.sampling.chunks import sample_plan
from workers.sampling.inputs import SampleInputs
from workers.sampling.plan import Plan, PlannedVariant, Sample
from workers.study.coordination import OnShare
from workers.study.measures import SampleMeasures
from workers.study.shards import Addresses, Block

__all__ = ["ShardMaker"]

LATENTS = "latents"
TOGETHER = 16
"""So many prunes share one call's trajectories; those of a further group are made after these are kept."""


@dataclass(frozen=True)
class ShardMaker:
    """All that is needed to make any shard of a study. `prune`: None for the baseline."""

    request: StudyRequest
    system: System
    decode: Decoder
    of: SampleInputs
    meter: SampleMeasures
    addresses: Addresses
    instruments: dict[str, str]
    """What each instrument is made of, as `Evaluators` takes it."""
    shards: ShardStore
    rows_at_once: int

    @classmethod
    def of_job(
        cls, request: StudyRequest, source: Source, models: Models, bench: Evaluators, stores: Stores, rows_at_once: int
    ) -> ShardMaker:
        """That of a resolved request."""
        instruments = source.identity.reading.get("instruments", {})
        return cls(
            request=request,
            system=models.system(source, request.precision),
            decode=models.decoders.get(source),
            of=SampleInputs.of(request.conditions, stores.conditions),
            meter=SampleMeasures.of(request, source.entry, bench, instruments),
            addresses=Addresses(request, source.identity),
            instruments=instruments,
            shards=stores.shards,
            rows_at_once=rows_at_once,
        )

    def missing(self, blocks: Sequence[Block], prunes: Sequence[PruneSpec | None]) -> dict[Block, list[str]]:
        """The blocks that lack a shard under one of these prunes, with the keys of those."""
        keys = {(block, prune): self.addresses.measured(block, prune) for block in blocks for prune in prunes}
        there = self.shards.present(list(keys.values()))
        lacks: dict[Block, list[str]] = {}
        for (block, _), key in keys.items():
            if key not in there:
                lacks.setdefault(block, []).append(key)
        return lacks

    def make(self, block: Block, prunes: Sequence[PruneSpec | None], on_share: OnShare) -> int:
        """The shards of a block that are missing; how many samples were made for them.

        Prunes are sampled some at a time, and kept as they come.
        """
        lacks = set(self.missing([block], prunes).get(block, ()))
        wanted = [prune for prune in prunes if self.addresses.measured(block, prune) in lacks]
        made = 0
        for start in range(0, len(wanted), TOGETHER):
            some = wanted[start : start + TOGETHER]

            def on_part(share: float, start: int = start, count: int = len(some)) -> None:
                on_share((start + share * count) / len(wanted))

            made += self._make_some(block, some, on_part)
        return made

    def _make_some(self, block: Block, wanted: Sequence[PruneSpec | None], on_share: OnShare) -> int:
        latents, made = self._latents(block, list(dict.fromkeys([None, *wanted])), on_share)
        baseline = latents[None]
        compared = self.meter.targets is None and self.meter.is_paired
        baseline_images = self._images(baseline) if None in wanted or compared else None
        for prune in wanted:
            images = baseline_images if prune is None else self._images(latents[prune])
            beside = None if prune is None else baseline_images
            found = self.meter.measure(block.subjects, latents[prune], baseline, images, beside)
            contiguous = {name: tensor.contiguous() for name, tensor in found.items()}
            self.shards.put(self.addresses.measured(block, prune), save(contiguous))
            on_share(1.0)
        return made

    def measured(self, block: Block, prune: PruneSpec | None) -> dict[str, Tensor] | None:
        """What was measured of a shard; None where it is gone."""
        kept = self.shards.get(self.addresses.measured(block, prune))
        return None if kept is None else load(kept)

    def plan(self, prunes: Sequence[PruneSpec | None], samples: list[Sample]) -> Plan:
        """These samples under these prunes, as they are sampled."""
        variants = list(map(PlannedVariant.of, prunes))
        return Plan(self.request, variants, samples, chunk_size=max(1, self.rows_at_once // max(1, len(variants))))

    def _latents(
        self, block: Block, prunes: Sequence[PruneSpec | None], on_share: OnShare
    ) -> tuple[dict[PruneSpec | None, Tensor], int]:
        """The latents of a block by prune, those that are kept and the others; and how many had to be made."""
        latents: dict[PruneSpec | None, Tensor] = {}
        for prune in prunes:
            if (kept := self.shards.get(self.addresses.latents(block, prune))) is not None:
                latents[prune] = load(kept)[LATENTS]
        absent = [prune for prune in prunes if prune not in latents]
        if not absent:
            return latents, 0
        plan = self.plan(absent, block.samples)
        parts: list[list[Tensor]] = []
        for place, chunk in enumerate(plan.chunks):

            def on_step(done: int, total: int, place: int = place) -> None:
                on_share((place + done / total) / len(plan.chunks))

            parts.append(sample_plan(self.system, plan, chunk, self.of, on_step))
        for prune, tensors in zip(absent, zip(*parts, strict=True), strict=True):
            latents[prune] = torch.cat(tensors)
            self.shards.put(self.addresses.latents(block, prune), save({LATENTS: latents[prune]}))
        return latents, len(block.samples) * len(absent)

    def _images(self, latents: Tensor) -> Tensor | None:
        """What they decode to, uint8 with shape (B, 3, H, W); None where nothing is measured of images."""
        if not self.meter.sees_images:
            return None
        made = [self.decode(some).images for some in latents.split(self.rows_at_once)]
        return torch.cat(made).permute(0, 3, 1, 2).contiguous()
