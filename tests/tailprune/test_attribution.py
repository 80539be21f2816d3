"""The variance of class vectors, divided among attributes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tailprune
from tailprune.attribution import attribute_variance
from tailprune.directions import class_vectors, metric_of
from tailprune.modulation import ModulationMetric
from tailprune.shapes.dataset import CLASS_NAMES
from tailprune.spec import InputError
from tailprune.spec.attributes import attributes_of_names, check_attributes
from tailprune.systems import System

NAMES = [f"{colour} {shape}" for shape in ("circle", "star") for colour in "abcde"]
ATTRIBUTES = attributes_of_names(NAMES, ["colour", "shape"])


@pytest.fixture
def metric(dit: System) -> ModulationMetric:
    return metric_of(dit)


def test_the_parts_add_up_to_the_variance_of_every_component(dit: System, metric: ModulationMetric) -> None:
    vectors = class_vectors(dit)
    found = attribute_variance(vectors, ATTRIBUTES, metric)
    assert found.parts == ("colour", "shape", "interaction")
    torch.testing.assert_close(found.components.sum(1), vectors.double().var(0, unbiased=False))
    assert found.plain.sum().item() == pytest.approx(1)
    assert found.weighted.sum().item() == pytest.approx(1)


def test_the_directions_hold_the_weighted_shares(dit: System, metric: ModulationMetric) -> None:
    found = attribute_variance(class_vectors(dit), ATTRIBUTES, metric)
    shares = found.directions.sum(0) / found.directions.sum()
    torch.testing.assert_close(shares, found.weighted, atol=1e-4, rtol=1e-3)
    assert (found.directions.sum(1).diff() <= 0).all(), "the first direction varies most"


def test_sums_of_colour_and_shape_have_no_interaction(metric: ModulationMetric) -> None:
    torch.manual_seed(0)
    colours, shapes = torch.randn(5, 32), 3 * torch.randn(2, 32)
    vectors = torch.stack([colours[n % 5] + shapes[n // 5] for n in range(10)])
    found = attribute_variance(vectors, ATTRIBUTES, metric)
    assert found.plain[2].item() == pytest.approx(0, abs=1e-9)
    by_shape = shapes.double().var(0, unbiased=False).sum() / vectors.double().var(0, unbiased=False).sum()
    assert found.plain[1].item() == pytest.approx(by_shape.item(), rel=1e-5)


def test_of_one_attribute_the_rest_is_within_its_values(dit: System, metric: ModulationMetric) -> None:
    uneven = {"kind": ["a"] * 3 + ["b"] * 7}
    found = attribute_variance(class_vectors(dit), uneven, metric)
    assert found.parts == ("kind", "within")
    assert found.plain.sum().item() == pytest.approx(1)


def test_the_shipped_model_has_little_interaction() -> None:
    system = tailprune.load("models/shapes-sit")
    attributes = attributes_of_names(CLASS_NAMES, ["colour", "shape"])
    found = attribute_variance(class_vectors(system), attributes, metric_of(system))
    assert found.weighted[2] < 0.2 < found.weighted[:2].min()


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({}, "at least one"),
        ({"a": ["x"] * 10}, "one value for all classes"),
        ({"a": list("xy")}, "2 values, and there are 10 classes"),
        ({"a": list("xxxxxyyyyy"), "b": list("xxxxyxyyyy")}, "do not cross"),
        ({"interaction": list("xxxxxyyyyy")}, "call the attribute otherwise"),
    ],
)
def test_attributes_that_cannot_be_told_apart_are_refused(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_attributes(attributes, 10)


@pytest.mark.parametrize(
    ("names", "called", "message"),
    [
        ([], None, "no names"),
        (["red circle", "ring"], None, "'red circle' has 2 and 'ring' 1"),
        (["red circle", "blue ring"], ["colour"], "have 2 words"),
    ],
)
def test_names_of_different_lengths_are_no_attributes(names: list[str], called: list[str] | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        attributes_of_names(names, called)


def test_words_without_names_are_numbered() -> None:
    assert attributes_of_names(["red circle", "blue ring"]) == {"word 1": ["red", "blue"], "word 2": ["circle", "ring"]}
