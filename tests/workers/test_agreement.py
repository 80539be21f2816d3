"""What the contract says of families and decoders, and the service checks requests by, is what the science has."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from jobs.registry.decoding import DecoderName
from tailprune import load_condition
from tailprune.decoders import DECODERS
from tailprune.spec.families import FAMILIES
from tailprune.systems import SYSTEMS
from tailprune.systems.features import FeatureCondition
from tests.tailprune.parity import Case, read

REFERENCE = Path(__file__).parents[1] / "reference"


def test_the_families_are_the_systems() -> None:
    assert FAMILIES.keys() == SYSTEMS.keys()


def test_the_decoders_of_the_registry_are_those_there_are() -> None:
    assert set(get_args(DecoderName)) == set(DECODERS)


FEATURE_SYSTEMS = {"x-mdpt": "x-mdpt-a.pt.xz", "mdsgen": "mdsgen-a.pt.xz"}


@pytest.mark.parametrize("name", FEATURE_SYSTEMS)
def test_features_and_latents_of_a_family_are_those_of_its_system(name: str, tmp_path: Path) -> None:
    system = Case(read(REFERENCE / FEATURE_SYSTEMS[name]), tmp_path).system
    assert isinstance(system, FeatureCondition)
    assert FAMILIES[name].features == system.features
    assert FAMILIES[name].latents == system.latent_shape


@pytest.mark.parametrize("path", sorted(REFERENCE.glob("*.pt.xz")), ids=lambda path: path.name.split(".")[0])
def test_the_condition_tensors_of_a_family_are_those_that_its_condition_reads(path: Path, tmp_path: Path) -> None:
    content = read(path)
    condition = load_condition(Case(content, tmp_path).path, family=content["family"])
    begins = FAMILIES[content["family"]].condition_tensors
    assert {name for name in content["state_dict"] if name.startswith(begins)} == set(condition.state_dict())
