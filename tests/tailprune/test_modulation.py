"""The modulation error, against the modulations themselves."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tailprune
from tailprune import Prune, modulation_error, sampling_times
from tailprune.condition_table import ConditionTable
from tailprune.systems import System

LABELS = {"labels": torch.tensor([0, 3, 3, 1])}
PRUNES = [
    Prune("tail", 0.1),
    Prune("tail", 0.1, of="read", fill="mean"),
    Prune("head", 0.3, "last", 2),
    Prune.keep(9, by="deviation"),
    Prune.remove_fraction(0.5),
]


def directly(system: System, prune: Prune, steps: int) -> float:
    """The same from all shifts, scales and gates that every sample has at every step."""
    table = ConditionTable(system, LABELS, sampling_times(system, None, steps))
    prune = table.resolved(prune)
    changed = whole = 0.0
    bias = system.modulations(torch.full((1, system.condition_dim), -1e4))  # SiLU of it is 0
    for step in range(steps):
        for stage in range(table.stages):
            edit = prune if prune.active(step, steps) else None
            before, after = (
                system.modulations(table.conditions_at(step, stage, each)[table.rows]) for each in (None, edit)
            )
            for one, other, constant in zip(before, after, bias, strict=True):
                changed += (other - one).double().square().sum().item()
                whole += (one - constant).double().square().sum().item()
    return (changed / whole) ** 0.5


@pytest.mark.parametrize("prune", PRUNES)
def test_it_is_the_relative_change_of_all_modulations_of_a_run(dit: System, prune: Prune) -> None:
    assert modulation_error(dit, prune, LABELS, steps=5) == pytest.approx(directly(dit, prune, 5), rel=1e-4)


def test_several_prunes_are_measured_at_once(sit: System) -> None:
    found = modulation_error(sit, PRUNES, LABELS, steps=4)
    assert found == [pytest.approx(modulation_error(sit, prune, LABELS, steps=4)) for prune in PRUNES]
    assert all(error > 0 for error in found)


def test_a_prune_that_changes_nothing_has_no_error(sit: System) -> None:
    assert modulation_error(sit, Prune("tail", 0.0), LABELS, steps=4) == 0


def test_no_sample_is_made(sit: System, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(*_: Any) -> None:
        pytest.fail("the network ran")

    monkeypatch.setattr(type(sit), "forward_modulated", forward)
    assert modulation_error(sit, Prune("tail", 0.1), LABELS) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prune": ["tail"]}, "prune must hold values such as"),
        ({"inputs": {"labels": []}}, "labels are empty"),
        ({"sampler": "ddpm"}, "has no sampler 'ddpm'"),
        ({"prune": Prune("tail", 0.1, "last", 9), "steps": 5}, "a schedule counts 9"),
    ],
)
def test_what_does_not_fit_is_refused(sit: System, arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"prune": Prune("tail", 0.1), "inputs": LABELS} | arguments
    with pytest.raises(ValueError, match=message):
        tailprune.modulation_error(sit, given.pop("prune"), given.pop("inputs"), **given)
