"""The variants of a job under way: their samples become files as they come, and a row each of one grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from jobs.registry.models import ModelEntry
from jobs.results import Image, Sound, Variant
from jobs.storage.artifacts import Artifact, ArtifactStore
from tailprune.decoders import Decoded
from workers.outputs.drift import DriftMeasure
from workers.outputs.images import Images, enlarge, grid, png
from workers.sampling.plan import PlannedVariant, Sample
from workers.sounds import wav

__all__ = ["GRID_COLUMNS", "JobArtifacts", "SampleLabels", "VariantWriter", "shown", "variants_grid"]

GRID_COLUMNS = 32
"""Most samples in the grid: each subject's first, then each subject's second, ..."""


class JobArtifacts:
    """The artifacts of one job by name."""

    def __init__(self, store: ArtifactStore) -> None:
        self.artifacts: dict[str, Artifact] = {}
        self._store = store

    def put(self, name: str, content: bytes, media_type: str) -> None:
        """Store a file under this name."""
        self.artifacts[name] = self._store.put(content, media_type)


@dataclass(frozen=True)
class SampleLabels:
    """How a model's samples are called."""

    by_label: bool
    """Whether they are of labels, or of the rows of conditions."""
    names: Sequence[str]
    """The names of the labels in order, where they have names."""

    @classmethod
    def of(cls, entry: ModelEntry) -> SampleLabels:
        """Those of a model."""
        return cls(not entry.facts.features, entry.names)

    def class_name(self, sample: Sample) -> str | None:
        """The name of its label."""
        return self.names[sample.subject] if self.by_label and sample.subject < len(self.names) else None

    def above(self, sample: Sample) -> str:
        """What stands above its column of the grid."""
        return self.class_name(sample) or f"{'class' if self.by_label else 'condition'} {sample.subject}"


class VariantWriter:
    """One variant under way."""

    def __init__(
        self,
        planned: PlannedVariant,
        caption: SampleLabels,
        display_scale: int,
        shelf: JobArtifacts,
        tiles_of: frozenset[Sample],
    ) -> None:
        self.planned = planned
        self.drift = DriftMeasure()
        self.tiles: dict[Sample, Images] = {}
        """The pictures that the grid shows."""
        self._caption = caption
        self._display_scale = display_scale
        self._shelf = shelf
        self._tiles_of = tiles_of
        self._samples: list[Sample] = []
        self._images: list[Image] = []
        self._sounds: list[Sound] = []
        self._latents: list[Tensor] = []

    def add(self, samples: Sequence[Sample], latents: Tensor, decoded: Decoded) -> None:
        """latents, with shape (B, C, H, W), of these samples, and what they decode to."""
        self._latents.append(latents)
        self._samples += samples
        images = enlarge(decoded.images.numpy(), self._display_scale)
        for sample, image in zip(samples, images, strict=True):
            name = f"{self._stem(sample)}.png"
            self._shelf.put(name, png(image), "image/png")
            by_label = self._caption.by_label
            self._images.append(
                Image(
                    label=sample.subject if by_label else None,
                    class_name=self._caption.class_name(sample),
                    condition=None if by_label else sample.subject,
                    sample=sample.number,
                    artifact=name,
                )
            )
            if sample in self._tiles_of:
                self.tiles[sample] = image
        if decoded.sounds is not None and decoded.sample_rate is not None:
            for sample, sound in zip(samples, decoded.sounds, strict=True):
                self._add_sound(sample, sound, decoded.sample_rate)

    def _add_sound(self, sample: Sample, sound: Tensor, sample_rate: int) -> None:
        name = f"{self._stem(sample)}.wav"
        self._shelf.put(name, wav(sound, sample_rate), "audio/wav")
        seconds = len(sound) / sample_rate
        self._sounds.append(Sound(condition=sample.subject, sample=sample.number, seconds=seconds, artifact=name))

    def variant(self) -> Variant:
        """The variant with its files; its latents are stored."""
        name = f"{self.planned.slug}.safetensors"
        tensors = {
            "latents": torch.cat(self._latents),
            "labels" if self._caption.by_label else "conditions": torch.tensor([s.subject for s in self._samples]),
            "samples": torch.tensor([sample.number for sample in self._samples]),
        }
        self._shelf.put(name, save(tensors), "application/octet-stream")
        return Variant(
            name=self.planned.name, prune=self.planned.spec, images=self._images, sounds=self._sounds, latents=name
        )

    def _stem(self, sample: Sample) -> str:
        return f"{self.planned.slug}-{sample.subject}-{sample.number}"


def shown(samples: Sequence[Sample]) -> frozenset[Sample]:
    """The samples that the grid has room for."""
    return frozenset(sorted(samples, key=lambda sample: sample.number)[:GRID_COLUMNS])


def variants_grid(tracks: Sequence[VariantWriter], caption: SampleLabels) -> bytes:
    """A PNG with a row a variant, a column a sample."""
    columns = list(tracks[0].tiles)
    rows = [np.stack([track.tiles[sample] for sample in columns]) for track in tracks]
    return png(grid(rows, [track.planned.name for track in tracks], [caption.above(sample) for sample in columns]))
