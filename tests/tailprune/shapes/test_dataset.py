"""The data set shapes, and the classifier that knows its drawings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tailprune.shapes.classifier import accuracy, load_classifier
from tailprune.shapes.dataset import CLASS_NAMES, NUM_CLASSES, draw

MODELS = Path(__file__).parents[3] / "models"
CLASSIFIER = MODELS / "shapes-classifier" / "model.safetensors"


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("size", [16, 32, 40])
def test_images_of_any_size_are_a_function_of_labels_and_seed(size: int) -> None:
    labels = torch.arange(NUM_CLASSES)
    images = draw(labels, seeded(3), size)
    assert images.shape == (NUM_CLASSES, 3, size, size)
    assert -1 <= images.min() < -0.5 < 0.5 < images.max() <= 1
    assert torch.equal(images, draw(labels, seeded(3), size))
    assert not torch.equal(images, draw(labels, seeded(4), size))


def test_two_images_of_a_class_differ() -> None:
    first, second = draw(torch.tensor([55, 55]), seeded(0))
    assert (first - second).abs().mean() > 0.02


@pytest.mark.parametrize("label", [-1, 100])
def test_a_label_of_no_shape_is_refused(label: int) -> None:
    with pytest.raises(ValueError, match="0 to 99"):
        draw(torch.tensor([label]), seeded(0))


def test_class_names_of_the_registry_are_those_of_the_data_set() -> None:
    assert tuple((MODELS / "shapes-sit" / "classes.txt").read_text().splitlines()) == CLASS_NAMES


def test_the_classifier_knows_drawings_it_has_not_seen() -> None:
    labels = torch.arange(NUM_CLASSES).repeat(5)
    assert accuracy(load_classifier(CLASSIFIER), draw(labels, seeded(12345)), labels) >= 0.99
