"""docs/systems.md says of the published files what their lists of tensors say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tailprune.spec.families import FAMILIES

ROOT = Path(__file__).parents[3]
OFFICIAL = json.loads((ROOT / "tests" / "reference" / "official_checkpoints.json").read_text())
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "systems.md").read_text().splitlines()
    if line.startswith("|") and not line.startswith("|---")
]
HEAD, *TABLE = ROWS


@pytest.mark.parametrize("name", OFFICIAL)
def test_parameters_and_the_share_of_adaln_are_those_of_the_file(name: str) -> None:
    (row,) = (dict(zip(HEAD, row, strict=True)) for row in TABLE if row[2] == name)
    said = OFFICIAL[name]
    assert row["parameters"] == f"{said['parameters']:,}"
    assert row["AdaLN's share"] == f"{100 * said['adaln_parameters'] / said['parameters']:.1f} %"


def test_sampler_and_guidance_are_those_a_request_gets() -> None:
    rows = [row for row in TABLE if row[0]]
    assert len(rows) == len(FAMILIES)
    for row, (name, family) in zip(rows, FAMILIES.items(), strict=True):
        assert row[0].lower() == name
        said, published = dict(zip(HEAD, row, strict=True)), family.published
        assert said["sampler, as its authors evaluate"].startswith(
            f"{published['sampler']}, {published['steps']} steps"
        )
        assert said["time: noise, data"] == f"{family.noise_time:g}, {family.data_time:g}"
        if published["guidance_scale"] > 1:
            assert said["guidance"].startswith(f"{published['guidance_scale']}")
        if power := published.get("guidance_power"):
            assert f"power-cosine {power:g}" in said["guidance"]


@pytest.mark.parametrize(
    ("name", "time", "message"),
    [
        (
            "dit",
            0.5,
            "time 0.5 is not a whole number; times of this model are diffusion steps, whole numbers from 999 (noise) "
            "to 0 (data); the closest is 0",
        ),
        ("dit", 1000, "time 1000 is outside 0 to 999; times of this model are diffusion steps"),
        ("dit", 998.6, "the closest is 999"),
        (
            "sit",
            1.5,
            "time 1.5 is outside 0 to 1; times of this model are positions on the path, any numbers from 0 (noise) to "
            "1 (data); the closest is 1",
        ),
        ("repa", -0.5, "any numbers from 1 (noise) to 0 (data); the closest is 0"),
        ("mdsgen", 1000, "diffusion steps, any numbers from 999 (noise) to 0 (data); the closest is 999"),
    ],
)
def test_a_time_that_there_is_not_is_refused_with_the_range_its_unit_and_the_closest(
    name: str, time: float, message: str
) -> None:
    assert message in (FAMILIES[name].check_time(time) or "")


def test_every_time_of_a_family_is_one() -> None:
    for family in FAMILIES.values():
        for time in (family.noise_time, family.data_time):
            assert family.check_time(time) is None
    assert FAMILIES["mdsgen"].check_time(0.5) is None
