"""What the contract says of families and decoders, and the service checks requests by, is what the science has."""

from __future__ import annotations

from typing import get_args

import pytest

from jobs.families import FAMILIES
from jobs.registry import ModelEntry
from tailprune.decoders import DECODERS
from tailprune.sampling import SAMPLERS
from tailprune.systems import SYSTEMS


def test_the_families_are_the_systems() -> None:
    assert FAMILIES.keys() == SYSTEMS.keys()


@pytest.mark.parametrize("name", SYSTEMS)
def test_samplers_and_times_of_a_family_are_those_of_its_system(name: str) -> None:
    family, system = FAMILIES[name], SYSTEMS[name]
    assert set(family.samplers) == set(SAMPLERS[system.prediction])
    assert (family.first_time, family.last_time) == (system.noise_time, system.data_time)


def test_the_decoders_of_the_registry_are_those_there_are() -> None:
    assert set(get_args(ModelEntry.model_fields["decoder"].annotation)) == set(DECODERS)
