"""The variants of a running job: samples are stored as files as they are decoded, and shown in one grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from jobs.registry.models import ModelEntry
from jobs.results import Image, Sound, Variant
from jobs.storage.artifacts import Artifact, ArtifactStore
from tailprune.decoders import Decoded
from tailprune.image_grid import Images, grid
from tailprune.spec.edit import EditSpec
from workers.outputs.drift import DriftMeasure
from workers.outputs.media import enlarge, png, wav
from workers.sampling.plan import PlannedVariant, Sample

__all__ = ["GRID_COLUMNS", "JobArtifacts", "SampleLabels", "VariantWriter", "samples_in_grid", "variants_grid"]

GRID_COLUMNS = 32
"""The most samples in the grid: the first of each subject, then the second of each, ..."""


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
    """The names of a model's samples for people."""

    by_label: bool
    """Whether the subjects are labels, and not rows of conditions."""
    names: Sequence[str]
    """The names of the labels in order; may be fewer than the labels."""

    @classmethod
    def of(cls, entry: ModelEntry) -> SampleLabels:
        """The names that a model's entry gives."""
        return cls(not entry.facts.features, entry.names)

    def class_name(self, sample: Sample) -> str | None:
        """The name of a sample's label; None where it has none."""
        return self.names[sample.subject] if self.by_label and sample.subject < len(self.names) else None

    def heading(self, sample: Sample) -> str:
        """The heading of a sample's column in the grid."""
        return self.class_name(sample) or f"{'class' if self.by_label else 'condition'} {sample.subject}"


class VariantWriter:
    """Stores the samples of one variant as files."""

    def __init__(
        self,
        planned: PlannedVariant,
        labels: SampleLabels,
        display_scale: int,
        files: JobArtifacts,
        in_grid: frozenset[Sample],
    ) -> None:
        self.planned = planned
        self.drift = DriftMeasure()
        self.tiles: dict[Sample, Images] = {}
        """The images of the samples that the grid shows."""
        self._labels = labels
        self._display_scale = display_scale
        self._files = files
        self._in_grid = in_grid
        self._samples: list[Sample] = []
        self._images: list[Image] = []
        self._sounds: list[Sound] = []
        self._latents: list[Tensor] = []

    def add(self, samples: Sequence[Sample], latents: Tensor, decoded: Decoded) -> None:
        """Store samples. latents: with shape (B, C, H, W); decoded: what they decode to."""
        self._latents.append(latents)
        self._samples += samples
        images = enlarge(decoded.images.numpy(), self._display_scale)
        for sample, image in zip(samples, images, strict=True):
            name = f"{self._stem(sample)}.png"
            self._files.put(name, png(image), "image/png")
            by_label = self._labels.by_label
            self._images.append(
                Image(
                    label=sample.subject if by_label else None,
                    class_name=self._labels.class_name(sample),
                    condition=None if by_label else sample.subject,
                    sample=sample.number,
                    artifact=name,
                )
            )
            if sample in self._in_grid:
                self.tiles[sample] = image
        if decoded.sounds is not None and decoded.sample_rate is not None:
            for sample, sound in zip(samples, decoded.sounds, strict=True):
                self._add_sound(sample, sound, decoded.sample_rate)

    def _add_sound(self, sample: Sample, sound: Tensor, sample_rate: int) -> None:
        name = f"{self._stem(sample)}.wav"
        self._files.put(name, wav(sound, sample_rate), "audio/wav")
        seconds = len(sound) / sample_rate
        self._sounds.append(Sound(condition=sample.subject, sample=sample.number, seconds=seconds, artifact=name))

    def variant(self) -> Variant:
        """Store the latents; return the variant of a prune, or of the baseline, with the names of its files."""
        spec = self.planned.spec
        assert not isinstance(spec, EditSpec), "an edit has a variant of its own"
        return Variant(name=self.planned.name, prune=spec, **self.stored())

    def stored(self) -> dict[str, Any]:
        """Store the latents; return the fields of a variant that have its files."""
        name = f"{self.planned.slug}.safetensors"
        tensors = {
            "latents": torch.cat(self._latents),
            "labels" if self._labels.by_label else "conditions": torch.tensor([s.subject for s in self._samples]),
            "samples": torch.tensor([sample.number for sample in self._samples]),
        }
        self._files.put(name, save(tensors), "application/octet-stream")
        return {"images": self._images, "sounds": self._sounds, "latents": name}

    def _stem(self, sample: Sample) -> str:
        return f"{self.planned.slug}-{sample.subject}-{sample.number}"


def samples_in_grid(samples: Sequence[Sample]) -> frozenset[Sample]:
    """The samples that the grid shows, at most `GRID_COLUMNS`."""
    return frozenset(sorted(samples, key=lambda sample: sample.number)[:GRID_COLUMNS])


def variants_grid(writers: Sequence[VariantWriter], labels: SampleLabels) -> bytes:
    """The grid as PNG: a row for each variant, a column for each sample."""
    columns = list(writers[0].tiles)
    rows = [np.stack([writer.tiles[sample] for sample in columns]) for writer in writers]
    return png(grid(rows, [writer.planned.name for writer in writers], [labels.heading(sample) for sample in columns]))
