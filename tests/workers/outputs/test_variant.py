from __future__ import annotations

import io

import pytest
import torch
from PIL import Image
from safetensors.torch import load

from jobs.storage.artifacts import ArtifactStore
from jobs.store.jobs import JobStore
from tailprune.decoders import Decoded
from workers.outputs.variant import (
    GRID_COLUMNS,
    JobArtifacts,
    SampleLabels,
    VariantWriter,
    samples_in_grid,
    variants_grid,
)
from workers.sampling.plan import PlannedVariant, Sample

SAMPLES = [Sample(subject, number) for subject in (4, 1) for number in (0, 1)]
LATENTS = torch.randn(4, 8, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def artifacts(store: JobStore) -> ArtifactStore:
    return store.artifacts


@pytest.fixture
def files(artifacts: ArtifactStore) -> JobArtifacts:
    return JobArtifacts(artifacts)


def decoded(sounds: bool = False) -> Decoded:
    images = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 6, 6, 3) * 60
    return Decoded(images, "spectrogram", torch.zeros(4, 800), 1600) if sounds else Decoded(images, "image")


def writer(files: JobArtifacts, labels: SampleLabels) -> VariantWriter:
    return VariantWriter(PlannedVariant("tail 0.5"), labels, 2, files, samples_in_grid(SAMPLES))


def test_samples_of_labels_are_pictures_with_the_labels_names(files: JobArtifacts, artifacts: ArtifactStore) -> None:
    made = writer(files, SampleLabels(by_label=True, names=["a", "b"]))
    made.add(SAMPLES, LATENTS, decoded())
    variant = made.variant()
    assert [(image.label, image.class_name, image.condition, image.sample) for image in variant.images] == [
        (4, None, None, 0),
        (4, None, None, 1),
        (1, "b", None, 0),
        (1, "b", None, 1),
    ]
    assert variant.images[2].artifact == "tail-0.5-1-0.png"
    assert variant.sounds == []
    picture = Image.open(io.BytesIO(artifacts.read(files.artifacts["tail-0.5-1-0.png"])))
    assert (picture.size, picture.getpixel((0, 0))) == ((12, 12), (120, 120, 120))


def test_samples_of_conditions_are_told_by_their_rows_and_may_be_sounds(files: JobArtifacts) -> None:
    made = writer(files, SampleLabels(by_label=False, names=[]))
    made.add(SAMPLES, LATENTS, decoded(sounds=True))
    variant = made.variant()
    assert [(image.label, image.condition) for image in variant.images] == [(None, 4), (None, 4), (None, 1), (None, 1)]
    assert [(sound.condition, sound.sample, sound.seconds) for sound in variant.sounds] == [
        (4, 0, 0.5),
        (4, 1, 0.5),
        (1, 0, 0.5),
        (1, 1, 0.5),
    ]
    assert files.artifacts["tail-0.5-4-1.wav"].media_type == "audio/wav"


@pytest.mark.parametrize(("by_label", "key"), [(True, "labels"), (False, "conditions")])
def test_latents_of_all_chunks_are_one_file_with_what_each_is_of(
    files: JobArtifacts, artifacts: ArtifactStore, by_label: bool, key: str
) -> None:
    made = writer(files, SampleLabels(by_label, names=[]))
    for at in (slice(0, 1), slice(1, 4)):
        part = Decoded(decoded().images[at], "image")
        made.add(SAMPLES[at], LATENTS[at], part)
    tensors = load(artifacts.read(files.artifacts[made.variant().latents]))
    assert torch.equal(tensors["latents"], LATENTS)
    assert tensors[key].tolist() == [4, 4, 1, 1]
    assert tensors["samples"].tolist() == [0, 1, 0, 1]


def test_the_grid_has_room_for_the_first_sample_of_each_subject_before_the_second() -> None:
    many = [Sample(subject, number) for subject in range(GRID_COLUMNS - 1) for number in range(3)]
    chosen = samples_in_grid(many)
    assert len(chosen) == GRID_COLUMNS
    assert {sample for sample in many if sample.number == 0} < chosen


def test_the_grid_is_a_picture_with_a_row_a_variant(files: JobArtifacts) -> None:
    labels = SampleLabels(by_label=False, names=[])
    rows = [writer(files, labels), writer(files, labels)]
    for row in rows:
        row.add(SAMPLES, LATENTS, decoded())
    one, two = (Image.open(io.BytesIO(variants_grid(rows[:count], labels))).height for count in (1, 2))
    assert two - one >= 64
    assert (labels.heading(SAMPLES[0]), SampleLabels(True, ["a", "b"]).heading(SAMPLES[2])) == ("condition 4", "b")
